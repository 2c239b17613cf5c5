"""The one decoder: encoded bytes to a uint8 image, in TensorFlow operations, so that served graphs contain it too."""

import functools

import tensorflow as tf

from recipes.data.orientation import exif_orientation

RESIZES = ("crop", "stretch", "pad")
VERSION = 1  # of the pixels: count on when the same file gives others


def decode_image(encoded, image_size, channels=3, resize="crop"):
    """Decode one image to what a person sees, and bring it to size.

    1. Decode JPEG, PNG, GIF (first frame), BMP or WebP to RGB; lay transparent pixels over white.
    2. Turn it as its EXIF orientation says.
    3. Bring it to `image_size`, bilinear with antialiasing.
    4. Make it grey (ITU-R BT.601 luma) when one channel is asked for.

    Args:
        encoded: scalar string tensor, the bytes of the file.
        image_size: `(height, width)` in pixels.
        channels: 1 or 3.
        resize: see `fit_image`.

    Returns:
        uint8 tensor `(height, width, channels)`, 0–255.
    """
    image = _turn(_decode_rgb(encoded), exif_orientation(encoded))
    image = fit_image(image, image_size, resize)
    if channels == 1:
        image = _to_uint8(tf.image.rgb_to_grayscale(tf.cast(image, tf.float32)))
    return tf.ensure_shape(image, (*image_size, channels))


def fit_image(image, image_size, resize="crop"):
    """Bring one uint8 image `(height, width, channels)` to `image_size`; an image of that size stays as it is.

    Args:
        image: uint8 tensor `(height, width, channels)`.
        image_size: `(height, width)` in pixels.
        resize: `"crop"` keeps the aspect ratio and cuts the longer side's ends off, as ImageNet networks are tested;
            `"stretch"` does not keep the ratio; `"pad"` keeps it and fills up with black.

    Returns:
        uint8 tensor of `image_size`.
    """
    same = tf.reduce_all(tf.equal(tf.shape(image)[:2], image_size))
    return tf.cond(same, lambda: image, lambda: _resample(image, image_size, resize))


@functools.lru_cache(maxsize=16)
def make_decoder(image_size, channels, resize):
    """A compiled function from a vector of encoded images to uint8 `(images, height, width, channels)`, on the CPU."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(encoded):
        with tf.device("CPU"):
            return tf.map_fn(
                lambda one: decode_image(one, image_size, channels, resize),
                encoded,
                fn_output_signature=tf.TensorSpec((*image_size, channels), tf.uint8),
            )

    return decode


@functools.lru_cache(maxsize=16)
def make_fitter(image_size, channels, resize):
    """A compiled function that brings uint8 images `(images, height, width, channels)` to `image_size`, on the CPU."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.uint8)], autograph=False)
    def fit(images):
        with tf.device("CPU"):
            return tf.map_fn(
                lambda one: fit_image(one, image_size, resize),
                images,
                fn_output_signature=tf.TensorSpec((*image_size, channels), tf.uint8),
            )

    return fit


def _decode_rgb(encoded):
    """uint8 RGB `(height, width, 3)` from the bytes of a file, by what they are, whatever the file is called."""
    head = tf.strings.substr(encoded, 0, 4)
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8")
    is_png = tf.equal(head, b"\x89PNG")
    is_webp = tf.equal(head, b"RIFF")
    return tf.case(
        [
            (is_jpeg, lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")),
            (is_png, lambda: _decode_png(encoded)),
            (is_webp, lambda: _decode_webp(encoded)),
        ],
        # GIF comes as RGB. The fourth channel of a BMP is padding more often than transparency: leave it.
        default=lambda: tf.io.decode_image(encoded, channels=0, expand_animations=False)[..., :3],
        exclusive=True,
    )


def _decode_png(encoded):
    image = tf.io.decode_png(encoded, channels=4)
    # TensorFlow fills the alpha of opaque images of 1, 2 or 4 bits a pixel with the largest number of so many bits.
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)[0], tf.int32)
    opaque = tf.where(bits < 8, tf.bitwise.left_shift(1, bits) - 1, 255)
    is_filled = tf.cast(tf.reduce_max(image[..., 3]), tf.int32) <= opaque
    return _over_white(image, tf.where(is_filled, opaque, 255))


def _decode_webp(encoded):
    image = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    return tf.cond(tf.equal(tf.shape(image)[-1], 4), lambda: _over_white(image), lambda: image[..., :3])


def _over_white(image, opaque=255):
    """Lay a uint8 RGBA image over white, as a browser shows it; `opaque` is the alpha of an opaque pixel."""
    image = tf.ensure_shape(image, (None, None, 4))
    colour, alpha = image[..., :3], image[..., 3:]
    opaque = tf.cast(opaque, tf.uint16)

    def blend():  # in 16 bits, which take half the memory of floats
        colours, alphas = tf.cast(colour, tf.uint16), tf.cast(alpha, tf.uint16)
        return tf.cast((colours * alphas + 255 * (opaque - alphas) + opaque // 2) // opaque, tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(alpha, tf.cast(opaque, tf.uint8))), lambda: colour, blend)


def _turn(image, orientation):
    """Turn an image upright: EXIF orientations 5–8 are transposed, and 2–8 but 5 flipped along one axis or both."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    mirrored = tf.reduce_any(tf.equal(orientation, (2, 3, 6, 7)))
    upended = tf.reduce_any(tf.equal(orientation, (3, 4, 7, 8)))
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(upended, lambda: tf.reverse(image, [0]), lambda: image)


def _resample(image, image_size, resize):
    if resize == "pad":
        return _to_uint8(tf.image.resize_with_pad(image, *image_size, antialias=True))
    if resize == "crop":
        image = _crop_to_ratio(image, image_size)
    return _to_uint8(tf.image.resize(image, image_size, antialias=True))


def _crop_to_ratio(image, image_size):
    """The largest centred part of the image that has the aspect ratio of `image_size`."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    target_height, target_width = image_size
    kept_height = tf.minimum(height, tf.maximum(1, width * target_height // target_width))
    kept_width = tf.minimum(width, tf.maximum(1, height * target_width // target_height))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return image[top : top + kept_height, left : left + kept_width]


def _to_uint8(image):
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
