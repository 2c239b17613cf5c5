"""What the first bytes of a file tell: whether it is an image, how large it is, why it cannot be used."""

import io
import os
import stat
import statistics
import warnings

from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 100_000_000  # beyond, a small file may take gigabytes of memory
_EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif"}
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_DECODED = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP")


def looks_like_image(path):
    """Whether a file claims to be an image, by its extension or by its first bytes."""
    if os.path.splitext(path)[1].casefold() in _EXTENSIONS:
        return True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end
            return False
        with open(path, "rb") as file:
            return file.read(4).startswith(_BEGINNINGS)
    except OSError:
        return False


def why_not(content):
    """The reason, from its header alone, why a file cannot be used; None where nothing speaks against it."""
    if not content:
        return "empty file (0 bytes)"
    try:
        kind, width, height = _read_header(content)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return "not an image, or too damaged to tell (JPEG, PNG, GIF, BMP and WebP are decoded)"
    except Image.DecompressionBombError:
        return f"decompression bomb: its header claims more than {MOST_PIXELS:,} pixels"
    if kind not in _DECODED:
        return f"{kind} images are not decoded; convert it to JPEG or PNG"
    if width * height > MOST_PIXELS:
        return f"decompression bomb: its header claims {width}×{height} pixels, more than {MOST_PIXELS:,}"
    if not width * height:
        return f"its header claims {width}×{height} pixels"
    return None


def pixels_in(content):
    """Pixels that the header of an image claims; 0 where there is no header to read."""
    try:
        _, width, height = _read_header(content)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0
    return width * height


def typical_size(paths, sample=64):
    """Median `(height, width)` by the headers of `sample` of the files, spread evenly; None where none can be read."""
    sizes = []
    for path in paths[:: max(1, len(paths) // sample)]:
        try:
            with open(path, "rb") as file:
                _, width, height = _read_header(file.read(1 << 16))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        sizes.append((height, width))
    return tuple(int(statistics.median(side)) for side in zip(*sizes, strict=True)) if sizes else None


def _read_header(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content)) as image:
            return image.format, *image.size
