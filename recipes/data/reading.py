"""Reading the chunks of a listing: bytes to digests and pixels, in threads, with every bad file named."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import sys
import threading

import keras
import numpy as np
import tensorflow as tf

from recipes.checks import complaint
from recipes.data.decoding import VERSION, make_decoder, make_fitter
from recipes.data.headers import pixels_in, why_not
from recipes.data.listing import FILES_PER_CHUNK, Chunk
from recipes.data.store import check_space, open_store

_LARGE = 16_000_000  # pixels; images beyond are decoded one at a time, so that many threads need not much memory
_PROGRESS_FROM = 5000  # images; below that the bar would only flicker
_one_at_a_time = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Images:
    """What was read: the store, and one entry per image in the order of reading, its row in the store first."""

    store: np.ndarray
    rows: np.ndarray
    digests: list[bytes]
    labels: list
    names: list[str]
    splits: list
    skipped: list[tuple[str, str]]


def read_images(listing, image_size, channels, resize, where):
    """Read every image of a listing once: hash it, decode it, bring it to size, append it to a store.

    Files that cannot be used end in `skipped`, with the reason. Memory stays bounded whatever the source holds.
    """
    if listing.count:
        check_space(listing.count, (*image_size, channels), where)
    chunks = iter(listing.chunks)
    first = next(chunks, None)
    is_encoded = first is not None and not isinstance(first.images, np.ndarray)
    recipe = {"size": list(image_size), "channels": channels, "resize": resize, "decoder": VERSION}
    is_watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    is_long = (listing.count or 0) >= _PROGRESS_FROM
    bar = keras.utils.Progbar(listing.count, unit_name="image") if is_watched and is_long else None
    with open_store((*image_size, channels), is_encoded, listing.count, recipe) as store:
        reader = _Reader(image_size, channels, resize, where, store.known)
        read, highest = Images(None, None, [], [], [], [], list(listing.skipped)), None
        chunks = itertools.chain([first] if first is not None else [], chunks)
        for chunk, (images, digests, kept, bad) in _map_in_order(reader.read, chunks):
            store.append(images, digests)
            if isinstance(chunk.images, np.ndarray):
                highest = max(chunk.images.max(), highest or 0)
            read.digests.extend(digests)
            read.labels.extend(chunk.labels[index] for index in kept)
            read.names.extend(chunk.names[index] for index in kept)
            read.splits.extend([chunk.split] * len(kept))
            read.skipped.extend(bad)
            if bar:
                bar.add(len(chunk.names))
        if highest is not None and highest <= 1:
            mend = "Multiply them by 255: the model holds its own scaling."
            raise ValueError(complaint(where, "images look already scaled to 0–1", f"a maximum of {highest}", mend))
        images, rows = store.finish()
        return dataclasses.replace(read, store=images, rows=rows)


def decode_all(images, image_size, channels, resize, where):
    """uint8 `(images, height, width, channels)` of paths, bytes and uint8 arrays; ValueError where one is no good."""
    reader = _Reader(image_size, channels, resize, where)
    pixels = []
    for _, (decoded, _, _, bad) in _map_in_order(reader.read, _chunks_of(images)):
        if bad:
            mend = "Pass JPEG, PNG, GIF, BMP or WebP images that are whole."
            raise ValueError(complaint(where, "an image cannot be used", f"{bad[0][0]}: {bad[0][1]}", mend))
        pixels.append(decoded)
    return np.concatenate(pixels)


def _chunks_of(images):
    """Chunks of neighbouring images that can be read together: encoded ones, or arrays of one shape."""

    def kind(pair):
        return getattr(pair[1], "shape", None)

    for shape, group in itertools.groupby(enumerate(images), key=kind):
        while part := list(itertools.islice(group, FILES_PER_CHUNK)):
            names = tuple(image if isinstance(image, str) else f"image {number}" for number, image in part)
            together = tuple(image for _, image in part)
            yield Chunk(np.stack(together) if shape else together, (None,) * len(part), names)


def _map_in_order(function, items):
    """(item, function(item)) in order, computed ahead by a bounded number of threads."""
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        ahead = collections.deque()
        try:
            for item in items:
                ahead.append((item, pool.submit(function, item)))
                if len(ahead) > 2 * workers:
                    item, future = ahead.popleft()
                    yield item, future.result()
            while ahead:
                item, future = ahead.popleft()
                yield item, future.result()
        finally:
            for _, future in ahead:
                future.cancel()


class _Reader:
    """Reads one chunk: `read(chunk)` gives `(images, digests, indices kept, skipped)`."""

    def __init__(self, image_size, channels, resize, where, known=lambda digest: None):
        self.channels, self.where, self.known = channels, where, known
        self.shape = (*image_size, channels)
        self.image_size = image_size
        # A file is decoded to RGB even for a model with more channels: what is missing cannot be made up.
        self.decode = make_decoder(image_size, min(channels, 3), resize) if channels in (1, 3) else None
        self.fit = make_fitter(image_size, channels, resize)

    def read(self, chunk):
        if isinstance(chunk.images, np.ndarray):
            digests = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in chunk.images]
            return self._fit(chunk.images), digests, range(len(digests)), []
        return self._read_encoded(chunk)

    def _fit(self, images):
        images = match_channels(images, self.channels, self.where)
        if images.shape[1:3] == self.image_size:
            return images
        return self.fit(images).numpy()

    def _read_encoded(self, chunk):
        if self.decode is None:
            mend = "Pass arrays with that many channels."
            raise ValueError(
                complaint(self.where, f"files cannot give {self.channels} channels", "encoded images", mend)
            )
        contents, bad = {}, []
        for index, (image, name) in enumerate(zip(chunk.images, chunk.names, strict=True)):
            content, reason = _content(image)
            if reason:
                bad.append((name, reason))
            else:
                contents[index] = content
        digests = {index: hashlib.blake2b(content, digest_size=16).digest() for index, content in contents.items()}
        known = {index: self.known(digest) for index, digest in digests.items()}
        known = {index: pixels for index, pixels in known.items() if pixels is not None}
        new = {index: content for index, content in contents.items() if index not in known}
        decoded = dict(sorted((known | self._decode(new)).items()))
        bad.extend(
            (chunk.names[index], "damaged or cut off: it cannot be decoded")
            for index in contents
            if index not in decoded
        )
        images = np.stack(list(decoded.values())) if decoded else np.zeros((0, *self.shape), np.uint8)
        return images, [digests[index] for index in decoded], list(decoded), bad

    def _decode(self, contents):
        """{index: pixels} of what can be decoded: the small ones together, the large ones and doubtful ones singly."""
        if not contents:
            return {}
        large = {index for index, content in contents.items() if pixels_in(content) > _LARGE}
        small = [index for index in contents if index not in large]
        try:
            decoded = dict(zip(small, self.decode([contents[index] for index in small]).numpy(), strict=True))
        except tf.errors.InvalidArgumentError:
            decoded = {index: pixels for index in small if (pixels := self._decode_one(contents[index])) is not None}
        for index in large:
            with _one_at_a_time:
                pixels = self._decode_one(contents[index])
            if pixels is not None:
                decoded[index] = pixels
        return decoded

    def _decode_one(self, content):
        try:
            return self.decode([content])[0].numpy()
        except tf.errors.InvalidArgumentError:
            return None


def match_channels(images, channels, where):
    """uint8 images with `channels` channels: grey is repeated to RGB, RGB is weighed to grey (ITU-R BT.601)."""
    if images.shape[-1] == channels:
        return images
    if (images.shape[-1], channels) == (1, 3):
        return np.repeat(images, 3, -1)
    if (images.shape[-1], channels) == (3, 1):
        return np.rint(images @ np.array([0.2989, 0.587, 0.114]))[..., None].astype(np.uint8)
    mend = f"Pass images with {channels} channels."
    raise ValueError(complaint(where, f"the model takes {channels} channels", f"{images.shape[-1]} channels", mend))


def _content(image):
    """(bytes, None) of a file or of bytes, or (None, the reason why they cannot be used)."""
    if isinstance(image, bytes):
        content = image
    else:
        try:
            with open(image, "rb") as file:
                content = file.read()
        except OSError as error:
            return None, f"cannot be read: {error.strerror or error}"
    reason = why_not(content)
    return (None, reason) if reason else (content, None)
