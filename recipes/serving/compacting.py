"""LiteRT files without what no runtime reads."""

import flatbuffers
import numpy as np

_KNOWN = 2**16  # bytes up to which what was written once is looked up
_ALIGNED = 16  # bytes, as LiteRT's schema asks for buffers


def compacted(content):
    """The bytes of a LiteRT file in fewer: the same numbers, equal lists written once, and no names of inner tensors.

    A kernel with a scale per channel has as many zero points, 8 bytes each and all 0, which are most of what a small
    int8 network's file holds beside its weights. The names that a caller sees are those of the signature, and stay.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for graph in model.subgraphs:
        ends = {*graph.inputs, *graph.outputs}
        for number, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if number in ends else b""
    builder = _Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Writes equal vectors once, and weights at multiples of 16 bytes."""

    def __init__(self, size):
        super().__init__(size)
        self._known = {}

    def CreateNumpyVector(self, x):
        key = (x.dtype.str, x.tobytes()) if 0 < x.nbytes <= _KNOWN else None
        if key in self._known:
            return self._known[key]
        if x.dtype == np.uint8:
            self.Prep(_ALIGNED, x.nbytes)
        place = super().CreateNumpyVector(x)
        if key is not None:
            self._known[key] = place
        return place
