"""What `base` may be: a name of the catalogue, a Keras model, or the path of one."""

import dataclasses
import os
import re
from pathlib import Path

import keras

from recipes.bases.catalogue import Base, find_base, list_bases
from recipes.bases.naming import without_count
from recipes.bases.plain import in_plain_layers
from recipes.bases.weights import PRETRAINED, catalogue_model, check_weights
from recipes.checks import check_choice, complaint, image_size_pair


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A base found: a row of the catalogue or a model of the user's.

    Args:
        name: of the network.
        row: the row of the catalogue, or None.
        model: the user's model, or None.
    """

    name: str
    row: Base | None = None
    model: keras.Model | None = None

    @property
    def fixed_size(self):
        """`(height, width)` where the base takes no other, else None."""
        if self.model is None or None in self.model.input_shape[1:3]:
            return None
        return tuple(self.model.input_shape[1:3])


def find_source(base, where):
    """The Source that `base` means; ValueError or TypeError when it means none."""
    if isinstance(base, Base):
        return Source(base.name, row=base)
    if isinstance(base, str) and base in list_bases():
        return Source(base, row=find_base(base))
    if isinstance(base, keras.Model):
        return Source(without_count(base.name), model=_checked(base, where))
    if isinstance(base, os.PathLike) or (isinstance(base, str) and base.endswith(".keras")):
        # TensorFlow's names of scopes hold no spaces or accents.
        name = re.sub(r"[^A-Za-z0-9.]+", "_", Path(base).stem).strip("_") or "base"
        return Source(name, model=_checked(_loaded(Path(base), where), where))
    if isinstance(base, str):
        check_choice(where, "base", base, list_bases())
    rule = "base must be a name, a Keras model or the path of a .keras file"
    raise TypeError(complaint(where, rule, repr(base), f"Choose one of {', '.join(list_bases())}."))


def _loaded(path, where):
    if not path.is_file():
        rule = "base must be a name of the catalogue or a .keras file that exists"
        raise FileNotFoundError(complaint(where, rule, repr(str(path)), "Check the path."))
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (KeyError, OSError, TypeError, ValueError) as error:
        rule = "base must be a .keras file that Keras loads in safe mode"
        mend = "Save the model again with model.save, without lambdas; import the module of its own layers before."
        raise ValueError(complaint(where, rule, f"{str(path)!r}: {error}", mend)) from error


def _checked(model, where):
    rule = "base must be a built model with one input (height, width, channels) and one output"
    mend = "Build it with keras.Model(inputs, outputs), or keras.Sequential with a keras.Input."
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(complaint(where, rule, f"the model {model.name!r}, which has no inputs yet", mend))
    shapes = [tensor.shape for tensor in (*model.inputs, *model.outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or len(shapes[1]) not in (2, 4):
        received = f"a model with inputs and outputs of shapes {shapes}"
        raise ValueError(complaint(where, rule, received, mend))
    return model


def check_size(where, source, image_size):
    """Raise unless `source` can be built for images of `image_size`."""
    least = source.row.least_size if source.row else 1
    if min(image_size) < least:
        shown = image_size[0] if image_size[0] == image_size[1] else f"{image_size[0]}×{image_size[1]}"
        rule = f'image_size must be at least {least} pixels for base="{source.name}"'
        mend = f"Pass image_size={least} or more" + (', or base="small_resnet".' if min(image_size) >= 8 else ".")
        raise ValueError(complaint(where, rule, shown, mend))
    if source.fixed_size not in (None, image_size):
        rule = f"image_size must be {source.fixed_size} for this base, which was built for it"
        mend = f"Pass image_size={source.fixed_size}, or a base whose input has the shape (None, None, channels)."
        raise ValueError(complaint(where, rule, image_size, mend))


def source_model(where, source, weights, image_size):
    """The model to copy and whether it holds pretrained weights."""
    if source.row is not None:
        check_weights(where, source.row, weights, image_size)
        return catalogue_model(where, source.row, weights, image_size), weights is not None
    if weights not in (None, PRETRAINED, "imagenet"):
        rule = 'weights must be "pretrained" (keep those of the model) or None when base is a model'
        raise ValueError(complaint(where, rule, repr(weights), "Load them into the model before."))
    return in_plain_layers(source.model, where, only_fixed=True), weights is not None


def default_image_size(base, weights, data_size, *, where="finetune"):
    """The `(height, width)` in pixels that images are brought to when the user names none.

    Args:
        base: a name, a Keras model or the path of one.
        weights: `"pretrained"` or their name, a path or None. With weights of a named base, the size they were trained
            at counts.
        data_size: `(height, width)` that all images have, or None when it varies or is not known. Without weights,
            this is the size, brought within the base's least and published size, each side for itself.

    Returns:
        `(height, width)`. A model built for one size has that size.

    Raises:
        TypeError, ValueError: when `base` means nothing.
    """
    source = find_source(base, where)
    if source.fixed_size is not None:
        return source.fixed_size
    if source.row is None:
        return tuple(data_size) if data_size else (224, 224)
    largest = source.row.default_size
    if weights is not None or not data_size:
        return largest, largest
    return tuple(min(max(int(side), source.row.least_size), largest) for side in data_size)


def least_image_size(base, *, where="finetune"):
    """The least height and width in pixels that `base` takes; for a model built for one size, its shorter side."""
    source = find_source(base, where)
    if source.row is not None:
        return source.row.least_size
    return min(source.fixed_size) if source.fixed_size else 1


def check_base(base, weights, image_size, where):
    """Raise what `build_network` would raise for `base`, `weights` and `image_size` (None: the default), unbuilt."""
    source = find_source(base, where)
    if image_size is not None:
        check_size(where, source, image_size_pair(where, image_size))
    if source.row is not None:
        size = (source.row.default_size,) * 2 if image_size is None else image_size_pair(where, image_size)
        check_weights(where, source.row, weights, size)
