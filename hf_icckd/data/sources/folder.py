"""Data sets on this machine: folders and files of any kind that is understood."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NoReturn

import pyarrow as pa
from datasets import DatasetDict, IterableDataset, load_from_disk

from hf_icckd.data.containers.archive_files import list_archives
from hf_icckd.data.containers.archives import is_archive
from hf_icckd.data.containers.arrays import find_array_splits, read_arrays
from hf_icckd.data.containers.pixel_columns import find_pixel_columns
from hf_icckd.data.containers.stored_arrays import is_array_file
from hf_icckd.data.containers.table_files import ARROW_SUFFIXES, holds_images, read_tables, stream_tables
from hf_icckd.data.containers.unsupported import refusal
from hf_icckd.data.containers.webdataset import read_webdataset
from hf_icckd.data.formats import is_image_file
from hf_icckd.data.layouts.image_files import read_image_files
from hf_icckd.data.layouts.layout import leave_out_annotations
from hf_icckd.data.layouts.listing import Files, FolderFiles, list_folder
from hf_icckd.data.layouts.text_tables import TABLE_SUFFIXES
from hf_icckd.data.layouts.tree import LayoutError
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.sources.source import Piece, Reading, Source, reason, refuse_file_options
from hf_icckd.data.splits.roles import given_splits, named_reading
from hf_icckd.data.splits.words import Role
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.text import listed

_SAVED = ("dataset_dict.json", "state.json")  # what `datasets` writes beside a data set


class Folder(Source):
    """A local folder or file: images in folders, tables, arrays, archives, or what `datasets` saved to disk.

    Args:
        path: The folder or file.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self, options: ImageDataArguments) -> Reading:
        """Read what is there.

        Raises:
            ValueError: If it holds nothing that is understood, or can be understood in several ways.
        """
        with _readable(self.path):
            if self.path.is_file():
                if is_image_file(self.path):
                    raise ValueError(
                        f"dataset {str(self.path)!r} is one image, expected a folder with a folder of images for each "
                        "class; give the folder that holds the classes"
                    )
                return read_containers(self._single_file(), options)
            if any((self.path / name).is_file() for name in _SAVED):
                return _read_saved(self.path, options)
            files = list_folder(self.path, options.bad_images)
            return read_files(files, options)

    def read_unlabeled(self, options: ImageDataArguments) -> Reading:
        """Read all images of the folder or its archives, in any layout; of tables and arrays the training split.

        Raises:
            ValueError: If there are none.
        """
        if any((self.path / name).is_file() for name in _SAVED):
            return self.read(options)
        with _readable(self.path):
            found = self._single_file() if self.path.is_file() else list_folder(self.path, options.bad_images)
            archives = [path for path in found.others if is_archive(path)]
            files: Files = list_archives(found, archives) if archives and not found.images else found
            return _all_images(files) if files.images else self.read(options)

    def _single_file(self) -> FolderFiles:
        """A file that holds images, as the only one of its folder."""
        return FolderFiles(str(self.path), root=self.path.parent, others=[PurePosixPath(self.path.name)])

    def streams(self, options: ImageDataArguments) -> Mapping[str, IterableDataset]:
        """Open the tables of the folder without reading their rows."""
        with _readable(self.path):
            files = list_folder(self.path)
            tables = [file for file in files.others if file.suffix.lower() in ARROW_SUFFIXES]
            if not tables:
                raise ValueError(
                    "streaming is true but it holds no parquet or arrow files; leave it out: images in folders are "
                    "only read when they are needed anyway"
                )
            return stream_tables(self.path, tables, options)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Name the data set in every error about it."""
    try:
        yield
    except (TypeError, AttributeError, NameError, AssertionError):
        raise  # a mistake of this package
    except pa.ArrowException as error:
        raise ValueError(f"dataset {str(path)!r} could not be read: {reason(error)}") from error
    except ValueError as error:
        text = str(error)
        where = "" if str(path) in text else f"dataset {str(path)!r}: "
        # Some types, such as the one of JSON, take more than a text.
        kind = type(error) if type(error).__init__ is ValueError.__init__ else ValueError
        raise kind(f"{where}{text}") from error.__cause__
    except Exception as error:  # builders raise dozens of types
        raise ValueError(f"dataset folder {str(path)!r} could not be read: {reason(error)}") from error


def _read_saved(path: Path, options: ImageDataArguments) -> Reading:
    refuse_file_options(str(path), options)
    loaded = load_from_disk(str(path))
    return named_reading(str(path), loaded if isinstance(loaded, DatasetDict) else {"all": loaded}, options, "split")


def read_files(files: FolderFiles, options: ImageDataArguments) -> Reading:
    """Read the files of a folder: images if there are some, else what holds them."""
    tables = [file for file in files.others if file.suffix.lower() in ARROW_SUFFIXES]
    with_images = [file for file in tables if holds_images(files.root / file)]
    if not files.images:
        return read_containers(files, options)
    if not with_images or options.labels is not None or options.label_pattern is not None:
        return _read_images(files, options)
    if len({image.parent for image in files.images}) > 1 and not given_splits(options):
        raise ValueError(
            f"it holds tables of images, such as {with_images[0]}, and {len(files.images):,} image files, such as "
            f"{files.images[0]}; name the tables with --train_split and --test_split, or move one kind away"
        )
    reading = read_tables(files.root, with_images, options, files.name)
    reading.left_out.append(LeftOut(len(files.images), "image files beside the tables", str(files.images[0])))
    return reading


def _all_images(files: Files) -> Reading:
    """Every image, whatever its folder is called, but for masks and the like."""
    images, left_out = leave_out_annotations(files.images)
    folders = {image.parent for image in images}
    notes = [f"The unlabelled images lie in {len(folders):,} folders, whose names are ignored."]
    if files.others:
        left_out = [*left_out, LeftOut(len(files.others), "files that are no images", str(files.others[0]))]
    pieces: dict[Role, list[Piece]] = {"train": [Piece("all images of the folder", files.rows(images, {}))]}
    return Reading(pieces, left_out=[*files.left_out, *left_out], notes=notes if len(folders) > 1 else [])


def _read_images(files: FolderFiles, options: ImageDataArguments) -> Reading:
    try:
        return read_image_files(files, options)
    except LayoutError as error:
        archives = [str(file) for file in files.others if is_archive(file)]
        if not archives:
            raise
        raise LayoutError(
            f"{error}\nArchives beside images are not read: unpack {listed(archives, 3)} if it belongs to the data set"
        ) from None


def read_containers(files: FolderFiles, options: ImageDataArguments) -> Reading:
    """Read files that hold images: tables, arrays or archives.

    Raises:
        ValueError: If there are none, or several kinds.
    """
    tables = [file for file in files.others if file.suffix.lower() in ARROW_SUFFIXES]
    arrays = [file for file in files.others if is_array_file(file)]
    archives = [file for file in files.others if is_archive(file)]
    texts = [] if tables or arrays or archives else _text_tables(files, options)
    kinds = {"tables": tables or texts, "arrays": arrays, "archives": archives}
    present = {kind: found for kind, found in kinds.items() if found}
    if len(present) > 1:
        shown = [f"{kind} ({listed(list(map(str, found)), 2)})" for kind, found in present.items()]
        raise ValueError(
            f"it holds {' and '.join(shown)}, expected one kind of files; give one of them as --dataset, or move the "
            "others away"
        )
    if archives:
        return _read_archives(files, archives, options)
    if arrays or tables or texts:
        refuse_file_options(files.name, options)
    if arrays:
        return _read_arrays(files, arrays, options)
    if present:
        return read_tables(files.root, present["tables"], options, files.name)
    _refuse(files)


def _text_tables(files: FolderFiles, options: ImageDataArguments) -> list[PurePosixPath]:
    """Text tables that hold pixels or name images elsewhere; a file that the user gave is one in any case."""
    found = [file for file in files.others if file.suffix.lower() in TABLE_SUFFIXES - {".txt", ".lst"}]
    if len(files.others) == 1 or options.image_column is not None:
        return found
    pixels = [file for file in found if find_pixel_columns(files.root / file) is not None]
    return pixels or found


def _read_arrays(files: FolderFiles, arrays: list[PurePosixPath], options: ImageDataArguments) -> Reading:
    paths = [files.root / array for array in arrays]
    chosen = [name for names in given_splits(options).values() for name in names]
    known = find_array_splits(paths)
    splits = read_arrays(paths, [name for name in known if name in chosen] or None, options.pixel_limits())
    return named_reading(files.name, splits, options, "array")


def _read_archives(files: FolderFiles, archives: list[PurePosixPath], options: ImageDataArguments) -> Reading:
    paths = [files.root / archive for archive in archives]
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.stem.rstrip("0123456789").rstrip("-_."), []).append(path)
    shards = {name: read_webdataset(own) for name, own in groups.items()}
    found = {name: rows for name, rows in shards.items() if rows is not None}
    if len(found) == len(groups):
        refuse_file_options(files.name, options)
        return named_reading(files.name, found, options, "shards")
    inside = list_archives(files, archives)
    if not inside.images:
        nested = [str(path) for path in inside.others if is_archive(path) and path not in inside.beside]
        what = refusal(inside.others) or "expected images, in a folder for each class"
        if nested:
            what = f"it holds other archives ({listed(nested, 3)}): unpack it once and give the folder"
        raise ValueError(f"{listed([path.name for path in paths], 3)} holds no images; {what}")
    return read_image_files(inside, options)


def _refuse(files: Files) -> NoReturn:
    what = refusal(files.others)
    raise ValueError(
        f"dataset folder {files.name!r} holds 0 images{f'; {what}' if what else ''}; expected CLASS/IMAGE, "
        "train/CLASS/IMAGE, tables (parquet, arrow, CSV), arrays (idx, npz) or archives (zip, tar)"
        + (f"; there are the files {listed(list(map(str, files.others)), 6)}" if files.others else "")
    )
