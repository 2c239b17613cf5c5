"""The table of rules: each is a function of a Graph that gives an Advice, or None where there is nothing to change."""

from recipes.advising.convolutions import large_kernel, missing_bottleneck
from recipes.advising.dense import dense_on_map
from recipes.advising.fitting import data_does_not_fit, images_smaller_than_trained
from recipes.advising.initialisation import unfitting_initialisation
from recipes.advising.inputs import inputs_not_normalized
from recipes.advising.order import bias_before_normalization, relu_before_max_pool
from recipes.advising.penalties import penalty_in_adaptive_optimizer
from recipes.advising.saturation import saturating_activation
from recipes.advising.upsampling import checkerboard

RULES = (
    inputs_not_normalized,
    data_does_not_fit,
    images_smaller_than_trained,
    unfitting_initialisation,
    saturating_activation,
    penalty_in_adaptive_optimizer,
    checkerboard,
    bias_before_normalization,
    relu_before_max_pool,
    large_kernel,
    missing_bottleneck,
    dense_on_map,
)
