"""The ways in which a layer is the product of thinner ones: what each would cost and keep, and the layers it gives."""

import abc
import dataclasses
import math

import keras
import numpy as np

_SWEEPS = 3  # of alternating least squares, after which Tucker's factors hardly move


@dataclasses.dataclass(frozen=True)
class Piece:
    """One of the layers that stand in a layer's place.

    Args:
        suffix: of its name.
        kernel: in double precision.
        arguments: those in which it differs from a layer of that kind without strides and dilation.
    """

    suffix: str
    kernel: np.ndarray
    arguments: dict = dataclasses.field(default_factory=dict)


class Way(abc.ABC):
    """One way of factoring a built layer.

    Attributes:
        layer: Conv2D or Dense that is factored.
        kernel: its kernel in double precision.
        ranks: whole numbers `(choices, ranks)`: what there is to choose from.
        costs: multiply-adds on one image, by choice.
        energies: share of the squared kernel that is kept, by choice, 0–1.
    """

    kind = ""

    def __init__(self, layer):
        self.layer = layer
        self.kernel = keras.ops.convert_to_numpy(layer.kernel).astype(np.float64)
        self.ranks, self.costs, self.energies = self._measure()

    @abc.abstractmethod
    def _measure(self):
        """Ranks, costs and energies."""

    @abc.abstractmethod
    def pieces(self, ranks):
        """The Pieces that stand in the layer's place, the last of which takes bias and activation."""

    @abc.abstractmethod
    def composed(self, kernels):
        """The kernel of one layer that does what the pieces do."""


class Product(Way):
    """Dense or 1×1: as many outputs as the rank, then the rest, by singular values (Denton et al. 2014)."""

    kind = "svd"

    def _measure(self):
        self._matrix = self.kernel.reshape(self.kernel.shape[-2:])
        self._factors, energies = _truncations(self._matrix)
        ranks = np.arange(1, len(energies) + 1)
        return ranks[:, None], ranks * sum(self._matrix.shape) * positions(self.layer)[-1], energies

    def pieces(self, ranks):
        (rank,) = ranks
        left, right = (factor.reshape(self.kernel.shape[:-2] + factor.shape) for factor in self._factors(rank))
        strides = {} if isinstance(self.layer, keras.layers.Dense) else {"strides": self.layer.strides}
        return [Piece("reduce", left, strides), Piece("expand", right)]

    def composed(self, kernels):
        left, right = kernels
        return left @ right


class Spatial(Way):
    """k×k: k×1 to as many channels as the rank, then 1×k (Jaderberg et al. 2014, scheme 2)."""

    kind = "spatial"

    def _measure(self):
        height, width, channels, filters = self.kernel.shape
        matrix = self.kernel.transpose(0, 2, 1, 3).reshape(height * channels, width * filters)
        self._factors, energies = _truncations(matrix)
        ranks = np.arange(1, len(energies) + 1)
        _, between, after = positions(self.layer)
        return ranks[:, None], ranks * (height * channels * between + width * filters * after), energies

    def pieces(self, ranks):
        height, width, channels, filters = self.kernel.shape
        left, right = self._factors(ranks[0])
        vertical = left.reshape(height, 1, channels, -1)
        horizontal = right.reshape(1, -1, width, filters).transpose(0, 2, 1, 3)
        return [
            Piece("vertical", vertical, self._along(0)),
            Piece("horizontal", horizontal, self._along(1)),
        ]

    def _along(self, axis):
        """Stride and dilation of the layer along one axis: padding then is what the layer's is along that axis."""
        layer = self.layer
        return {name: tuple(np.where(np.arange(2) == axis, getattr(layer, name), 1).tolist()) for name in _STEPS} | {
            "padding": layer.padding
        }

    def composed(self, kernels):
        vertical, horizontal = kernels
        return np.einsum("hcr,wrf->hwcf", vertical[:, 0], horizontal[0])


