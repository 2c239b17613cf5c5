"""StudentNCALoss: each element of a batch is classified by the others with the weight of Student's t."""

import keras
from keras import ops

from layers._arguments import check_number
from layers.heads._leave_one_out import LeaveOneOutLoss


@keras.saving.register_keras_serializable("keras_recipes")
class StudentNCALoss(LeaveOneOutLoss):
    """Neighbourhood components loss with heavy tails: weight of j for i = (1 + d²/degrees)^(−(degrees + 1)/2).

    loss of i = −log(summed weight of the others of i's label / summed weight of all others), for embeddings as
    predictions. Far elements still pull, which exp(−d²) lets go; near ones do not dominate, which 1/d makes infinite.
    An element alone of its label in its batch has loss 0.

    Args:
        degrees: degrees of freedom, above 0; the paper takes the width of the embedding less 1.
        **kwargs: `name`, `reduction` and so on, as every Keras loss takes them.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Min et al. 2010, "Deep supervised t-distributed embedding" (dt-NCA); here the summed logarithm is maximized.

    Example:
        >>> import layers
        >>> embeddings = [[0.0, 0.0], [0.1, 0.0], [50.0, 50.0], [50.0, 50.1]]
        >>> round(float(layers.StudentNCALoss(5.0)([0, 0, 1, 1], embeddings)), 3)
        0.0
    """

    def __init__(self, degrees=1.0, *, name="student_nca_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        check_number("StudentNCALoss", "degrees", degrees, 0, above=True)
        self.degrees = degrees

    def log_weights(self, squares):
        return -0.5 * (self.degrees + 1.0) * ops.log1p(squares / self.degrees)

    def get_config(self):
        return {**super().get_config(), "degrees": self.degrees}
