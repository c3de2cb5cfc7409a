"""The files of a local folder: images, other files, and what stays out because it belongs to a system or a program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset, Features, Image, Value

from hf_icckd.data.formats import DOCUMENTS, is_image_file, unreadable_format
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.utils.text import name_encoding_hint

_SYSTEM = {
    "__macosx", "lost+found", "@eadir", "$recycle.bin", "system volume information", "#recycle", "@recycle",
    "thumbs.db", "desktop.ini", "thumbnails", "thumbs", "__pycache__", "contact_sheet.png",
}  # fmt: skip
_RUN_FILES = {"all_args.yaml", "trainer_state.json"}  # in the folder of a run, and in a checkpoint
_HEAD_BYTES = 512


@dataclass
class Files:
    """The files of a data set: a folder here, or an archive.

    Attributes:
        name: Path that the user gave.
        images: Paths of the images, relative to the root, sorted.
        others: Paths of all other files.
        left_out: Files that are neither.
    """

    name: str
    images: list[PurePosixPath] = field(default_factory=list)
    others: list[PurePosixPath] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def read(self, path: PurePosixPath) -> bytes:
        """Return the content of a file."""
        raise NotImplementedError

    def rows(
        self, images: Sequence[PurePosixPath], columns: Mapping[str, list[Any]], types: Mapping[str, Value] = {}
    ) -> Dataset:
        """Return a table of these images with further columns, of text where no other type is given."""
        raise NotImplementedError


@dataclass
class FolderFiles(Files):
    """The files of a local folder.

    Attributes:
        root: The folder.
    """

    root: Path = Path()

    def read(self, path: PurePosixPath) -> bytes:
        """Return the content of a file."""
        return (self.root / path).read_bytes()

    def rows(
        self, images: Sequence[PurePosixPath], columns: Mapping[str, list[Any]], types: Mapping[str, Value] = {}
    ) -> Dataset:
        """Return a table of these images; they are read from their files when they are needed."""
        features = Features(
            {"image": Image(decode=False)} | {name: types.get(name, Value("string")) for name in columns}
        )
        return Dataset.from_dict({"image": [str(self.root / path) for path in images], **columns}, features=features)


def list_folder(root: Path, bad_images: str = "error") -> FolderFiles:
    """List the files of a folder and of all folders in it. Links to folders are followed once, loops not.

    Args:
        root: The folder.
        bad_images: Whether images of a format that can't be read are an `error`, or are left out with `skip`.

    Raises:
        ValueError: If a folder can't be read, the name of an image is not UTF-8, or an image has a format that can't
            be read.
    """
    found = FolderFiles(str(root), root=root)
    paths: list[PurePosixPath] = []
    system: list[str] = []
    for place, names, passed in walk_folder(root):
        paths += [place / name for name in names]
        system += passed
    unreadable: dict[str, list[PurePosixPath]] = {}
    for path in sorted(paths):
        file = root / path
        if is_image_file(file):
            found.images.append(path)
        elif (fix := unreadable_image(file)) is not None:
            unreadable.setdefault(fix, []).append(path)
        else:
            found.others.append(path)
    for fix, files in unreadable.items():
        if bad_images != "skip":
            raise ValueError(
                f"dataset folder {str(root)!r} holds {len(files):,} images that can't be read, such as "
                f"{str(files[0])!r}: {fix}; or leave them out with --bad_images skip"
            )
        found.left_out.append(LeftOut(len(files), f"images that can't be read: {fix}", str(files[0])))
    if system:
        found.left_out.append(
            LeftOut(
                len(system),
                "hidden files, files of systems, folders of runs, links to what is here already",
                system[0],
            )
        )
    for path in found.images:
        _check_encoding(path, root)
    return found


def walk_folder(
    root: Path, order: Callable[[str], Any] | None = None
) -> Iterator[tuple[PurePosixPath, list[str], list[str]]]:
    """Walk through a folder and all folders in it. Links to folders are followed once, loops not.

    Args:
        root: The folder.
        order: Key that folders beside each other are sorted by; None for their names.

    Yields:
        A folder relative to the root, the names of its files, and the paths of what is passed over: hidden files,
        files of systems, folders of runs, links to what was seen already.

    Raises:
        ValueError: If a folder can't be read.
    """

    def fail(error: OSError) -> None:  # otherwise its class would be missing silently
        raise ValueError(
            f"folder {error.filename!r} can't be read: {error.strerror}; change its permissions or move it"
        )

    real_root = os.path.realpath(root)
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        subfolders.sort(key=order)
        kept, passed = [], []
        for name in subfolders:
            path = Path(folder, name)
            if _is_system(name) or _is_run(path):
                passed.append(path.relative_to(root).as_posix())
            elif not path.is_symlink():
                kept.append(name)
            else:
                real = os.path.realpath(path)
                # A link into the data set shows what is seen anyway; so does the second link to one place.
                inside = os.path.commonpath([real, real_root]) in (real_root, real)
                if inside or real in seen:
                    passed.append(path.relative_to(root).as_posix())
                else:
                    seen.add(real)
                    kept.append(name)
        subfolders[:] = kept
        place = PurePosixPath(Path(folder).relative_to(root))
        passed += [str(place / file) for file in files if _is_system(file)]
        yield place, [file for file in files if not _is_system(file)], passed


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _is_run(folder: Path) -> bool:
    """Whether a folder is the output of a run of this package or of a Trainer, whose pictures are no data."""
    return any((folder / name).is_file() for name in _RUN_FILES)


def unreadable_image(file: Path) -> str | None:
    """What kind of image a file is that can't be read, with the way round; None for others and for documents."""
    try:
        with file.open("rb") as opened:
            known = unreadable_format(opened.read(_HEAD_BYTES))
    except OSError:
        return None
    return None if known in DOCUMENTS else known


def _check_encoding(path: PurePosixPath, root: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"image {str(path)!r} of dataset folder {str(root)!r} has a name that is not UTF-8; "
            f"{name_encoding_hint() or 'rename it or its folder'}"
        ) from None