class Tucker(Way):
    """k×k: 1×1 to fewer channels, k×k among few channels, 1×1 to all (Kim et al. 2016).

    The ranks are those of the channels that come in and go out. Where one is all of them, its 1×1 falls away. The
    energies are those of truncated bases of the whole kernel; a few sweeps of alternating least squares then keep more.
    """

    kind = "tucker"

    def _measure(self):
        _, _, channels, filters = self.kernel.shape
        self._bases = [_directions(self.kernel, axis) for axis in (2, 3)]
        core = _onto(_onto(self.kernel, 2, self._bases[0]), 3, self._bases[1])
        kept = np.cumsum(np.cumsum(np.sum(core**2, axis=(0, 1)), axis=0), axis=1)
        few, many = np.arange(1, channels + 1)[:, None], np.arange(1, filters + 1)[None]
        before, _, after = positions(self.layer)
        costs = self.kernel.shape[0] * self.kernel.shape[1] * few * many * after
        costs = costs + (few < channels) * few * channels * before + (many < filters) * many * filters * after
        ranks = np.stack(np.broadcast_arrays(few, many), axis=-1).reshape(-1, 2)
        return ranks, costs.reshape(-1), (kept / (kept[-1, -1] or 1.0)).reshape(-1)

    def pieces(self, ranks, is_whole=False):
        """See Way; with `is_whole` there are always three."""
        bases = self._refined(ranks)
        core = _onto(_onto(self.kernel, 2, bases[0]), 3, bases[1])
        layer = self.layer
        steps = {name: getattr(layer, name) for name in (*_STEPS, "padding")}
        pieces = [
            Piece("reduce", bases[0][None, None]),
            Piece("core", core, steps),
            Piece("expand", bases[1].T[None, None]),
        ]
        if ranks[0] == self.kernel.shape[2] and not is_whole:
            pieces[:2] = [Piece("core", _onto(core, 2, bases[0].T), steps)]
        if ranks[1] == self.kernel.shape[3] and not is_whole:
            pieces[-2:] = [Piece("core", _onto(pieces[-2].kernel, 3, bases[1].T), steps)]
        return pieces

    def _refined(self, ranks):
        """Orthonormal columns along both axes of channels."""
        bases = [basis[:, :rank] for basis, rank in zip(self._bases, ranks, strict=True)]
        for _ in range(_SWEEPS):
            for place, axis in ((0, 2), (1, 3)):
                seen = _onto(self.kernel, 5 - axis, bases[1 - place])
                bases[place] = _directions(seen, axis)[:, : ranks[place]]
        return bases

    def composed(self, kernels):
        whole = next(kernel for kernel in kernels if kernel.shape[:2] == self.kernel.shape[:2])
        place = next(number for number, kernel in enumerate(kernels) if kernel is whole)
        if place:
            whole = _onto(whole, 2, kernels[0][0, 0].T)
        return _onto(whole, 3, kernels[-1][0, 0]) if place + 1 < len(kernels) else whole


_STEPS = ("strides", "dilation_rate")
KINDS = {way.kind: way for way in (Product, Spatial, Tucker)}


def positions(layer):
    """Numbers of pixels (coming in, between a vertical and a horizontal convolution, going out) of a layer."""
    before, after = layer.input.shape[1:-1], layer.output.shape[1:-1]
    between = (*after[:1], *before[1:])
    return tuple(math.prod(sides) for sides in (before, between, after))


def _truncations(matrix):
    """A function of a rank to the two factors of the best product of that rank, and the energies of all ranks.

    Both factors are of the same scale, so that they train alike.
    """
    is_wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if is_wide else matrix
    values, basis = np.linalg.eigh(tall.T @ tall)
    values, basis = np.maximum(values[::-1], 0), basis[:, ::-1]
    total = values.sum() or 1.0
    # The root of the singular value; beyond what rounding leaves of the matrix there is nothing to balance.
    scales = np.where(values > 1e-20 * total, np.maximum(values, 1e-300) ** 0.25, 1.0)

    def factors(rank):
        first = tall @ basis[:, :rank] / scales[:rank]
        second = (basis[:, :rank] * scales[:rank]).T
        return (second.T, first.T) if is_wide else (first, second)

    return factors, np.cumsum(values) / total


def _directions(kernel, axis):
    """Orthonormal columns along an axis of a kernel, the one with most energy first."""
    matrix = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    return np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1]


def _onto(kernel, axis, basis):
    """A kernel seen along one axis in the coordinates of the columns of `basis`."""
    return np.moveaxis(np.tensordot(kernel, basis, axes=(axis, 0)), -1, axis)
