"""NCALoss: each element of a batch is classified by the others with weight exp(−d²/temperature)."""

import keras

from layers._arguments import check_number
from layers.heads._leave_one_out import LeaveOneOutLoss


@keras.saving.register_keras_serializable("keras_recipes")
class NCALoss(LeaveOneOutLoss):
    """Neighbourhood components loss: weight of j for i = exp(−d²/temperature).

    loss of i = −log(summed weight of the others of i's label / summed weight of all others), for embeddings as
    predictions; the soft nearest neighbour loss. An element alone of its label in its batch has loss 0.

    Args:
        temperature: divisor of the squared distance, above 0; smaller looks at nearer neighbours.
        **kwargs: `name`, `reduction` and so on, as every Keras loss takes them.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Goldberger et al. 2004, "Neighbourhood components analysis"; Salakhutdinov and Hinton 2007, "Learning a
        nonlinear embedding by preserving class neighbourhood structure". The first maximizes the summed probability,
        the second and this one the summed logarithm.

    Example:
        >>> import layers
        >>> embeddings = [[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.0, 5.1]]
        >>> round(float(layers.NCALoss()([0, 0, 1, 1], embeddings)), 3)
        0.0
    """

    def __init__(self, temperature=1.0, *, name="nca_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        check_number("NCALoss", "temperature", temperature, 0, above=True)
        self.temperature = temperature

    def log_weights(self, squares):
        return -squares / self.temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
