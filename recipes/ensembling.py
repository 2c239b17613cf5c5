"""Several classifiers as one that averages what they say."""

import dataclasses
from typing import Any

import keras

from recipes.bases.channels import set_weights
from recipes.bases.flattening import Flattening
from recipes.checks import complaint
from recipes.evaluation import evaluate
from recipes.saving import open_classifier, ready_to_measure
from recipes.values import Result


def ensemble(models: list[Any], data: Any = None):
    """Make one classifier of several, which averages their probabilities.

    1. Check that they know the same classes and take the same images.
    2. Copy all of them into one flat network, on one input; nothing of the originals is changed.
    3. Measure it on held-out images, where there are some.

    It costs as much as all of them together, and is saved, evaluated and exported as any other classifier.

    Args:
        models: two or more of: `Result`, folder of a saved one, Keras model.
        data: what to measure it on, as `recipes.evaluate` takes it. None: the Data that all of them were trained on,
            where they were; without any, or without held-out images in it, the Result has no report.

    Returns:
        `Result`; `report.settings["members"]` has the names of the networks and their accuracies, as far as they were
        measured.

    Raises:
        TypeError, ValueError: fewer than two, or classes, image sizes, channels or ways of resizing that differ; or a
            network that is neither functional nor sequential.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=16)
        >>> options = {"weights": None, "epochs": 1, "verbose": False}
        >>> results = [recipes.finetune("small_resnet", data, seed=seed, **options) for seed in (0, 1)]
        >>> len(recipes.ensemble(results).report.settings["members"])
        2

    Source:
        Hansen and Salamon 1990, "Neural network ensembles"; Krizhevsky et al. 2012 (averaged probabilities).
    """
    where = "ensemble"
    members = _open(models, where)
    first = members[0]
    data = _common_data(members) if data is None else data
    result = Result(
        model=_averaged([member.model for member in members], where),
        class_names=first.class_names,
        image_size=first.image_size,
        channels=first.channels,
        resize=first.resize,
        report=None,
        trained_on=frozenset().union(*(member.trained_on for member in members)),
        data=_common_data(members),
    )
    is_own = data is not None and data is result.data
    if data is None or (is_own and not len(data.test) and not len(data.valid)):
        return result
    report = evaluate(result, data)
    report.settings["members"] = [_told(member) for member in members]
    return dataclasses.replace(result, report=report)


def _open(models, where):
    """The Results, which fit each other."""
    if not isinstance(models, (list, tuple)) or len(models) < 2:
        rule, mend = "models must be a list of two or more", "Pass [one, other], say."
        raise TypeError(complaint(where, rule, repr(models), mend))
    members = [open_classifier(model, where) for model in models]
    forms = {
        "classes": lambda member: member.class_names,
        "image sizes": lambda member: member.image_size,
        "channels": lambda member: member.channels,
        "ways of resizing": lambda member: member.resize,
    }
    for name, form in forms.items():
        values = [form(member) for member in members]
        for number, value in enumerate(values):
            if value != values[0]:
                received = f"{values[0]!r} in the first and {value!r} in number {number + 1}"
                mend = "Train them on one recipes.load_data(...)."
                raise ValueError(complaint(where, f"the {name} of all models must be the same", received, mend))
    return members


def _common_data(members):
    """The Data that all of them were trained on, or None."""
    found = members[0].data
    same = found is not None and all(
        member.data is not None and member.data.fingerprint == found.fingerprint for member in members
    )
    return found if same else None


def _averaged(models, where):
    image = keras.Input(models[0].input_shape[1:], name="images")
    taken, answers = {"images", "average_of_members"}, []
    for model in models:
        flattening = Flattening(where, lambda *_: None, taken)
        answers.append(flattening.unfold(model, image))
        for old, new in flattening.copies.values():
            if isinstance(old, keras.layers.Layer) and old.weights:
                set_weights(new, old.get_weights())
        taken = flattening.taken
    mean = keras.layers.Average(name="average_of_members", dtype="float32")(answers)
    model = keras.Model(image, mean, name="ensemble")
    ready_to_measure(model)
    return model


def _told(member):
    accuracy = member.report.scores["accuracy"] if member.report is not None else None
    return {"name": member.model.name, "accuracy": accuracy}
