"""A folder of images: a subfolder per class, or train / valid / test folders above those."""

import os

from recipes.checks import complaint
from recipes.data.headers import looks_like_image, typical_size
from recipes.data.listing import SPLITS, Listing, file_chunks, split_of

_SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "lost+found", "system volume information", "__pycache__"}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}


def list_folder(folder, where):
    """Listing of a folder. Hidden and system files, and files that are no images by name or content, do not count."""
    splits = _split_folders(folder)
    roots = splits or {None: [folder]}
    files, empty = [], []
    for split, tops in roots.items():
        for class_folder in (entry for top in tops for entry in _subfolders(top)):
            found = sorted(image_files(class_folder))
            files.extend((path, class_folder.name, split) for path in found)
            if not found:
                empty.append((str(class_folder), "this class folder holds no images"))
    if not files:
        _complain(folder, where)
    return Listing(
        chunks=file_chunks(files),
        natural_size=typical_size([path for path, _, _ in files]),
        given_splits=tuple(split for split in SPLITS if split in splits),
        skipped=tuple(empty),
        count=len(files),
    )


def list_one_class(folder, label, where):
    """Listing of all images below a folder, which are of one class whatever folders there are in it."""
    files = [(path, label, None) for path in sorted(image_files(folder))]
    if not files:
        mend = "Pass a folder with JPEG, PNG, GIF, BMP or WebP images in it."
        raise ValueError(complaint(where, "no images were found", f"the folder {str(folder)!r}", mend))
    return Listing(chunks=file_chunks(files), count=len(files))


def _split_folders(folder):
    """{split: folders} when there is a train folder with class folders in it, else {}."""
    splits = {}
    for entry in _subfolders(folder):
        if split_of(entry.name):
            splits.setdefault(split_of(entry.name), []).append(entry)
    has_classes = any(_subfolders(top) for top in splits.get("train", []))
    return splits if has_classes else {}


def _subfolders(folder):
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [
        entry for entry in entries if not entry.name.startswith(".") and entry.name.casefold() not in _SYSTEM_FOLDERS
    ]


def image_files(folder):
    """Paths of all images below a class folder. Links to folders are not followed, so loops cannot happen."""
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name.casefold() not in _SYSTEM_FOLDERS]
        for name in files:
            path = os.path.join(top, name)
            if not name.startswith(".") and name.casefold() not in _SYSTEM_FILES and looks_like_image(path):
                yield path


def _complain(folder, where):
    loose = sum(looks_like_image(str(entry)) for entry in folder.iterdir() if entry.is_file())
    if loose:
        rule, received = "images must lie in one subfolder per class", f"{loose} images directly in {str(folder)!r}"
    else:
        rule, received = "no images were found", f"the folder {str(folder)!r}"
    mend = f"Arrange them as {folder.name or 'photos'}/<class name>/<image>.jpg, or pass a CSV file of image, label."
    raise ValueError(complaint(where, rule, received, mend))
