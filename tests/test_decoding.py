"""The decoder shows what a person sees: compared with Pillow, an independent decoder."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from recipes.data.decoding import fit_image, make_decoder
from recipes.data.orientation import exif_orientation

SIZE = (20, 30)  # height, width


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(content):
    """What Pillow shows: turned upright, transparent parts over white, RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def decode():
    upright = make_decoder(SIZE, 3, "stretch")
    return lambda content: upright([content])[0].numpy().astype(int)


@pytest.fixture(scope="module")
def picture():
    """A smooth picture with no symmetry, so that every turn shows, and JPEG keeps it."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    colours = np.stack([rows * 12, columns * 8, (rows * 3 + columns * 5)], -1)
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "kind", "options", "tolerance"),
    [
        ("RGB", "JPEG", {"quality": 95}, 0),
        ("RGB", "JPEG", {"quality": 95, "subsampling": 0}, 0),
        ("RGB", "JPEG", {"progressive": True}, 0),
        ("L", "JPEG", {}, 0),
        ("CMYK", "JPEG", {"quality": 95}, 1),  # the conversion to RGB is rounded in another place
        ("RGB", "PNG", {}, 0),
        ("L", "PNG", {}, 0),
        ("1", "PNG", {}, 0),
        ("P", "PNG", {}, 0),
        ("LA", "PNG", {}, 1),  # composition over white is rounded by Pillow in two steps
        ("RGBA", "PNG", {}, 1),
        ("P", "GIF", {}, 0),
        ("RGB", "BMP", {}, 0),
        ("RGB", "WEBP", {"lossless": True}, 0),
        ("RGBA", "WEBP", {"lossless": True}, 1),
    ],
)
def test_every_kind_of_image_is_seen_as_pillow_sees_it(decode, picture, mode, kind, options, tolerance):
    image = picture.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = encode(image, kind, **options)
    assert np.abs(decode(content) - seen(content)).max() <= tolerance


def grey_png(depth, transparent):
    """A grey PNG with few bits a pixel, written by hand, with one transparent value or none."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 2**depth
    bits = [[(value >> shift) & 1 for value in row for shift in range(depth - 1, -1, -1)] for row in values.tolist()]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE[1], SIZE[0], depth, 0, 0, 0, 0))]
    parts += [chunk(b"tRNS", struct.pack(">H", 0))] if transparent else []
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    greys = values * (255 // (2**depth - 1))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts), np.where((values == 0) & transparent, 255, greys)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_few_bits_a_pixel(decode, depth, transparent):
    content, greys = grey_png(depth, transparent)
    assert np.array_equal(decode(content)[..., 1], greys)


@pytest.mark.parametrize("colours", [2, 4, 16, 256])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_of_every_size(decode, picture, colours, transparent):
    options = {"transparency": 0} if transparent else {}
    content = encode(picture.quantize(colours), "PNG", **options)
    assert np.array_equal(decode(content), seen(content))


def test_sixteen_bits_keep_the_upper_eight(decode):
    deep = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE)
    content = encode(Image.fromarray(deep), "PNG")
    assert np.array_equal(decode(content)[..., 0], deep >> 8)


def test_first_frame_of_an_animation(decode, picture):
    content = encode(picture, "GIF", save_all=True, append_images=[Image.new("RGB", picture.size)] * 2)
    assert np.array_equal(decode(content), seen(content))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(picture, kind, endian, orientation):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F], exif[0x0112] = "a maker's name, so that the entry is not the first", orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encode(picture, kind, exif=exif.tobytes(), **options)
    expected = seen(content)
    decoded = make_decoder(expected.shape[:2], 3, "stretch")([content])[0].numpy().astype(int)
    assert int(exif_orientation(tf.constant(content))) == orientation
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b"II*\0", b"II*\xff"),
        lambda content: content[: content.index(b"Exif") + 12] + b"\xff" * 40 + content[content.index(b"Exif") + 52 :],
        lambda content: content[:30],
        lambda content: b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0MM\0*\xff\xff\xff\xff",
        lambda content: b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf" + b"MM\0*\x7f\xff\xff\xff" + bytes(20),
        lambda content: b"RIFF\xff\xff\xff\xffWEBPEXIF\xff\xff\xff\xff",
        lambda content: b"",
        lambda content: b"\xff\xd8",
    ],
)
def test_nonsense_exif_is_upright_and_ends(picture, damage):
    exif = Image.Exif()
    exif[0x0112] = 1
    content = encode(picture, "JPEG", exif=exif.tobytes())
    assert int(exif_orientation(tf.constant(damage(content)))) == 1


def test_one_channel_is_the_luma_of_three(decode, picture):
    content = encode(picture, "PNG")
    grey = make_decoder(SIZE, 1, "stretch")([content])[0, ..., 0].numpy()
    assert np.array_equal(grey, np.rint(decode(content) @ [0.2989, 0.587, 0.114]).astype(int))


def test_crop_keeps_the_centre_and_the_aspect_ratio():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    assert np.array_equal(fit_image(tf.constant(image), (5, 5), "crop"), np.full((5, 5, 3), 255))
    assert fit_image(tf.constant(image), (5, 5), "stretch")[:, 0].numpy().max() == 0
    padded = fit_image(tf.constant(image), (30, 30), "pad").numpy()
    assert padded[:10].max() == padded[20:].max() == 0
    assert np.array_equal(padded[10:20], image)


def test_an_image_at_its_size_stays_as_it_is(random):
    image = random.integers(0, 256, (7, 9, 3), np.uint8)
    for resize in ("crop", "stretch", "pad"):
        assert np.array_equal(fit_image(tf.constant(image), (7, 9), resize), image)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    shrunk = fit_image(tf.constant(stripes), (8, 8)).numpy()[1:-1, 1:-1]
    assert np.abs(shrunk.astype(int) - 127).max() <= 3  # without antialiasing it is 0 or 255
