"""A script for a fresh process: what an exported file answers to given samples, by its own runtime alone.

    python -P proof.py FORMAT FOLDER SAMPLES ANSWERS

It imports neither this package nor, but for a Keras file, Keras: what it finds is what any other user of the file
finds. SAMPLES is an .npz with `paths` of files, `pixels`, the same as uint8 at the model's size, and `odd`, images of
another size; ANSWERS becomes one with `probabilities` in the order of the classes.
"""

import contextlib
import gc
import sys
import time
import warnings

import numpy as np

BATCH = 32
FEW = 8


def main(name, folder, samples, answers):
    """Answer every sample by the file of format `name` in `folder`."""
    with np.load(samples) as content:
        given = dict(content)
    if name != "keras":
        sys.modules["keras"] = None
    answer = {"saved_model": _saved_model, "keras": _keras, "onnx": _onnx, "litert": _litert}[name](folder, given)
    gc.disable()  # while modules are imported it searches a lot and finds nothing
    next(answer)  # what is to be imported is
    gc.enable()
    began = time.monotonic()
    next(answer)  # the file is loaded
    seconds_to_load = time.monotonic() - began
    probabilities, others = next(answer)
    np.savez(answers, probabilities=probabilities, seconds_to_load=seconds_to_load, **others)


def _batches(values):
    return (values[start : start + BATCH] for start in range(0, len(values), BATCH))


def _saved_model(folder, given):
    import tensorflow as tf

    yield
    signatures = tf.saved_model.load(folder).signatures
    yield
    pixels = given["pixels"].astype("float32")
    fixed = [signatures["probabilities"](images=tf.constant(part))["probabilities"] for part in _batches(pixels[:FEW])]
    others = {"of_pixels": np.concatenate(fixed)}
    if "pixels" not in signatures:
        ranked = [signatures["serving_default"](images=tf.constant(part)) for part in _batches(pixels)]
        yield _unranked(ranked, folder, "probabilities"), others
        return
    ranked = [signatures["serving_default"](image_bytes=_read(part)) for part in _batches(given["paths"])]
    errors = {text.decode() for part in ranked for text in part["error"].numpy()} - {""}
    if errors:
        sys.exit(f"a sample could not be read: {', '.join(errors)}")
    few = signatures["pixels"](images=tf.constant(pixels[:FEW]))
    others["of_any_pixels"] = _unranked([few], folder, "probabilities")
    odd = signatures["pixels"](images=tf.constant(given["odd"].astype("float32")))
    others["of_other_sizes"] = _unranked([odd], folder, "probabilities")
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"image_bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=[one]))}
            )
        ).SerializeToString()
        for one in _read(given["paths"][:FEW]).numpy()
    ]
    others["of_examples"] = _unranked([signatures["classify"](inputs=tf.constant(examples))], folder, "scores")
    yield _unranked(ranked, folder, "probabilities"), others


def _read(paths):
    """The bytes of files, as a tensor."""
    import tensorflow as tf

    return tf.stack([tf.io.read_file(str(path)) for path in paths])


def _unranked(answers, folder, scores):
    """Probabilities in the order of the class names, from answers that have the most probable first."""
    with open(f"{folder}/assets/labels.txt", encoding="utf-8", newline="\n") as file:
        places = {name: place for place, name in enumerate(file.read().split("\n")[:-1])}
    rows = []
    for answer in answers:
        for names, ranked in zip(answer["classes"].numpy(), answer[scores].numpy(), strict=True):
            if (np.diff(ranked) > 0).any():
                sys.exit("the most probable class does not come first")
            row = np.zeros(len(places), np.float32)
            row[[places[name.decode()] for name in names]] = ranked
            rows.append(row)
    return np.stack(rows)


def _keras(folder, given):
    import keras

    with contextlib.suppress(ImportError):
        import layers  # noqa: F401 (registers this package's layers, which a model may have)
    yield
    model = keras.saving.load_model(f"{folder}/model.keras", safe_mode=True)
    yield
    yield model.predict(given["pixels"], batch_size=BATCH, verbose=0).astype("float32"), {}


def _onnx(folder, given):
    import onnxruntime  # noqa: F401 (before the clock starts)

    yield
    answer = open_onnx(f"{folder}/model.onnx")
    yield
    yield np.concatenate([answer(part.astype("float32")) for part in _batches(given["pixels"])]), {}


def _litert(folder, given):
    _interpreters()
    yield
    answer = open_litert(f"{folder}/model.tflite")
    yield
    yield np.concatenate([answer(part.astype("float32")) for part in _batches(given["pixels"])]), {}


def open_onnx(path, threads=None):
    """A function of float32 images to what an ONNX file answers; `threads` to compute with, None for all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def open_litert(path, threads=None):
    """A function of float32 images to what a LiteRT file answers; `threads` to compute with, None for one."""
    for make in _interpreters():
        try:
            interpreter = make(model_path=path, num_threads=threads)
            interpreter.allocate_tensors()
            break
        except (RuntimeError, ValueError) as error:  # operations of TensorFlow, which LiteRT alone does not have
            reason = error
    else:
        raise reason
    (given,), (answered,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(images):
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(answered["index"])

    return answer


def _interpreters():
    """Those that are installed, the one to be preferred first."""
    found = []
    with contextlib.suppress(ImportError):
        from ai_edge_litert.interpreter import Interpreter

        found.append(Interpreter)
    with contextlib.suppress(ImportError):
        import tensorflow as tf

        found.append(tf.lite.Interpreter)
    warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
    gc.freeze()  # else Python, as it ends, searches all of TensorFlow's objects for cycles
