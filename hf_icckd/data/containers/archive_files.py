"""Archives as folders: the same grammar of layouts applies to the names of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image
from datasets import Dataset, Features, Image, Value, concatenate_datasets

from hf_icckd.data.containers.archives import Archive, archive_rows, is_archive, open_archive
from hf_icckd.data.layouts.listing import Files


@dataclass
class ArchiveFiles(Files):
    """The files of one or several archives; of several, each is a folder called as it is.

    Attributes:
        archives: Archive and path in it of every file.
    """

    archives: dict[PurePosixPath, tuple[Archive, PurePosixPath]] = field(default_factory=dict)

    def read(self, path: PurePosixPath) -> bytes:
        """Return the content of a file."""
        archive, member = self.archives[path]
        return archive.read(member)

    def rows(
        self, images: Sequence[PurePosixPath], columns: Mapping[str, list[Any]], types: Mapping[str, Value] = {}
    ) -> Dataset:
        """Return a table of these images, whose bytes are kept in the cache of `datasets`."""
        positions: dict[Path, list[int]] = {}
        for position, image in enumerate(images):
            positions.setdefault(self.archives[image][0].path, []).append(position)
        parts = []
        for own in positions.values():
            archive = self.archives[images[own[0]]][0]
            parts.append(archive_rows(archive, [self.archives[images[position]][1] for position in own]))
        if not parts:
            return Dataset.from_dict(
                {"image": [], **columns}, features=Features({"image": Image(decode=False)} | dict(types))
            )
        order = np.argsort(np.concatenate([np.asarray(own) for own in positions.values()]), kind="stable")
        rows = concatenate_datasets(parts).select(order) if len(parts) > 1 else parts[0]
        features = Features({name: types.get(name, Value("string")) for name in columns})
        return concatenate_datasets([rows, Dataset.from_dict(dict(columns), features=features)], axis=1)


def list_archives(name: str, paths: Sequence[Path]) -> ArchiveFiles:
    """List the files of archives.

    Args:
        name: Name of the data set, for errors.
        paths: The archives.

    Raises:
        ValueError: If an archive is damaged, or of a kind that can't be read.
    """
    found = ArchiveFiles(name)
    suffixes = set(PIL.Image.registered_extensions())
    for path in paths:
        archive = open_archive(path)
        found.left_out += archive.left_out
        for member in archive.files:
            own = member if len(paths) == 1 else PurePosixPath(_stem(path)) / member
            found.archives[own] = (archive, member)
            (found.images if member.suffix.lower() in suffixes else found.others).append(own)
    found.images.sort()
    found.others.sort()
    return found


def _stem(path: Path) -> str:
    """Name of an archive without its suffixes."""
    name = path.name
    while is_archive(PurePosixPath(name)):
        name = name.rpartition(".")[0]
    return name.removesuffix(".tar")
