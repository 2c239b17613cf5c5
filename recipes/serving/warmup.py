"""Requests that a server runs before it takes others, so that the first user does not wait."""

import tensorflow as tf

_SIZES = 1, 8  # images in a request


def write_warmup(image_size, channels, folder):
    """Write made-up requests to where TensorFlow Serving looks for them: `assets.extra` of a SavedModel.

    Args:
        image_size: `(height, width)` in pixels.
        channels: channels of the images; files are sent where they are 1 or 3, else pixels.
        folder: path of the SavedModel.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for count in _SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "default"
            request.model_spec.signature_name = "serving_default"
            if channels in (1, 3):
                files = [tf.io.encode_jpeg(tf.zeros((*image_size, channels), tf.uint8)).numpy()] * count
                request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files))
            else:
                request.inputs["images"].CopyFrom(tf.make_tensor_proto(tf.zeros((count, *image_size, channels))))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def warmup_requests(folder):
    """`[(signature, {name: array})]` of a SavedModel's warm-up requests; none where it has no such file."""
    from tensorflow_serving.apis import prediction_log_pb2

    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    if not path.is_file():
        return []
    requests = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = request.model_spec.signature_name or "serving_default"
        requests.append((signature, {name: tf.make_ndarray(value) for name, value in request.inputs.items()}))
    return requests
