"""The signatures of an exported classifier."""

import keras
import tensorflow as tf

from recipes.data.decoding import decode_image, fit_image

UNREADABLE = "the image cannot be decoded"


def names_table(path):
    """A table of class names by their number, from a file with one a line; a number that has none gives ""."""
    lines, whole = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
    by_line = tf.lookup.TextFileInitializer(str(path), tf.int64, lines, tf.string, whole)
    return tf.lookup.StaticHashTable(by_line, "")


def probabilities_signature(result):
    """`images`, RGB 0–255 at the model's size → `probabilities` in the order of the classes.

    Args:
        result: Result whose model is in the archive.

    Returns:
        (function of Keras, list of tf.TensorSpec).
    """

    def serve_probabilities(images):
        return {"probabilities": keras.ops.cast(result.model(images, training=False), "float32")}

    return serve_probabilities, [tf.TensorSpec((None, *result.image_size, result.channels), tf.float32, name="images")]


def bytes_signature(result, model, names):
    """`image_bytes`, encoded images of any size, `(batch,)` → classes, probabilities, error.

    Args:
        result: Result.
        model: function of float32 images to `{"probabilities": …}`.
        names: table of the class names by their number.

    Returns:
        `tf.function`.
    """
    return _make(
        lambda image_bytes: _serve_bytes(result, model, names, image_bytes),
        tf.TensorSpec([None], tf.string, name="image_bytes"),
    )


def classify_signature(result, model, names):
    """`inputs`, serialized `tf.Example` with a feature `image_bytes`, `(batch,)` → classes and scores.

    Names and outputs are those that the Classify calls of TensorFlow Serving ask for: these two and no other. A row
    that cannot be decoded has empty classes and scores of 0.
    """

    def serve_examples(inputs):
        feature = {"image_bytes": tf.io.FixedLenFeature([], tf.string, default_value="")}
        answer = _serve_bytes(result, model, names, tf.io.parse_example(inputs, feature)["image_bytes"])
        return {"classes": answer["classes"], "scores": answer["probabilities"]}

    return _make(serve_examples, tf.TensorSpec([None], tf.string, name="inputs"))


def pixels_signature(result, model, names):
    """`images`, RGB 0–255 of any one size, `(batch, height, width, channels)` → classes, probabilities, error.

    Images of the model's size are taken as they are; others are rounded to whole numbers and brought to size as files
    are.
    """
    shape = (*result.image_size, result.channels)

    def fit(images):
        whole = tf.cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), tf.uint8)
        fitted = tf.map_fn(
            lambda one: fit_image(one, result.image_size, result.resize),
            whole,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )
        return tf.cast(fitted, tf.float32)

    def serve_pixels(images):
        has_size = tf.reduce_all(tf.equal(tf.shape(images)[1:3], result.image_size))
        images = tf.ensure_shape(tf.cond(has_size, lambda: images, lambda: fit(images)), (None, *shape))
        return _answer(names, model(images)["probabilities"], tf.ones_like(images[:, 0, 0, 0], tf.bool))

    return _make(serve_pixels, tf.TensorSpec((None, None, None, result.channels), tf.float32, name="images"))


def _make(serve, spec):
    function = tf.function(serve, input_signature=[spec], autograph=False)
    function.get_concrete_function()
    return function


def _serve_bytes(result, model, names, contents):
    images, is_read = _decode(contents, result.image_size, result.channels, result.resize)
    return _answer(names, model(tf.cast(images, tf.float32))["probabilities"], is_read)


def _decode(contents, image_size, channels, resize):
    """uint8 images `(batch, height, width, channels)` and whether each could be decoded; zeros where not.

    The decoders fail as a whole. A dataset drops what fails, and the numbers of the rows tell what is left.
    """
    shape = (*image_size, channels)
    count = tf.size(contents, out_type=tf.int64)
    with tf.device("CPU"):
        rows = tf.data.Dataset.from_tensor_slices((tf.range(count), contents))
        decoded = rows.map(
            lambda row, one: (row, decode_image(one, image_size, channels, resize)), num_parallel_calls=tf.data.AUTOTUNE
        ).ignore_errors()
        one_more = tf.data.Dataset.from_tensors(
            (count, tf.zeros(shape, tf.uint8))
        )  # an empty batch would have no shape
        options = tf.data.Options()  # what is to be run once is not worth tuning
        options.autotune.enabled = False
        options.experimental_optimization.apply_default_optimizations = False
        whole = decoded.concatenate(one_more).batch(count + 1).with_options(options)
        read, images = whole.get_single_element()
        images = tf.scatter_nd(read[:, None], images, tf.stack([count + 1, *shape]))
        is_read = tf.scatter_nd(read[:, None], tf.ones_like(read, tf.int32), count[None] + 1) > 0
    return images[:-1], is_read[:-1]


def _answer(names, probabilities, is_read):
    """Class names and probabilities, most probable first, and for each row what is wrong with it.

    Returns:
        `{"classes": strings (batch, classes), "probabilities": float32 (batch, classes), "error": strings (batch,)}`;
        where a row could not be read: empty names, zeros, and a sentence instead of an empty string.
    """
    probabilities = tf.cast(probabilities, tf.float32)
    ranked, order = tf.math.top_k(probabilities, k=probabilities.shape[-1], sorted=True)
    return {
        "classes": names.lookup(tf.where(is_read[:, None], tf.cast(order, tf.int64), -1)),
        "probabilities": tf.where(is_read[:, None], ranked, 0.0),
        "error": tf.where(is_read, "", UNREADABLE),
    }
