"""What the first bytes of a file tell: whether it is an image, how large it is, why it cannot be used."""

import io
import os
import stat
import statistics
import struct
import warnings

from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 100_000_000  # beyond, a small file may take gigabytes of memory
_MOST_OF_FRAMES = 4 * MOST_PIXELS  # of a GIF: the decoder unpacks all frames, a byte a pixel, and takes the first
_EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif"}
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_DECODED = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP")
_KNOWN = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF")  # whose headers are read; MPO is read as JPEG


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
    return examine(content)[0]


def examine(content):
    """`(reason, pixels)`: why a file cannot be used, None where nothing speaks against it; the pixels it claims."""
    if not content:
        return "empty file (0 bytes)", 0
    try:
        kind, width, height = _read_header(content)
    except Image.DecompressionBombError:
        return f"decompression bomb: its header claims more than {MOST_PIXELS:,} pixels", 0
    except Exception:  # Pillow's readers fail in many ways
        return "not an image, or too damaged to tell (JPEG, PNG, GIF, BMP and WebP are decoded)", 0
    if kind not in _DECODED:
        return f"{kind} images are not decoded; convert it to JPEG or PNG", 0
    if width * height > MOST_PIXELS:
        return f"decompression bomb: its header claims {width}×{height} pixels, more than {MOST_PIXELS:,}", 0
    if not width * height:
        return f"its header claims {width}×{height} pixels", 0
    pixels = _pixels_of_frames(content) if kind == "GIF" else width * height
    if pixels > _MOST_OF_FRAMES:
        return f"decompression bomb: its frames claim more than {_MOST_OF_FRAMES:,} pixels together", 0
    return None, pixels


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
        with Image.open(io.BytesIO(content), formats=_KNOWN) as image:
            return image.format, *image.size


def _pixels_of_frames(content):
    """Pixels of all frames of a GIF, from its chain of blocks; nothing is unpacked."""

    def table(flags):
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    def after_parts(place):
        while place < len(content) and content[place]:
            place += 1 + content[place]
        return place + 1

    place, pixels = 13 + table(content[10]), 0
    while place + 9 < len(content) and content[place] in (0x21, 0x2C):
        if content[place] == 0x21:  # an extension
            place = after_parts(place + 2)
            continue
        width, height = struct.unpack_from("<HH", content, place + 5)
        pixels += width * height
        place = after_parts(place + 10 + table(content[place + 9]) + 1)
    return pixels
