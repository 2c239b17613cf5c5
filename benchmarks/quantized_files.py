"""What files of fewer bits save and lose: bytes, accuracy by the file itself, and milliseconds beside the float32 file.

    python benchmarks/quantized_files.py --data hymenoptera_data/ --base mobilenet_v2_035

Two parts:

- accuracy: a network fine-tuned on the photos, then float32, float16, int8 by calibration, int8 trained, and int8 of
  kernels alone, as LiteRT and as ONNX files. Each file is run by its runtime over the validation images; the means of
  the seeds come first.
- speed: that network, where most convolutions are depthwise or of few channels, and one shaped like VGG16 (random
  weights, images of `--size` pixels), which has none but convolutions of many channels. One image at a time, one
  thread, all files of a network in turn.

Expect ten minutes on 2 cores. int8 convolutions need a processor with VNNI or AMX to be fast.
"""

import argparse
import functools
import gzip
import statistics

import keras
import numpy as np
from machine import print_json

import recipes
from recipes.compression.forms import FORMS, content_of
from recipes.serving.running import FileRunner
from recipes.timing import alternating

KINDS = {
    "float16": {"precision": "float16"},
    "int8": {"precision": "int8", "is_trained": False},
    "int8, trained": {"precision": "int8", "is_trained": True},
    "int8_dynamic": {"precision": "int8_dynamic"},
}


def files_of(result, data, form, kinds):
    """`{kind: (bytes of the file, the Keras model that rounds alike)}`, float32 first."""
    files = {"float32": (content_of(FORMS[form], result), result.model)}
    for kind in kinds:
        made = recipes.quantize(result, data, form=form, max_drop=None, verbose=False, **KINDS[kind])
        files[kind] = made.content, made.model
    return files


def scored(form, files, split):
    """Size and accuracy of each file, and how far it is from the float32 file and from its Keras model."""
    images, rows = split.images(), {}
    expected = FileRunner(form, files["float32"][0]).predict(images)
    for kind, (content, model) in files.items():
        answers = FileRunner(form, content).predict(images)
        rows[kind] = {
            "bytes": len(content),
            "gzipped": len(gzip.compress(content, 9)),
            "accuracy": float(np.mean(answers.argmax(1) == split.labels)),
            "same_first_class": float(np.mean(answers.argmax(1) == expected.argmax(1))),
            "mean_difference": float(np.abs(answers - expected).mean()),
            "largest_difference": float(np.abs(answers - expected).max()),
            "mean_from_keras": float(np.abs(answers - model.predict(images, verbose=0)).mean()),
        }
    return rows


def timed(form, files, shape, rounds):
    """Milliseconds of one image, one thread: median, least and largest of the rounds."""
    image = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype("float32")
    runs = {
        kind: functools.partial(FileRunner(form, content, threads=1), image) for kind, (content, _) in files.items()
    }
    seconds = alternating(runs, rounds=rounds)
    return {
        kind: {name: 1e3 * part(taken) for name, part in (("median", statistics.median), ("least", min), ("most", max))}
        for kind, taken in seconds.items()
    }


def vgg16_shaped(size, classes=10):
    """The convolutions of VGG16, a mean over places, and one dense layer."""
    image = x = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(x)
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x), name="vgg16_shaped")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and val folders of class folders")
    parser.add_argument("--base", default="mobilenet_v2_035")
    parser.add_argument("--forms", nargs="+", default=["litert", "onnx"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="pixels of the images of the network like VGG16")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    scores, times = [], {}
    for seed in range(asked.seeds):
        result = recipes.finetune(asked.base, asked.data, epochs=asked.epochs, seed=seed, verbose=False)
        for form in asked.forms:
            files = files_of(result, result.data, form, KINDS)
            rows = scored(form, files, result.data.valid)
            scores += [{"form": form, "kind": kind, "seed": seed, **row} for kind, row in rows.items()]
            if seed == 0:
                times[f"{asked.base}, {form}"] = timed(form, files, result.model.input_shape[1:], asked.rounds)
    model = vgg16_shaped(asked.size)
    photos = recipes.load_data(
        (np.random.default_rng(0).integers(0, 256, (20, asked.size, asked.size, 3), np.uint8), np.arange(20) % 10),
        image_size=asked.size,
        valid=0.0,
        test=0.0,
    )
    for form in asked.forms:
        files = files_of(model_result(model), photos, form, ("int8", "int8_dynamic"))
        times[f"vgg16_shaped, {form}"] = timed(form, files, model.input_shape[1:], 5)
        times[f"vgg16_shaped, {form}"]["bytes"] = {kind: len(content) for kind, (content, _) in files.items()}
    means = {}
    for row in scores:
        same = [other for other in scores if (other["form"], other["kind"]) == (row["form"], row["kind"])]
        names = ("bytes", "gzipped", "accuracy", "same_first_class", "mean_difference", "largest_difference")
        means[f"{row['form']}, {row['kind']}"] = {
            name: statistics.mean(other[name] for other in same) for name in names
        }
    print_json({"arguments": vars(asked), "means": means, "milliseconds": times, "runs": scores})


def model_result(model):
    """A bare model as the Result that files are written of."""
    names = tuple(str(number) for number in range(model.output_shape[1]))
    return recipes.Result(model, names, model.input_shape[1:3], 3, "crop", report=None)


if __name__ == "__main__":
    main()
