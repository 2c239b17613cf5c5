"""Designs of equal cost: what each is, how it becomes a Keras model, and how a search chooses among them."""

import dataclasses
import functools

import keras

from recipes.checks import check_choice, check_whole, complaint
from recipes.redesigning.measuring import seconds_of
from recipes.redesigning.stages import ConvStage, convolutions

# A ReLU follows every kernel.
_START = "he_normal"
_LAYOUT = "channels_last"


@dataclasses.dataclass(frozen=True)
class Design:
    """A plain convolutional network that costs what is asked.

    Args:
        stages: `ConvStage`s, from input to output.
        move: what was traded against the network that was given: `"width for depth"`, say; `"none"` for that itself.
        image_size: `(height, width)` in pixels.
        classes: number of outputs.
        complexity: multiply-adds of the convolutions, for one image.
        ratio: of the complexity to the budget.
        parameters: number of weights and biases, those of the classifier included.
        seconds: median seconds of a batch, where they were measured.
        time_ratio: median ratio of the seconds to those of the given network in the same round, where measured.
    """

    stages: tuple[ConvStage, ...]
    move: str
    image_size: tuple[int, int]
    classes: int
    complexity: int
    ratio: float
    parameters: int
    seconds: float | None = None
    time_ratio: float | None = None

    @property
    def name(self):
        """As the paper writes it: `"(3,64)x2 p2 (3,128)x2"`."""
        return " ".join(stage.name for stage in self.stages)

    @property
    def depth(self):
        """Number of convolutions."""
        return sum(stage.depth for stage in self.stages)

    def build(self, batch_normalization=False):
        """A Keras model with new weights, not compiled: RGB 0–255 in, class probabilities out.

        Preprocessing → the convolutions, each with a ReLU, and poolings → the mean over the map → softmax. Kernels
        start as in He et al. 2015, from `keras.utils.set_random_seed`. With `batch_normalization`, which the paper's
        networks do not have, one stands before each ReLU in the place of biases.
        """
        image = keras.Input((*self.image_size, 3), name="image")
        # In float32 under mixed precision too: float16 has steps of 1/8 near 255.
        features = keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32", name="preprocessing")(image)
        for number, layer in enumerate(convolutions(self.stages, self.image_size, "Design"), start=1):
            features = _convolved(features, layer, number, batch_normalization)
        features = keras.layers.GlobalAveragePooling2D(data_format=_LAYOUT, name="mean")(features)
        outputs = keras.layers.Dense(self.classes, activation="softmax", dtype="float32", name="classes")(features)
        return keras.Model(image, outputs, name="design")


def _convolved(features, layer, number, batch_normalization):
    """Pooling, zeros around, convolution and ReLU, where the layer has them."""
    if layer.pool > 1:
        features = keras.layers.MaxPooling2D(layer.pool, data_format=_LAYOUT, name=f"pool{number}")(features)
    if layer.margin:
        features = keras.layers.ZeroPadding2D(layer.margin, data_format=_LAYOUT, name=f"zeros{number}")(features)
    features = keras.layers.Conv2D(
        layer.filters,
        layer.kernel_size,
        strides=layer.strides,
        padding="same" if layer.margin is None else "valid",
        data_format=_LAYOUT,
        use_bias=not batch_normalization,
        kernel_initializer=_START,
        name=f"conv{number}",
    )(features)
    if batch_normalization:
        features = keras.layers.BatchNormalization(name=f"norm{number}")(features)
    return keras.layers.ReLU(name=f"relu{number}")(features)


@dataclasses.dataclass(frozen=True, repr=False)
class Designs:
    """Networks of equal cost, from the shallowest to the deepest; prints as a table.

    Args:
        designs: every `Design`; of equally deep ones, those nearest to the budget first.
        given: the `Design` of the network that was given, brought to the budget.
        budget: multiply-adds for one image.
        measured: what was timed: `"forward"`, `"train"` or None.
        batch_size: images in a batch that was timed.
    """

    designs: tuple[Design, ...]
    given: Design
    budget: int
    measured: str | None = None
    batch_size: int | None = None

    def __repr__(self):
        from recipes.reporting.redesigns import redesign_table

        return redesign_table(self)

    def __len__(self):
        return len(self.designs)

    def __iter__(self):
        return iter(self.designs)

    def __getitem__(self, place):
        """A Design by its place or its name; Designs by a slice."""
        if isinstance(place, slice):
            return dataclasses.replace(self, designs=self.designs[place])
        return find(self.designs, place) if isinstance(place, str) else self.designs[place]

    def only(self, condition):
        """Those Designs for which `condition`, a function of a `Design`, is true."""
        return dataclasses.replace(self, designs=tuple(filter(condition, self.designs)))

    def timed(self, what="forward", batch_size=32):
        """The same with seconds, measured here and now, in turn; all models are in memory at once.

        `"forward"` is one pass over a batch of `batch_size` images; `"train"` is a pass, its gradients and a step.
        """
        check_choice("Designs.timed", "what", what, ("forward", "train"))
        check_whole("Designs.timed", "batch_size", batch_size)
        given, *designs = seconds_of((self.given, *self.designs), batch_size, is_training=what == "train")
        return dataclasses.replace(self, designs=tuple(designs), given=given, measured=what, batch_size=batch_size)

    def builder(self, optimizer="adam", batch_normalization=False):
        """A function for `recipes.search(data, build=...)`, whose one choice is `"design"`.

        `optimizer` is a Keras name or optimizer, of which each model gets one of its own.
        """
        if not self.designs:
            mend = "Keep some: designs[:10], say."
            raise ValueError(complaint("Designs.builder", "there must be a design to build", "none", mend))
        try:
            made = keras.optimizers.get(optimizer)
        except (ValueError, TypeError):
            made = None
        if not isinstance(made, keras.optimizers.Optimizer):
            rule, mend = "optimizer must be a Keras optimizer or the name of one", 'Pass optimizer="adam".'
            raise ValueError(complaint("Designs.builder", rule, repr(optimizer), mend))
        # What was measured is left out: a search goes by the text of this to see whether it is still the same.
        designs = tuple(dataclasses.replace(design, seconds=None, time_ratio=None) for design in self.designs)
        config = keras.optimizers.serialize(made)
        config["config"].pop("name", None)  # which Keras counts up from one optimizer to the next
        return functools.partial(
            build_design, designs=designs, optimizer=config, batch_normalization=batch_normalization
        )


def find(designs, name):
    """The Design of a name; ValueError where there is none."""
    named = {design.name: design for design in designs}
    check_choice("Designs", "a design", name, tuple(named))
    return named[name]


def build_design(hp, designs, optimizer, batch_normalization):
    """A compiled model of the design that KerasTuner's `hp` chooses."""
    chosen = hp.Choice("design", [design.name for design in designs])
    model = find(designs, chosen).build(batch_normalization)
    model.compile(keras.optimizers.deserialize(optimizer), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
