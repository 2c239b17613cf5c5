"""The images of a search: opened once for each size that its trials ask for."""

import json
import os

from recipes.checks import complaint
from recipes.data import load_data
from recipes.data.loading import check_options
from recipes.searching.sharing import share
from recipes.searching.spaces import is_plain
from recipes.training.given_data import open_data
from recipes.values import Data


class Images:
    """The Data of a search, at each size that its trials ask for, opened when the first asks.

    Args:
        source: as in `recipes.search`.
        build: function of the user's, or None.
        records: Records, which note down what the images are.
        folder: in which trials find them.
        where: for errors.
    """

    def __init__(self, source, build, records, folder, where):
        self._source, self._build, self._records, self._folder, self._where = source, build, records, folder, where
        self._opened = {}

    @property
    def source_words(self):
        """The source as a command line spells it; None where it cannot."""
        source = os.fspath(self._source) if isinstance(self._source, os.PathLike) else self._source
        if isinstance(source, dict) and all(is_plain(value) for value in source.values()):
            return json.dumps(source)
        return source if isinstance(source, str) else None

    def at(self, settings):
        """(Data, the path to what trials see of it) for the settings of a trial."""
        asked = settings.get("base"), settings.get("weights", "pretrained"), settings.get("image_size")
        key = repr(asked)
        if key not in self._opened:
            data = self._open(*asked)
            if not len(data.valid):
                mend = "Load the data with valid=0.15."
                raise ValueError(complaint(self._where, "a search needs validation images", repr(data), mend))
            self._records.check_data(data.image_size, data.fingerprint)
            self._opened[key] = data, share(data, self._folder)
        return self._opened[key]

    def _open(self, base, weights, image_size):
        if self._build is None or isinstance(self._source, Data):
            return open_data(self._source, base, weights, image_size, self._where)
        source, options = check_options(self._source, self._where)
        if image_size is not None and options.get("image_size") is not None:
            received, mend = f"image_size={image_size} and {options['image_size']} in data", "Pass it once."
            raise ValueError(complaint(self._where, "image_size must be given once", received, mend))
        return load_data(source, **options | ({} if image_size is None else {"image_size": image_size}))
