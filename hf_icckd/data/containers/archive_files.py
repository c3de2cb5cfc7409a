"""Archives as folders: the same grammar of layouts applies to the names of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, Value, concatenate_datasets

from hf_icckd.data.containers.archives import Archive, archive_rows, is_archive, open_archive
from hf_icckd.data.formats import image_suffixes, is_image_content
from hf_icckd.data.layouts.listing import Files, FolderFiles


@dataclass
class ArchiveFiles(Files):
    """The files of one or several archives; of several, each is a folder called as it is.

    Attributes:
        archives: Archive and path in it of every file.
        beside: Paths here of the files that lie beside the archives.
    """

    archives: dict[PurePosixPath, tuple[Archive, PurePosixPath]] = field(default_factory=dict)
    beside: dict[PurePosixPath, Path] = field(default_factory=dict)

    def read(self, path: PurePosixPath) -> bytes:
        """Return the content of a file."""
        if path in self.beside:
            return self.beside[path].read_bytes()
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


def list_archives(files: FolderFiles, paths: Sequence[PurePosixPath]) -> ArchiveFiles:
    """List the files of archives, and those that lie beside them.

    Args:
        files: The files of the folder that the archives lie in.
        paths: The archives.

    Raises:
        ValueError: If an archive is damaged, or of a kind that can't be read.
    """
    found = ArchiveFiles(files.name)
    found.left_out += files.left_out
    above = _common_folder(paths)
    for path in paths:
        archive = open_archive(files.root / path)
        found.left_out += archive.left_out
        place = PurePosixPath() if len(paths) == 1 else path.parent.relative_to(above) / _stem(path)
        unknown = [member for member in archive.files if not member.suffix]
        images = {
            member
            for member, content in zip(unknown, archive.read_all(unknown), strict=True)
            if is_image_content(content)
        }
        for member in archive.files:
            own = place / member
            found.archives[own] = (archive, member)
            known = member.suffix.lower() in image_suffixes() or member in images
            (found.images if known else found.others).append(own)
    for path in set(files.others) - set(paths) - set(found.archives):
        found.beside[path] = files.root / path
        found.others.append(path)
    found.images.sort()
    found.others.sort()
    return found


def _common_folder(paths: Sequence[PurePosixPath]) -> PurePosixPath:
    """The folder that all archives lie in."""
    folder = paths[0].parent
    while not all(path.is_relative_to(folder) for path in paths):
        folder = folder.parent
    return folder


def _stem(path: PurePosixPath) -> str:
    """Name of an archive without its suffixes."""
    name = path.name
    while is_archive(PurePosixPath(name)):
        name = name.rpartition(".")[0]
    return name.removesuffix(".tar")
