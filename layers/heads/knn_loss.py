"""KNNLoss: each element of a batch is classified by the others with weight 1/distance."""

import keras
from keras import ops

from layers._arguments import check_number
from layers.heads._leave_one_out import LeaveOneOutLoss


@keras.saving.register_keras_serializable("keras_recipes")
class KNNLoss(LeaveOneOutLoss):
    """Leave-one-out loss of weighted neighbours: weight of j for i = (d² + epsilon)^(−power/2).

    loss of i = −log(summed weight of the others of i's label / summed weight of all others), for embeddings as
    predictions. It does not change with the scale of the embeddings, and 1/distance has heavy tails: in a batch of 128
    with 10 classes, a probability of .99 needs other classes 966 times as far as the own with power 1, 5.6 times with
    power 4. So power 1 is the historical choice and a larger one trains better. An element alone of its label in its
    batch has loss 0.

    Args:
        power: exponent of the distance, above 0.
        epsilon: added to the squared distance, above 0, so that duplicated rows have finite gradients.
        **kwargs: `name`, `reduction` and so on, as every Keras loss takes them.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Olah 2014, "Neural networks, manifolds, and topology" (power 1 and all others of the batch).

    Example:
        >>> import layers
        >>> embeddings = [[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.0, 5.1]]
        >>> round(float(layers.KNNLoss(power=4)([0, 0, 1, 1], embeddings)), 3)
        0.0
    """

    def __init__(self, power=1.0, *, epsilon=1e-6, name="knn_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        check_number("KNNLoss", "power", power, 0, above=True)
        check_number("KNNLoss", "epsilon", epsilon, 0, above=True)
        self.power = power
        self.epsilon = epsilon

    def log_weights(self, squares):
        return -0.5 * self.power * ops.log(squares + self.epsilon)

    def get_config(self):
        return {**super().get_config(), "power": self.power, "epsilon": self.epsilon}
