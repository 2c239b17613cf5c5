"""The redesign verb: other networks of the same cost."""

import itertools

from recipes.checks import check_whole, complaint, image_size_pair
from recipes.redesigning.designs import Design, Designs
from recipes.redesigning.moves import has_its_price, moves
from recipes.redesigning.stages import check_stages, convolutions, multiply_adds
from recipes.redesigning.widths import fitted


def redesign(stages, *, image_size, classes, budget=None, most=None):
    """List networks of equal cost that trade kernel size, width and depth for one another.

    1. Bring the network to the budget, if it is another than its own cost, by one factor for all widths.
    2. Trade kernel size for depth (a kernel of 5 for two of 3, of 3 for two of 2), width for depth, and both; and each
       the other way round, so that deeper and wider can be compared.
    3. Fit the widths of the stages that changed, all by one factor; where only kernels and depth are traded, they stay
       as they are if that meets the budget. Multiples of 8 are preferred. A design more than 5 % off the budget, or
       with a stage of less than an eighth of the width that was given, is left out.
    4. Order them by depth, and equally deep ones by their distance from the budget.

    Cost is what `recipes.complexity` counts. Equal cost is not equal time: small kernels and narrow layers use a
    processor less well, which `Designs.timed` shows. Nothing is built or random here.

    Args:
        stages: `ConvStage`s, from input to output.
        image_size: pixels, one number or `(height, width)`.
        classes: number of outputs, 2 or more.
        budget: multiply-adds of the convolutions for one image. Default: what the network given costs.
        most: most designs, the given one included: of each move in turn, the extremes of depth first. Default: all.

    Returns:
        `Designs`, which print as a table. Each `Design` has `build()`; all together have `timed()`, which measures
        them, and `builder()`, a function for `recipes.search(data, build=...)`.

    Raises:
        TypeError, ValueError: an argument is wrong, nothing is left of the map, or no width meets the budget.

    Example:
        >>> import recipes
        >>> stages = [recipes.ConvStage(2, 16), recipes.ConvStage(2, 32, pool=2)]
        >>> designs = recipes.redesign(stages, image_size=32, classes=10)
        >>> [design.name for design in designs if design.move == "kernel for depth"]
        ['(2,15)x4 p2 (3,32)x2', '(3,16)x2 p2 (2,32)x4', '(2,16)x4 p2 (2,30)x4']
        >>> designs[-1].depth, designs.given.build().output_shape
        (48, (None, 10))

    Source:
        He & Sun 2014, "Convolutional neural networks at constrained time cost".
    """
    where = "redesign"
    stages, image_size = check_stages(where, stages), image_size_pair(where, image_size)
    _check(classes, budget, most, where)
    own = multiply_adds(stages, image_size, where)
    budget = own if budget is None else int(budget)
    given = fitted(stages, range(len(stages)), budget, image_size, where)
    if given is None:
        rule, mend = "budget must be reachable by other widths of this network", f"It costs {own} as it is."
        raise ValueError(complaint(where, rule, budget, mend))

    found = [("none", given), *_alternatives(given, budget, image_size, where)]
    designs = [_design(move, stages, image_size, int(classes), budget) for move, stages in found]
    return Designs(tuple(_in_order(_some(designs, most))), designs[0], budget)


def _check(classes, budget, most, where):
    check_whole(where, "classes", classes, least=2)
    for name, value in (("budget", budget), ("most", most)):
        if value is not None:
            check_whole(where, name, value)


def _alternatives(given, budget, image_size, where):
    """(move, stages) of every other network that meets the budget, each once, under its first move."""
    seen = {given}
    for move, stages, changed in moves(given):
        try:
            found = fitted(stages, changed, budget, image_size, where, may_stay="width" not in move)
        except ValueError:  # more layers without padding than the map can bear
            continue
        if found is None or found in seen or not has_its_price(move, found, given):
            continue
        seen.add(found)
        yield move, found


def _design(move, stages, image_size, classes, budget):
    layers = convolutions(stages, image_size, "redesign")
    cost, weights = (sum(getattr(layer, what) for layer in layers) for what in ("multiply_adds", "weights"))
    parameters = weights + (stages[-1].width + 1) * classes
    return Design(stages, move, image_size, classes, cost, cost / budget, parameters)


def _in_order(designs):
    return sorted(designs, key=lambda design: (design.depth, abs(design.ratio - 1), design.name))


def _some(designs, most):
    """At most so many designs, of each move in turn; the given one is first."""
    moves_there = dict.fromkeys(design.move for design in designs)
    queues = [_spread(_in_order([design for design in designs if design.move == move])) for move in moves_there]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    return list(filter(None, turns))[:most]


def _spread(designs):
    """The last, the first, and then by turns what halves the largest gap."""
    order, gaps = [len(designs) - 1, 0], [(0, len(designs) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if low < middle:
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return [designs[place] for place in dict.fromkeys(order)]
