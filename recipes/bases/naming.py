"""Layer names that are the same in every build, whatever was built before in the process."""

import re

import keras

from recipes.bases.composites import composite_graph


def stable_names(model, taken=()):
    """The name in a flat copy for each operation of `model` and of the models nested in it, by `id`.

    Keras counts on through a process: the same network holds `conv2d_1` today and `conv2d_95` after another was built.
    Such names are counted anew from the first, in the order in which they were given. All others stay, unless two
    operations share one or it is among `taken`: then the name of the enclosing model is put in front. The parts of a
    block of `layers` bear its name and their own.
    """
    operations = list(_operations(model))
    names = {}
    used = set(taken)
    counted = sorted(
        (entry for entry in operations if _count(entry[0]) is not None), key=lambda entry: _count(entry[0])
    )
    plain = [entry for entry in operations if _count(entry[0]) is None]
    totals = {}
    for operation, owner in plain:
        names[id(operation)] = _unused(operation.name, owner, used)
    for operation, owner in counted:
        kind = _kind(operation)
        index = totals[kind] = totals.get(kind, -1) + 1
        names[id(operation)] = _unused(f"{kind}_{index}" if index else kind, owner, used)
    for operation, owner in operations:
        graph = composite_graph(operation)
        inner = stable_names(graph) if graph else {}
        names.update({key: _unused(f"{names[id(operation)]}_{part}", owner, used) for key, part in inner.items()})
    return names


def named_layers(model):
    """Every layer of `model` and of the models nested in it by its stable name."""
    names = stable_names(model)
    return {names[id(layer)]: layer for layer in _leaves(model) if isinstance(layer, keras.layers.Layer)}


def _leaves(model):
    """Every operation of `model`, of the models nested in it and of the blocks of `layers`, once."""
    for operation, _ in _operations(model):
        graph = composite_graph(operation)
        yield from _leaves(graph) if graph else (operation,)


def without_count(name):
    """`name` without the number that Keras appends to names it makes up: `functional_3` → `functional`."""
    return re.sub(r"_\d+$", "", name)


def _operations(model):
    """Every operation that is not itself a model, once, with the name of the model that holds it."""
    seen = set()
    waiting = [(operation, model.name) for operation in inner_operations(model)]
    while waiting:
        operation, owner = waiting.pop(0)
        if id(operation) in seen or isinstance(operation, keras.layers.InputLayer):
            continue
        seen.add(id(operation))
        if isinstance(operation, keras.Model):
            waiting = [(inner, operation.name) for inner in inner_operations(operation)] + waiting
        else:
            yield operation, owner


def inner_operations(model):
    """The layers and operations of a functional or sequential model."""
    return model.layers if isinstance(model, keras.Sequential) else model.operations


def _kind(operation):
    """`Conv2D` → `conv2d`, `MaxPooling2D` → `max_pooling2d`, as Keras makes names up."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(operation).__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _count(operation):
    """The number in a name that Keras made up (0 for the first of its kind), None for a name that someone gave."""
    found = re.fullmatch(rf"{re.escape(_kind(operation))}(?:_(\d+))?", operation.name)
    return int(found[1] or 0) if found else None


def _unused(name, owner, used):
    # Slashes stand in names of old Keras files, but a new file may not hold them.
    wanted = name.replace("/", "_")
    candidate = wanted
    suffix = 1
    while candidate in used:
        candidate = f"{without_count(owner)}_{wanted}" if suffix == 1 else f"{without_count(owner)}_{wanted}_{suffix}"
        suffix += 1
    used.add(candidate)
    return candidate
