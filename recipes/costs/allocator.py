"""TensorFlow's allocator, by its book-keeping alone: which piece of memory a tensor gets, and how large the piece is.

On GPUs, and on CPUs with oneDNN, TensorFlow takes memory from the system in regions of growing size, cuts pieces from
them, and joins pieces again when they are freed. A tensor gets the smallest free piece that holds it; from a piece less
than twice its size nothing is cut off, so a tensor can hold nearly twice what it asked for. That is why a network takes
more than its tensors add up to. The rules are those of `bfc_allocator.cc`.
"""

import bisect
import dataclasses

_UNIT = 256  # bytes: sizes are rounded up to whole ones
_SMALL = 2**18  # bytes: on a CPU, tensors below do not come from regions
_FIRST_REGION = 2**21
_LARGEST_WASTE = 2**27  # more than this is cut off in any case


@dataclasses.dataclass(eq=False)
class Piece:
    """A stretch of a region, free or in use, between its neighbours.

    Args:
        size: in bytes.
        number: in the order of cutting; of free pieces of one size, the oldest is taken.
        before: the piece before it in the region, or None.
        after: likewise.
        is_free: whether no tensor holds it.
    """

    size: int
    number: int = 0
    before: "Piece | None" = None
    after: "Piece | None" = None
    is_free: bool = False


class Allocator:
    """Hands out pieces and counts what is in use.

    Attributes:
        in_use: bytes of all pieces that tensors hold.
        peak: the most that ever was.
    """

    def __init__(self):
        self.in_use = self.peak = 0
        self._region = _FIRST_REGION
        self._free = []  # (size, number, piece), in order
        self._number = 0

    def take(self, size):
        """A piece for a tensor of `size` bytes."""
        piece = Piece(size) if size < _SMALL else self._cut(-(-size // _UNIT) * _UNIT)
        self.in_use += piece.size
        self.peak = max(self.peak, self.in_use)
        return piece

    def give_back(self, piece):
        """Free a piece and join it with free neighbours."""
        self.in_use -= piece.size
        if piece.number:
            for neighbour in (piece.before, piece.after):
                if neighbour is not None and neighbour.is_free:
                    self._unlist(neighbour)
                    self._join(piece, neighbour)
            self._list(piece)

    def _cut(self, size):
        place = bisect.bisect_left(self._free, (size,))
        if place == len(self._free):
            self._grow(size)
            place = bisect.bisect_left(self._free, (size,))
        piece = self._free.pop(place)[-1]
        piece.is_free = False
        if piece.size >= 2 * size or piece.size - size >= _LARGEST_WASTE:
            rest = Piece(piece.size - size, self._next(), piece, piece.after)
            if piece.after is not None:
                piece.after.before = rest
            piece.after, piece.size = rest, size
            self._list(rest)
        return piece

    def _grow(self, size):
        """Take another region from the system: twice the last, or more where it takes more."""
        if size <= self._region:
            region, self._region = self._region, 2 * self._region
        else:
            while size > self._region:
                self._region *= 2
            region = self._region
        self._list(Piece(region, self._next()))

    def _join(self, piece, neighbour):
        piece.size += neighbour.size
        if neighbour is piece.before:
            piece.before = neighbour.before
            if piece.before is not None:
                piece.before.after = piece
        else:
            piece.after = neighbour.after
            if piece.after is not None:
                piece.after.before = piece

    def _list(self, piece):
        piece.is_free = True
        bisect.insort(self._free, (piece.size, piece.number, piece))

    def _unlist(self, piece):
        del self._free[bisect.bisect_left(self._free, (piece.size, piece.number))]

    def _next(self):
        self._number += 1
        return self._number
