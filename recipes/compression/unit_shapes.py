"""What becomes of channels where tensors are joined, reshaped, cut or summed up."""

import numpy as np

from recipes.compression.unit_calls import along, channel_axis
from recipes.compression.unit_ties import FIXED, Labels


def concatenated(call):
    """Along the channels, those of one tensor after those of the other; along other axes, they belong together."""
    axis = call.operation.axis % len(call.first.shape)
    if all(labels.axis == axis or call.ties.stays(labels.ids) for labels in call.inputs):
        parts = [labels.ids if labels.axis == axis else np.full(labels.shape[axis], FIXED) for labels in call.inputs]
        return Labels(call.shape, axis, np.concatenate(parts))
    if len({labels.axis for labels in call.inputs}) > 1:
        return "joins tensors with channels along different axes"
    for labels in call.inputs[1:]:
        call.ties.tie(call.first.ids, labels.ids)
    return Labels(call.shape, call.first.axis, call.first.ids)


@along(channel_axis)
def pooled_away(call, axis, read):
    """Height and width to one number per channel."""
    return Labels(call.shape, axis if call.operation.keepdims else 1, read)


def permuted(call):
    """Axes in another order."""
    return Labels(call.shape, call.operation.dims.index(call.first.axis) + 1, call.first.ids)


def reshaped(call):
    """Positions in another shape. Where channels would end up along two axes, all that share a place on the last go
    together: so the channels of a shuffle go from every group alike.
    """
    before, shape = call.first, call.shape
    if channel_axis(call) == 1 < len(before.shape) - 1:  # Flatten then takes the channels last
        if before.axis != 1:
            return "has its channels along other axes than the layers before it"
        before = Labels((before.shape[0], *before.shape[2:], before.shape[1]), len(before.shape) - 1, before.ids)
    if call.ties.stays(before.ids):
        return Labels.of_one(shape)
    if None in before.shape[1:] or None in shape[1:] or min(shape[1:]) < 1:
        return "reshapes images of unknown size"
    sides = [1] * (len(before.shape) - 1)
    sides[before.axis - 1] = -1
    whole = np.broadcast_to(before.ids.reshape(sides), before.shape[1:]).reshape(shape[1:])
    for axis in reversed(range(whole.ndim)):
        rows = np.moveaxis(whole, axis, -1).reshape(-1, shape[1 + axis])
        if np.all(rows == rows[0]):
            return Labels(shape, 1 + axis, rows[0])
    rows = np.unique(whole.reshape(-1, shape[-1]), axis=0)
    for row in rows[1:]:
        call.ties.tie(rows[0], row)
    return Labels(shape, len(shape) - 1, rows[0])


def sliced(call):
    """A part of a tensor, such as `x[:, ::2, ::2]` or `x[..., :16]`."""
    key = whole_key(call.args[1], len(call.first.shape))
    if key is None:
        return "takes single rows or adds axes"
    labels, part = call.first, key[call.first.axis]
    if part.step not in (None, 1) and not call.ties.stays(labels.ids):
        return "takes channels in steps"
    return Labels(call.shape, labels.axis, labels.ids[part])


def whole_key(key, rank):
    """The slice along each axis that `x[key]` means; None where it has anything but slices and an ellipsis."""
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if key.count(Ellipsis) == 0:
        key.append(Ellipsis)
    place = key.index(Ellipsis)
    key[place : place + 1] = [slice(None)] * (rank - len(key) + 1)
    return key if all(isinstance(part, slice) for part in key) else None


def padded(call):
    """Zeros appended as channels belong to what they are added to."""
    operation, labels = call.operation, call.first
    widths = operation.pad_width
    first, last = widths[labels.axis] if len(widths) > 1 else widths[0]
    if (first or last) and (operation.mode != "constant" or len(widths) == 1):
        return "repeats channels"
    return Labels(call.shape, labels.axis, np.concatenate([call.ties.new(first), labels.ids, call.ties.new(last)]))


def averaged(call):
    """A mean, sum or the like over height and width."""
    operation, rank = call.operation, len(call.first.shape)
    axes = range(rank) if operation.axis is None else np.ravel(operation.axis)
    axes = {int(axis) % rank for axis in axes}
    if call.first.axis in axes or 0 in axes:
        return "sums over channels"
    gone = 0 if operation.keepdims else sum(axis < call.first.axis for axis in axes)
    return Labels(call.shape, call.first.axis - gone, call.first.ids)
