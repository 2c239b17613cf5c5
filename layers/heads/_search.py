"""Exact nearest rows of a store, by blocks, so that memory stays bounded by queries × block."""

from keras import ops

BLOCK = 16384  # rows compared at once; on 2 cores 8,192–32,768 are equally fast
GROUP = 32  # columns of a block of which only the best is ranked at first


def candidates_for(k):
    """How many rows the rounded scores must offer, so that the k nearest are among them."""
    return k + max(k, 16)


def plan_blocks(rows, candidates, block=BLOCK):
    """(rows of a block, number of blocks, size of a group) that cover `rows`; the last block may overlap."""
    group = GROUP if min(rows, block) >= 4 * candidates * GROUP else 1
    count = -(-rows // block)
    if count > 1 or rows % group:
        count = max(count, 2)
    size = -(-rows // count)
    return min(-(-size // group) * group, rows), count, group


def find_nearest(queries, features, center, size, k, block=BLOCK):
    """The k nearest rows of each query.

    Rows are ranked by q·b − |b|²/2, which needs one matrix product a block; both are taken relative to `center`, since
    otherwise an offset common to all would cancel the digits that count. The best of them, more than k, are then
    ranked by the sum of squared differences.

    Args:
        queries: `(queries, features)`, float32.
        features: `(rows, features)`, float32, of which the first `size` are in use.
        center: `(features,)`; anything is right, the mean of the rows is precise.
        size: number of rows in use, as a tensor.
        k: how many to find, at most the number of rows.
        block: rows compared at once.

    Returns:
        `(indices, squared distances)`, both `(queries, k)`, nearest first and ties by index; where fewer than k rows
        are in use, the rest has index −1 and distance infinity.
    """
    rows, width = features.shape
    most = min(candidates_for(k), rows)
    length, count, group = plan_blocks(rows, most, block)
    sought = ops.stop_gradient(queries) - center

    def rank_block(number):
        start = ops.cast(ops.minimum(number * length, rows - length), "int32")
        part = ops.slice(features, (start, 0), (length, width)) - center
        row = start + ops.arange(length, dtype="int32")
        usable = ops.logical_and(row >= number * length, row < size)  # the last block may repeat rows of another
        penalty = ops.where(usable, 0.5 * ops.sum(ops.square(part), axis=1), float("inf"))
        scores, places = _best(ops.matmul(sought, ops.transpose(part)) - penalty, most, group)
        return scores, ops.where(scores > -float("inf"), places + start, -1)

    def merge(number, best):
        scores, indices = (ops.concatenate(two, axis=1) for two in zip(best, rank_block(number), strict=True))
        scores, places = ops.top_k(scores, most, sorted=False)
        return scores, ops.take_along_axis(indices, ops.cast(places, "int32"), axis=1)

    # Fewer than `most` of a block may be asked for, when the block is shorter; then all of it goes on.
    best = _widen(rank_block(0), most)
    indices = (ops.fori_loop(1, count, merge, best) if count > 1 else best)[1]
    return _rank_exactly(queries, features, ops.sort(indices, axis=1), k)


def _best(scores, most, group):
    """The `most` largest of each row, and where they stand.

    The largest are all in those groups whose own largest are largest: so that the slow ranking sees one value of each
    group first, and then only the groups that were chosen.
    """
    length = scores.shape[1]
    if group == 1:
        scores, places = ops.top_k(scores, min(most, length), sorted=False)
        return scores, ops.cast(places, "int32")
    groups = length // group
    table = ops.reshape(scores, (-1, group, groups))
    chosen = ops.cast(ops.top_k(ops.max(table, axis=1), most, sorted=False)[1], "int32")[:, None, :]
    chosen = ops.repeat(chosen, group, axis=1)
    few = ops.reshape(ops.take_along_axis(table, chosen, axis=2), (-1, group * most))
    places = ops.reshape(chosen + groups * ops.arange(group, dtype="int32")[:, None], (-1, group * most))
    best, among = ops.top_k(few, most, sorted=False)
    return best, ops.take_along_axis(places, ops.cast(among, "int32"), axis=1)


def _widen(best, most):
    scores, indices = best
    lacking = ((0, 0), (0, most - scores.shape[1]))
    return ops.pad(scores, lacking, constant_values=-float("inf")), ops.pad(indices, lacking, constant_values=-1)


def _rank_exactly(queries, features, indices, k):
    """The k nearest of the rows at `indices`, which ascend, by the sum of squared differences."""
    found = ops.take(features, ops.maximum(indices, 0), axis=0)
    squares = ops.sum(ops.square(queries[:, None, :] - found), axis=-1)
    squares = ops.where(indices >= 0, squares, float("inf"))
    order = ops.cast(ops.argsort(ops.stop_gradient(squares), axis=1), "int32")[:, :k]  # stable on every backend
    return ops.take_along_axis(indices, order, axis=1), ops.take_along_axis(squares, order, axis=1)
