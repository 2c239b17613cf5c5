r"""A third of the multiply-adds of a CIFAR ResNet removed with its filters, beside a network of that size from scratch.

    python benchmarks/cifar_units.py --data cifar10_images/ --epochs 12 --recovery_epochs 6 --seeds 0 1 2
    python benchmarks/cifar_units.py --data cifar10_images/ --base small_resnet --weights pretrained --epochs 2 \
        --steps 1 --recovery_epochs 6 --distillation 0.5 --scope layer --divisor 16 --beside

For each seed: trains the network, with `--weights` its head alone on weights that have seen CIFAR-10; removes filters
and trains again, in steps; trains a network of the same widths from random weights for as many epochs as both together,
or for `--scratch_epochs`; and trains the whole network for those epochs more, so that nobody takes for pruning's what
is training's (the last two only as `--beside` names them). With `--weights`, the small network is trained from scratch
as those weights were: by SGD on images that vary, 26 epochs by default, their 20 and six of recovery. Accuracies are on
the test folder. Latency is that of one image and of a batch in TensorFlow, before and after in turn. One epoch of
50,000 images takes cifar_resnet20 about five minutes on one core.
"""

import argparse
import dataclasses

import keras
from from_scratch import table
from machine import milliseconds, print_json
from pretrain_small_resnet import train as trained_as_weights

import recipes
from recipes.compression.recovering import recover
from recipes.compression.subjects import open_subject

BATCH = 64


def trained(base, data, epochs, asked, seed, weights=None):
    """A Result from random weights, or one whose head has been trained on weights that are kept."""
    return recipes.finetune(
        base,
        data,
        weights=weights,
        plan="all" if weights is None else "head",
        epochs=epochs,
        learning_rate=asked.learning_rate,
        batch_size=BATCH,
        augmentation="flip",
        patience=None,
        seed=seed,
        verbose=asked.verbose,
    )


def from_scratch(model, data, asked, seed):
    """A Result of the small network, trained as long as pruning and what came before it."""
    if asked.weights is None:
        epochs = asked.scratch_epochs or asked.epochs + asked.steps * asked.recovery_epochs
        return trained(model, data, epochs, asked, seed)
    options = {"seed": seed, "precision": asked.scratch_precision, "verbose": asked.verbose}
    return trained_as_weights(model, data, asked.scratch_epochs or 26, **options)


def trained_on(result, data, recovery, asked, seed):
    """The whole network after the training that pruning takes."""
    subject = open_subject(result, data, "cifar_units")
    for step in range(asked.steps):
        recover(subject.model, subject, recovery, seed=seed + step, verbose=asked.verbose)
    longer = dataclasses.replace(result, model=subject.model)
    return dataclasses.replace(longer, report=longer.evaluate(data))


def one_seed(data, asked, seed):
    """What became of accuracy, cost and latency."""
    recovery = recipes.Recovery(
        epochs=asked.recovery_epochs,
        learning_rate=asked.recovery_rate,
        batch_size=BATCH,
        augmentation="flip",
        normalization="trained",
        distillation=asked.distillation,
    )
    whole = trained(asked.base, data, asked.epochs, asked, seed, asked.weights)
    steps = tuple(asked.fraction * (number + 1) / asked.steps for number in range(asked.steps))
    options = {"max_drop": None, "recovery": recovery, "criterion": asked.criterion, "scope": asked.scope}
    options |= {"divisor": asked.divisor, "seed": seed, "verbose": asked.verbose}
    pruned = recipes.prune_units(whole, data, fraction=steps, **options)
    models = {"before": whole.model, "after": pruned.model}
    results = {"whole": whole, "pruned": pruned}
    if "longer" in asked.beside:
        results["whole_trained_on"] = trained_on(whole, data, recovery, asked, seed)
    if "scratch" in asked.beside:
        results["small_from_scratch"] = from_scratch(keras.models.clone_model(pruned.model), data, asked, seed)
    first, last = pruned.rungs[0], pruned.rungs[-1]
    return {
        "seed": seed,
        "accuracy": {name: round(result.report.scores["accuracy"], 4) for name, result in results.items()},
        "multiply_adds": [first.multiply_adds, last.multiply_adds],
        "removed": round(1 - last.multiply_adds / first.multiply_adds, 4),
        "parameters": [first.parameters, last.parameters],
        "stored_bytes": [first.stored_bytes, last.stored_bytes],
        "milliseconds_of_1": milliseconds(models, asked.rounds),
        f"milliseconds_of_{BATCH}": milliseconds(models, asked.rounds, BATCH),
        "filters": [layer.filters for layer in pruned.model.layers if isinstance(layer, keras.layers.Conv2D)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and test folders")
    parser.add_argument("--base", default="cifar_resnet20")
    parser.add_argument("--weights", help="those that the base starts with; random ones unless given")
    parser.add_argument("--images", type=int, default=50000)
    parser.add_argument("--test_images", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--fraction", type=float, default=0.34, help="of the multiply-adds to remove")
    parser.add_argument("--steps", type=int, default=2, help="in which they are removed, with training after each")
    parser.add_argument("--recovery_epochs", type=int, default=3, help="of each step")
    parser.add_argument("--recovery_rate", type=float, default=1e-3)
    parser.add_argument("--distillation", type=float, default=0.0, help="share of the whole network's answers")
    parser.add_argument("--beside", nargs="*", choices=["longer", "scratch"], default=["longer", "scratch"])
    parser.add_argument("--scratch_epochs", type=int, help="26 with --weights, else as many as both others")
    parser.add_argument("--scratch_precision", default="float32", help="with --weights")
    parser.add_argument("--criterion", default="taylor")
    parser.add_argument("--scope", default="global")
    parser.add_argument("--divisor", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    rows = table(asked.data, asked.images, asked.test_images)
    data = recipes.load_data(rows, image_size=32, valid=0.1)
    print_json({"arguments": vars(asked), "seeds": [one_seed(data, asked, seed) for seed in asked.seeds]})


if __name__ == "__main__":
    main()
