"""Writing files such that whoever reads them finds the old one or the new one, and never a half."""

import json
import os
from pathlib import Path


def sync_folder(folder):
    """See the names in a folder on disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path, content):
    """Write `content` as JSON to `path`, by `write_text`."""
    write_text(path, json.dumps(content, indent=1))


def write_text(path, text):
    """Write `text` as UTF-8 to `path`, by `write_bytes`."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path, content):
    """Write `content` under a temporary name, sync it, then rename it to `path`; a failure leaves the old file."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
