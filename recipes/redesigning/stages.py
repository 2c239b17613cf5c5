"""A plain convolutional network in stages: what its layers are, and what they cost by the formula."""

import dataclasses

from recipes.checks import check_choice, check_whole, complaint, image_size_pair

_PADDINGS = ("same", "valid", "alternating")
_RGB = 3


@dataclasses.dataclass(frozen=True)
class ConvStage:
    """Convolutions of one width and one kernel size, in a row.

    Args:
        depth: number of convolutions.
        width: filters of each.
        kernel_size: height and width of a kernel, in pixels.
        strides: of the first convolution; the others have 1.
        pool: height, width and strides of a max pooling before the first convolution, in pixels; 1 for none.
        padding: `"same"` keeps the map as it is (an even kernel then looks one pixel further down and to the right);
            `"valid"` leaves out what is not covered; `"alternating"` is for even kernels: the maps are by turns one
            pixel smaller and as before, and no side is preferred.

    Example:
        >>> import recipes
        >>> recipes.ConvStage(4, 128, pool=2)
        ConvStage(depth=4, width=128, kernel_size=3, strides=1, pool=2, padding='same')
    """

    depth: int
    width: int
    kernel_size: int = 3
    strides: int = 1
    pool: int = 1
    padding: str = "same"

    def __post_init__(self):
        for field in ("depth", "width", "kernel_size", "strides", "pool"):
            check_whole("ConvStage", field, getattr(self, field))
        check_choice("ConvStage", "padding", self.padding, _PADDINGS)

    @property
    def name(self):
        """As the paper writes it: `(kernel size, width)`, `/strides`, `xdepth`, after `p` and the size of a pooling."""
        pooling = f"p{self.pool} " if self.pool > 1 else ""
        strides = f"/{self.strides}" if self.strides > 1 else ""
        times = f"x{self.depth}" if self.depth > 1 else ""
        return f"{pooling}({self.kernel_size},{self.width}){strides}{times}"


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of a network.

    Args:
        channels: of its input.
        filters: of its output.
        kernel_size: height and width of its kernel, in pixels.
        strides: of the kernel.
        pool: size and strides of the max pooling before it; 1 for none.
        margin: zeros put around its input, in pixels; None where Keras' `padding="same"` puts them.
        map_size: (height, width) of its output, in pixels.
    """

    channels: int
    filters: int
    kernel_size: int
    strides: int
    pool: int
    margin: int | None
    map_size: tuple[int, int]

    @property
    def multiply_adds(self):
        """The paper's term of this layer, n_{l-1} · s² · n_l · m²."""
        height, width = self.map_size
        return self.channels * self.kernel_size**2 * self.filters * height * width

    @property
    def weights(self):
        """Number of its weights, biases included."""
        return (self.channels * self.kernel_size**2 + 1) * self.filters


def complexity(stages, *, image_size):
    """Count the multiply-adds of a network's convolutions, for one image.

    It is the paper's measure of time: the sum over the convolutions of input channels × kernel size² × output channels
    × pixels of the output map. Pooling and what comes after the convolutions, 5–10 % of the time, are left out.

    Args:
        stages: `ConvStage`s, from input to output. The input has three channels.
        image_size: pixels, one number or `(height, width)`.

    Returns:
        A whole number of multiply-adds.

    Raises:
        TypeError, ValueError: a stage is none, or leaves nothing of the map.

    Example:
        >>> import recipes
        >>> recipes.complexity([recipes.ConvStage(2, 64), recipes.ConvStage(2, 128, pool=2)], image_size=32)
        96141312

    Source:
        He & Sun 2014, "Convolutional neural networks at constrained time cost", equation 1.
    """
    return multiply_adds(check_stages("complexity", stages), image_size_pair("complexity", image_size), "complexity")


def multiply_adds(stages, image_size, where):
    """As `complexity`, of arguments that were checked."""
    return sum(layer.multiply_adds for layer in convolutions(stages, image_size, where))


def convolutions(stages, image_size, where):
    """Every Convolution of the stages, from input to output; ValueError where nothing is left of the map."""
    layers, channels = [], _RGB
    for number, stage in enumerate(stages):
        image_size = tuple(side // stage.pool for side in image_size)
        for place in range(stage.depth):
            strides, margin = (1 if place else stage.strides), _margin(stage, place)
            image_size = tuple(_side(side, stage.kernel_size, strides, margin) for side in image_size)
            if min(image_size) < 1:
                mend = "Pass a larger image_size, or fewer strides and poolings."
                raise ValueError(
                    complaint(where, "every stage must leave a map", f"none after stage {number + 1}", mend)
                )
            pool = 1 if place else stage.pool
            layers.append(Convolution(channels, stage.width, stage.kernel_size, strides, pool, margin, image_size))
            channels = stage.width
    return tuple(layers)


def check_stages(where, stages):
    """The stages as a tuple; raise unless they are some, each a ConvStage."""
    mend = "Pass stages=[recipes.ConvStage(depth=2, width=64), ...]."
    if not isinstance(stages, (list, tuple)):
        raise TypeError(complaint(where, "stages must be a list of ConvStage", repr(stages), mend))
    for stage in stages:
        if not isinstance(stage, ConvStage):
            raise TypeError(complaint(where, "stages must be a list of ConvStage", f"{stage!r} in it", mend))
    if not stages:
        raise ValueError(complaint(where, "stages must hold a stage", "none", mend))
    return tuple(stages)


def _margin(stage, place):
    """Zeros around the input; by turns too few and too many by half a pixel, where the kernel is even."""
    if stage.padding == "same":
        return None
    if stage.padding == "valid":
        return 0
    return stage.kernel_size // 2 if place % 2 else (stage.kernel_size - 1) // 2


def _side(side, kernel_size, strides, margin):
    if margin is None:
        return -(-side // strides)
    return (side + 2 * margin - kernel_size) // strides + 1
