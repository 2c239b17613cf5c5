"""Which stages a fine-tuning runs through."""

import dataclasses

from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.values import Stage

PLANS = ("default", "head", "all", "auto")
_EPOCHS = {"head": 10, "blocks": 10, "all": 30}


def make_plan(*, plan, pretrained, epochs, learning_rate, layer_ratios, layer_decay, where):
    """The stages of a fine-tuning.

    Args:
        plan: `"default"`: the head on the frozen base, then the top blocks and the intermediate ones too; for a base
            without pretrained weights the same as `"all"`. `"head"`: the head alone. `"all"`: everything in one stage
            at one rate. `"auto"`: as `"default"`, until it is decided. Or Stages (or dictionaries of their fields),
            which then hold all the other arguments.
        pretrained: whether the base has weights worth keeping.
        epochs: most epochs of every stage, or one number per stage; None for 10 and 10, or 30 for `"all"`.
        learning_rate: rate of the head.
        layer_ratios: ratios of head, top blocks and intermediate blocks in the stage that trains blocks.
        layer_decay: instead of the last two: a factor per block downwards.
        where: for errors.
    """
    if not isinstance(plan, str):
        return _given(plan, where)
    check_choice(where, "plan", plan, PLANS)
    check_number(where, "learning_rate", learning_rate, above=True)
    head, top, intermediate = _check_ratios(layer_ratios, where)
    if plan == "auto":
        plan = "default"
        if isinstance(epochs, (tuple, list)):
            rule = 'with plan="auto", epochs must be one number, for the stages are not known yet'
            raise ValueError(complaint(where, rule, repr(epochs), "Pass epochs=10, say, or leave it out."))
    if plan == "all" or (plan == "default" and not pretrained):
        stages = [Stage("all", _EPOCHS["all"], learning_rate, 1.0, 1.0, 1.0, 1.0)]
    else:
        stages = [Stage("head", _EPOCHS["head"], learning_rate, head)]
        if plan == "default" and layer_decay is not None:
            stages.append(Stage("blocks", _EPOCHS["blocks"], learning_rate, head, layer_decay=layer_decay))
        elif plan == "default":
            stages.append(Stage("blocks", _EPOCHS["blocks"], learning_rate, head, top, intermediate))
    return tuple(_with_epochs(stages, epochs, where))


def _given(plan, where):
    stages = (plan,) if isinstance(plan, (Stage, dict)) else tuple(plan)
    try:
        stages = tuple(Stage(**stage) if isinstance(stage, dict) else stage for stage in stages)
    except TypeError as error:
        mend = "Its fields are name, epochs, learning_rate, head, top, intermediate, early, layer_decay and top_blocks."
        raise TypeError(complaint(where, "a stage of the plan has a wrong field", str(error), mend)) from error
    wrong = next((stage for stage in stages if not isinstance(stage, Stage)), None)
    if not stages or wrong is not None:
        mend = f"Pass one of {', '.join(map(repr, PLANS))}, or recipes.Stage(...) one after the other."
        raise TypeError(complaint(where, "plan must hold stages", repr(wrong if stages else plan), mend))
    return stages


def _check_ratios(layer_ratios, where):
    if not isinstance(layer_ratios, (tuple, list)) or len(layer_ratios) != 3:
        mend = "Pass layer_ratios=(1.0, 0.1, 0.01)."
        rule = "layer_ratios must be three numbers: head, top blocks, intermediate blocks"
        raise ValueError(complaint(where, rule, repr(layer_ratios), mend))
    for ratio in layer_ratios:
        check_number(where, "layer_ratios", ratio)
    return layer_ratios


def _with_epochs(stages, epochs, where):
    if epochs is None:
        return stages
    if not isinstance(epochs, (tuple, list)):
        epochs = (epochs,) * len(stages)
    if len(epochs) != len(stages):
        mend = f"Pass one number, or one each for {', '.join(stage.name for stage in stages)}."
        raise ValueError(complaint(where, f"epochs must fit the {len(stages)} stage(s)", repr(epochs), mend))
    for number in epochs:
        check_whole(where, "epochs", number)
    return [dataclasses.replace(stage, epochs=int(number)) for stage, number in zip(stages, epochs, strict=True)]
