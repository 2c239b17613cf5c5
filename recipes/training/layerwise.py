"""Layer-wise learning rates around any elementwise Keras optimizer."""

import re

import keras

from recipes.checks import check_number, complaint
from recipes.training.fusing import Fusion, is_fusable

SPARED = ("bias", "gamma", "beta")  # biases and normalisation, which decoupled weight decay usually leaves alone


@keras.saving.register_keras_serializable("keras_recipes")
class LayerwiseOptimizer(keras.optimizers.Optimizer):
    """Wraps a Keras optimizer so that groups of variables learn at multiples of its rate.

    A variable's step is `ratio × learning rate × direction`, with the ratio inside the optimizer's own update and not
    on its gradient, so it holds under Adam as under SGD. Decoupled weight decay is `ratio × learning rate ×
    weight_decay × variable`. Everything else is the wrapped optimizer's and is done once over all groups: schedules,
    `learning_rate` as callbacks set it, clipping by global norm, moving averages, accumulation, iterations.

    Under TensorFlow, variables of one ratio are joined to one vector while an elementwise optimizer takes its step:
    the same numbers, in a graph of a sixth of the operations, so training starts earlier.

    Args:
        inner_optimizer: an unbuilt Keras optimizer, which the wrapper takes over.
        ratios: `{regular expression: ratio}`. A variable takes the ratio of the first expression that matches its path
            (`"model/block5_conv1/kernel"`) to the end, from the start or from a slash on (`"block5_conv1/.*"`);
            else 1. Ratios are 0 or more.
        undecayed: names of variables that weight decay spares, beside those that `exclude_from_weight_decay` names.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or wraps others itself.
        ValueError: it is built already, a ratio is negative, or (when first used) an expression matches no variable.

    Reference:
        Howard & Ruder 2018, "Universal language model fine-tuning" (discriminative rates); Loshchilov & Hutter 2019
        (decoupled decay).

    Example:
        >>> import keras, recipes
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"), keras.layers.Dense(2)])
        >>> optimizer = recipes.LayerwiseOptimizer(keras.optimizers.AdamW(1e-3), {"body/.*": 0.1})
        >>> model.compile(optimizer, loss="mse")
    """

    def __init__(self, inner_optimizer, ratios, undecayed=SPARED, name=None):
        _check_inner(inner_optimizer)
        for pattern, ratio in dict(ratios).items():
            check_number("LayerwiseOptimizer", f"the ratio of {pattern!r}", ratio)
        super().__init__(learning_rate=0.0, name=name or f"layerwise_{inner_optimizer.name}")
        self.ratios = dict(ratios)
        self.undecayed = tuple(undecayed)
        self.inner_optimizer = inner_optimizer
        # Keras applies weight decay at the base rate; here it is applied in `_step`, at each variable's own rate.
        self.weight_decay = inner_optimizer.weight_decay
        inner_optimizer.weight_decay = None
        self._update = inner_optimizer.update_step
        inner_optimizer.update_step = self._step
        self._ratio_of = []
        self._decays = []
        self._fusion = None

    def build(self, variables):
        if self.built:
            return
        paths = [variable.path for variable in variables]
        unused = [pattern for pattern in self.ratios if not any(_fits(pattern, path) for path in paths)]
        if unused:
            mend = f"Paths look like {', '.join(repr(path) for path in paths[:3])}."
            rule = "a pattern of ratios matches no trainable variable"
            raise ValueError(complaint("LayerwiseOptimizer", rule, repr(unused[0]), mend))
        ratios = [self._ratio(path) for path in paths]
        inner = self.inner_optimizer
        decays = [
            inner._use_weight_decay(variable) and not any(word in variable.name for word in self.undecayed)
            for variable in variables
        ]
        units = list(range(len(variables)))  # what the optimizer updates, by the position of its first variable
        if is_fusable(inner, variables):
            self._fusion = Fusion(variables, list(zip(ratios, decays, strict=True)))
            units = [members[0] for members in self._fusion.members]
        self._ratio_of, self._decays = [ratios[unit] for unit in units], [decays[unit] for unit in units]
        inner.build(self._fusion.vectors if self._fusion else variables)
        super().build(variables)
        self.use_ema = inner.use_ema
        if inner.use_ema:  # where `keras.callbacks.SwapEMAWeights` looks for them
            self._model_variables_moving_average = inner._model_variables_moving_average

    def _ratio(self, path):
        return next((ratio for pattern, ratio in self.ratios.items() if _fits(pattern, path)), 1.0)

    def _step(self, gradient, variable, learning_rate):
        """The wrapped optimizer's update of one variable, at that variable's own rate."""
        inner = self.inner_optimizer
        index = inner._get_variable_index(variable)
        rate = learning_rate * self._ratio_of[index]
        if self.weight_decay and self._decays[index]:
            decay = keras.ops.cast(rate * self.weight_decay, variable.dtype)
            inner.assign_sub(variable, variable * decay)
        self._update(gradient, variable, rate)

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            with keras.name_scope(self.name):
                self.build(list(trainable_variables))
        if self._fusion is None:
            self.inner_optimizer.apply(grads, trainable_variables)
            return
        grads = list(grads)
        self.inner_optimizer.apply(self._fusion.gather(grads), self._fusion.vectors)
        self._fusion.scatter(grads)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    @property
    def loss_scale_factor(self):
        """That of the inner optimizer; `keras.optimizers.LossScaleOptimizer` sets it to None and scales itself."""
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        if hasattr(self, "inner_optimizer"):  # Keras sets it first when there is none yet
            self.inner_optimizer.loss_scale_factor = factor

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    @property
    def variables(self):
        return self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        """The base rate: that of a variable whose ratio is 1."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        inner["config"]["weight_decay"] = self.weight_decay
        return {"inner_optimizer": inner, "ratios": self.ratios, "undecayed": list(self.undecayed), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = keras.saving.deserialize_keras_object(config["inner_optimizer"], custom_objects=custom_objects)
        return cls(inner, config["ratios"], config["undecayed"], config["name"])


def _fits(pattern, path):
    return re.search(f"(?:^|/)(?:{pattern})$", path) is not None


WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer, LayerwiseOptimizer)


def _check_inner(optimizer):
    where = "LayerwiseOptimizer"
    if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(optimizer, WRAPPERS):
        rule = "inner_optimizer must be a Keras optimizer that does not wrap others"
        mend = "Pass keras.optimizers.AdamW(1e-3), say; Keras adds loss scaling outside by itself."
        raise TypeError(complaint(where, rule, repr(optimizer), mend))
    if optimizer.built:
        mend = "Pass a new one: it is built when training starts."
        raise ValueError(complaint(where, "inner_optimizer must not be built yet", repr(optimizer.name), mend))
