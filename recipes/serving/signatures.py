"""The signatures of an exported classifier."""

import tensorflow as tf

from recipes.data.decoding import decode_image


def answer(model, class_names, images):
    """Class names and probabilities of uint8 or float images, most probable first.

    Args:
        model: Keras model from RGB 0–255 to probabilities.
        class_names: names in the order of the model's outputs.
        images: `(batch, height, width, channels)`.

    Returns:
        `{"classes": strings (batch, classes), "probabilities": float32 (batch, classes)}`.
    """
    probabilities = tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)
    ranked, order = tf.math.top_k(probabilities, k=len(class_names), sorted=True)
    return {"classes": tf.gather(tf.constant(class_names), order), "probabilities": ranked}


def bytes_signature(result):
    """`image_bytes`, encoded images of any size, `(batch,)` → classes and probabilities."""

    def serve_bytes(image_bytes):
        images = tf.map_fn(
            lambda one: decode_image(one, result.image_size, result.channels, result.resize),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*result.image_size, result.channels), tf.uint8),
        )
        return answer(result.model, result.class_names, images)

    return serve_bytes, [tf.TensorSpec([None], tf.string, name="image_bytes")]


def pixels_signature(result):
    """`images`, RGB 0–255 at the model's size, `(batch, height, width, channels)` → classes and probabilities."""

    def serve_pixels(images):
        return answer(result.model, result.class_names, images)

    shape = (None, *result.image_size, result.channels)
    return serve_pixels, [tf.TensorSpec(shape, tf.float32, name="images")]
