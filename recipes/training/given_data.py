"""The images that a verb is given, at the size that suits a base."""

from recipes.bases import default_image_size
from recipes.checks import complaint, image_size_pair
from recipes.data.loading import check_options, load_sized
from recipes.values import Data


def open_data(data, base, weights, image_size, where):
    """The Data, at the size that the caller asks for or the base wants."""
    wanted = image_size_pair(where, image_size) if image_size is not None else None
    if isinstance(data, Data):
        if wanted not in (None, data.image_size):
            received = f"Data of {data.image_size} and image_size={image_size}"
            mend = "Leave image_size out, or pass it to recipes.load_data."
            raise ValueError(complaint(where, "image_size must be that of the Data", received, mend))
        return data
    source, options = check_options(data, where)
    own = options.pop("image_size", None)
    if own is not None and wanted is not None:
        received, mend = f"image_size={image_size} and {own} in data", "Pass it once."
        raise ValueError(complaint(where, "image_size must be given once", received, mend))
    wanted = wanted or (image_size_pair(where, own) if own is not None else None)

    def choose_size(natural_size):
        return wanted or default_image_size(base, weights, natural_size)

    return load_sized(source, choose_size, where, **options)
