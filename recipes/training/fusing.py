"""Many small variables as a few long vectors, so that an elementwise optimizer updates each vector at once."""

import keras

_LARGE = 2**20  # elements; from here on a copy costs more than the few operations it saves
# What these do to one number depends on no other number of the variable.
_ELEMENTWISE = (
    keras.optimizers.Adadelta,
    keras.optimizers.Adagrad,
    keras.optimizers.Adam,
    keras.optimizers.Adamax,
    keras.optimizers.AdamW,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
    keras.optimizers.SGD,
)


def is_fusable(optimizer, variables):
    """Whether `optimizer` gives the same on variables joined end to end as on each alone.

    Norms per variable and moving averages that callbacks look up by variable do not; nor can replicas be joined.
    """
    return (
        keras.backend.backend() == "tensorflow"
        and type(optimizer) in _ELEMENTWISE
        and optimizer.clipnorm is None
        and not optimizer.use_ema
        and all(_replicas(variable) == 1 for variable in variables)
        and not any(getattr(variable, "overwrite_with_gradient", False) for variable in variables)
    )


def _replicas(variable):
    strategy = getattr(variable.value, "distribute_strategy", None)
    return strategy.num_replicas_in_sync if strategy else 1


class Fusion:
    """Vectors that stand for groups of variables while an optimizer takes a step.

    Args:
        variables: built Keras variables.
        kinds: one hashable value per variable: variables of one kind are updated alike and may be joined. A variable of
            a million numbers or more stays by itself.

    Attributes:
        members: for each vector, the positions of its variables.
        vectors: for each group, the variable itself where it is alone, else a Keras variable of shape `(numbers,)`.
    """

    def __init__(self, variables, kinds):
        self._variables = list(variables)
        groups = {}
        for position, (variable, kind) in enumerate(zip(variables, kinds, strict=True)):
            alone = _size(variable) >= _LARGE
            groups.setdefault((position if alone else None, kind, variable.dtype), []).append(position)
        self.members = list(groups.values())
        self.vectors = [self._vector(number, members) for number, members in enumerate(self.members)]

    def _vector(self, number, members):
        first = self._variables[members[0]]
        if len(members) == 1:
            return first
        size = sum(_size(self._variables[position]) for position in members)
        return keras.Variable(
            keras.ops.zeros((size,), first.dtype), dtype=first.dtype, trainable=False, name=f"joined_{number}"
        )

    def gather(self, gradients):
        """Bring the vectors up to the variables; the gradients joined alike, where a missing one counts as zeros."""
        joined = []
        for vector, members in zip(self.vectors, self.members, strict=True):
            if len(members) == 1:
                joined.append(gradients[members[0]])
                continue
            variables = [self._variables[position] for position in members]
            vector.assign(_joined(variables))
            parts = [
                keras.ops.zeros_like(variable) if gradients[position] is None else gradients[position]
                for position, variable in zip(members, variables, strict=True)
            ]
            joined.append(_joined(keras.ops.convert_to_tensor(part) for part in parts))
        return joined

    def scatter(self, gradients):
        """Bring the variables that have a gradient up to the vectors, and keep to their constraints."""
        for vector, members in zip(self.vectors, self.members, strict=True):
            if len(members) == 1:
                continue  # the optimizer has seen to it
            variables = [self._variables[position] for position in members]
            ends, end = [], 0
            for variable in variables:
                end += _size(variable)
                ends.append(end)
            parts = keras.ops.split(keras.ops.convert_to_tensor(vector.value), ends[:-1])
            for position, variable, part in zip(members, variables, parts, strict=True):
                if gradients[position] is not None:
                    value = keras.ops.reshape(part, variable.shape)
                    variable.assign(value if variable.constraint is None else variable.constraint(value))


def _size(variable):
    size = 1
    for side in variable.shape:
        size *= side
    return size


def _joined(tensors):
    return keras.ops.concatenate([keras.ops.reshape(tensor, (-1,)) for tensor in tensors])
