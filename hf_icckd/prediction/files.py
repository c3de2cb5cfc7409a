"""Which image files a user names: files, folders and patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_icckd.data.formats import image_suffixes, is_image_file, what_else
from hf_icckd.data.layouts.listing import unreadable_image, walk_folder
from hf_icckd.utils.atomic_files import user_path

_NUMBER = re.compile(r"[0-9]+")


def natural_order(name: str) -> tuple[str, str]:
    """Sort key that counts: `2.png` comes before `10.png`, and case does not matter.

    Example:
        >>> sorted(["img10.png", "IMG9.png", "img1.png"], key=natural_order)
        ['img1.png', 'IMG9.png', 'img10.png']
    """
    # A number is preceded by its length; as one text the key of each of a million names stays small.
    return _NUMBER.sub(lambda found: f"{len(found[0].lstrip('0')):04d}{found[0].lstrip('0')}", name).casefold(), name


class ImageFiles:
    """The image files that paths name, in natural order; their names are never all in memory.

    A file comes as it is named, whatever it holds. Of a folder, and of all folders in it, come the images, those too
    that can't be read; other files, hidden files and folders of runs are passed over.

    Args:
        paths: Files, folders, or patterns such as `photos/*.jpg` and `photos/**/*.png`.

    Raises:
        ValueError: If a path names nothing, a folder or pattern has no image, or none of the files is one.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("10.JPG", "9.jpg"):
        ...         Image.new("RGB", (4, 4)).save(Path(folder, name), "jpeg")
        ...     found = ImageFiles([folder])
        ...     len(found), [Path(path).name for path in found]
        (2, ['9.jpg', '10.JPG'])
    """

    def __init__(self, paths: Sequence[str | Path]):
        self._paths = [str(user_path(path)) for path in paths]
        if not self._paths:
            raise ValueError("no images are given, expected files, folders or patterns such as photos/*.jpg")
        counts = [sum(1 for _ in _files(path)) for path in self._paths]
        if 0 in counts:
            raise ValueError(_nothing(self._paths[counts.index(0)]))
        if not any(os.path.isdir(path) or glob.has_magic(path) or is_image_file(path) for path in self._paths):
            first = self._paths[0]
            raise ValueError(f"{first!r} is {what_else(first)}; expected images, such as .jpg and .png files")
        self._count = sum(counts)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        for path in self._paths:
            yield from _files(path)


def _files(path: str) -> Iterator[str]:
    if os.path.isfile(path):
        yield path
    elif os.path.isdir(path):
        yield from _images_in(path)
    elif glob.has_magic(path) and not os.path.exists(path):
        for each in sorted(glob.iglob(path, recursive=True), key=natural_order):
            if os.path.isdir(each) and "**" not in path:
                yield from _images_in(each)
            elif os.path.isfile(each) and _is_meant(each):
                yield each
    else:
        raise ValueError(f"{path!r} is neither a file nor a folder here; check the path")


def _images_in(folder: str) -> Iterator[str]:
    for place, names, _ in walk_folder(Path(folder), order=natural_order):
        for name in sorted(names, key=natural_order):
            path = os.path.join(folder, place, name)
            if _is_meant(path):
                yield os.path.normpath(path)


def _is_meant(path: str) -> bool:
    """Whether a file is an image, be it one that can't be read."""
    return is_image_file(path) or unreadable_image(Path(path)) is not None


def _nothing(path: str) -> str:
    some = ", ".join(suffix for suffix in (".jpg", ".png", ".webp", ".tif") if suffix in image_suffixes())
    if os.path.isdir(path):
        return f"folder {path!r} holds no images; expected files such as {some}, in any folder below it"
    return f"pattern {path!r} finds no images; expected files such as {some}"
