"""The statistics of BatchNormalization measured anew, for weights that are no longer those they belong to."""

from recipes.training.statistics import measure_statistics, normalizations

_IMAGES = 512  # from which statistics are measured


def renormalize(model, subject):
    """Set moving means and variances to those of training images, in place, unless validation says they are worse.

    Args:
        model: flat functional model, after a cut.
        subject: Subject, whose images they are; without data nothing changes.
    """
    found = normalizations(model)
    if not found or subject.data is None:
        return
    before, values = subject.accuracy(model), [layer.get_weights() for layer in found]
    measure_statistics(model, subject.sample(_IMAGES).images())
    if before is not None and subject.accuracy(model) < before:
        for layer, value in zip(found, values, strict=True):
            layer.set_weights(value)
