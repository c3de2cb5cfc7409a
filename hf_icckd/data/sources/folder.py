"""A local folder as splits: images in a folder per class, parquet or arrow files, or what `datasets` saved."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    SplitDict,
    SplitInfo,
    load_dataset,
    load_from_disk,
)

from hf_icckd.data.sources.source import Source, reason
from hf_icckd.data.sources.splits import TEST_SPLITS, TRAIN_SPLITS

logger = logging.getLogger(__name__)

_SPLIT_WORDS = (*TRAIN_SPLITS, *TEST_SPLITS)
_WORD_BREAK = re.compile(r"[\W\d_]+|set(?![^\W\d_])")  # train2, "my test", testset
_TABLE_SUFFIXES = (".parquet", ".arrow")
_METADATA_FILES = ("metadata.csv", "metadata.jsonl")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}


class Folder(Source):
    """A local folder of images or of tables.

    Images lie in `CLASS/` or in `train/CLASS/` and `test/CLASS/`. Parquet or arrow files are told apart by the words
    train, test, ... in their names. Or it is what `datasets` saved to disk.
    """

    def __init__(self, path: Path):
        self.path = path

    def splits(self) -> Mapping[str, Dataset]:
        """Read the folder; see `read_folder`."""
        return read_folder(self.path)

    def streams(self) -> Mapping[str, IterableDataset]:
        """Open the tables of the folder without reading their rows."""
        tables = _tables_among(_list_files(self.path))
        if not tables:
            raise ValueError(
                f"streaming is true but dataset folder {str(self.path)!r} holds no parquet or arrow files; leave it "
                "out: images in folders are only read when they are needed anyway"
            )
        with _readable(self.path):
            return _stream_tables(self.path, tables)


def read_folder(path: Path) -> Mapping[str, Dataset]:
    """Read a folder of any of the kinds that `Folder` names.

    Raises:
        ValueError: If the folder holds nothing of the kind, or can't be read.
    """
    files = _list_files(path)
    tables = _tables_among(files)
    with _readable(path):
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = load_from_disk(str(path))
            return loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
        if tables:
            # One by one: a test split without labels has other columns than the rest.
            kind, files_of = _table_splits(path, tables)
            return {split: load_dataset(kind, data_files=names, split="train") for split, names in files_of.items()}
        if any(file.name in _METADATA_FILES for file in files):
            return load_dataset("imagefolder", data_dir=glob.escape(str(path)))
    images = [file for file in files if file.suffix.lower() in _IMAGE_SUFFIXES]
    if images and len(images) < len(files):
        other = next(file for file in files if file.suffix.lower() not in _IMAGE_SUFFIXES)
        logger.info("%s: %d files are not images and are left out, such as %s", path, len(files) - len(images), other)
    return _load_class_folders(path, images)


def _list_files(path: Path) -> list[Path]:
    """List all files below a folder, relative to it, sorted, without the hidden ones of operating systems."""

    def refuse(error: OSError) -> None:  # otherwise its class would be missing silently
        raise ValueError(
            f"folder {error.filename!r} can't be read: {error.strerror}; change its permissions or move it"
        )

    found = []
    for folder, subfolders, files in os.walk(path, onerror=refuse, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__MACOSX", "lost+found"))]
        found += [Path(folder, file).relative_to(path) for file in files if not file.startswith(".")]
    return sorted(found)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # builders raise dozens of types
        raise ValueError(f"dataset folder {str(path)!r} could not be read: {reason(error)}") from error


def _tables_among(files: list[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in _TABLE_SUFFIXES]


def _table_splits(path: Path, tables: list[Path]) -> tuple[str, dict[str, list[str]]]:
    """Kind of the tables, and the files of each split, as patterns.

    The words of a file's name say which split it belongs to, then those of its folders' names; a file without any is
    training data.
    """
    suffix = tables[0].suffix
    files: dict[str, list[str]] = {}
    for file in tables:
        if file.suffix != suffix:
            raise ValueError(f"it mixes {tables[0]} and {file}, expected files of one kind; move the others away")
        names = (file.stem, *reversed(file.parent.parts))
        words = [word for name in names for word in _WORD_BREAK.split(name.lower())]
        split = next((word for word in words if word in _SPLIT_WORDS), "train")
        files.setdefault(split, []).append(glob.escape(str((path / file).absolute())))
    return suffix.lower().lstrip("."), files


def _stream_tables(path: Path, tables: list[Path]) -> dict[str, IterableDataset]:
    kind, files = _table_splits(path, tables)
    streams = {}
    for split, names in files.items():
        rows = load_dataset(kind, data_files=names, split="train", streaming=True)
        # What the files say of themselves may be about the data set they were taken from: their rows are counted.
        count = sum(_count_rows(file, kind) for name in names for file in glob.glob(name))
        rows.info.splits = SplitDict({"train": SplitInfo("train", num_examples=count)})
        streams[split] = rows
    return streams


def _count_rows(file: str, kind: str) -> int:
    if kind == "parquet":
        return pq.read_metadata(file).num_rows
    with pa.memory_map(file) as source:  # no image is read
        try:
            return sum(batch.num_rows for batch in pa.ipc.open_stream(source))
        except pa.ArrowInvalid:  # arrow has two formats; `datasets` tells them apart in the same way
            reader = pa.ipc.open_file(source)
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def _load_class_folders(path: Path, images: list[Path]) -> dict[str, Dataset]:
    """Read images in one folder per class, inside one folder per split or without splits.

    The image folder builder of `datasets` is not used: it mistakes a class called "train" and a file called
    "test_1.png" for splits, and a stray image for a class.
    """
    for file in images:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"image {str(file)!r} of dataset folder {str(path)!r} has a name that is not UTF-8; rename it or its "
                "folder"
            ) from None
    # A folder called train that holds images is a class, of vehicles perhaps; a split holds folders of images.
    has_splits = any(file.parts[0].lower() in TRAIN_SPLITS and len(file.parts) > 2 for file in images)
    tops = {file.parts[0] for file in images}
    only_tests = tops and all(top.lower() in TEST_SPLITS for top in tops)
    if only_tests and all(len(file.parts) > 2 for file in images):
        raise ValueError(
            f"dataset folder {str(path)!r} holds the splits {', '.join(sorted(tops))}, expected one called train"
        )
    folders: dict[str, dict[Path, Path]] = {}
    for file in images:
        split = file.parts[0].lower() if has_splits else "train"
        if split in _SPLIT_WORDS:
            folders.setdefault(split, {})[file] = file.parent.relative_to(file.parts[0] if has_splits else "")
    left_out = sorted(top for top in tops if has_splits and top.lower() not in _SPLIT_WORDS)
    if left_out:
        logger.warning(
            "%s: images in %s are left out, because splits are called %s",
            path,
            ", ".join(left_out),
            ", ".join(_SPLIT_WORDS),
        )
    # Test images that are all in one folder have no labels.
    folders = {split: of for split, of in folders.items() if split == "train" or set(of.values()) != {Path()}}
    classes = {folder for of in folders.values() for folder in of.values()}
    stray = next((file for of in folders.values() for file, folder in of.items() if folder == Path()), None)
    if all(folder.name.lower() in ("", *_SPLIT_WORDS) for folder in classes):
        raise ValueError(
            f"dataset folder {str(path)!r} holds {len(images)} images and no folder per class; expected "
            "CLASS/IMAGE, train/CLASS/IMAGE, or parquet or arrow files"
        )
    if stray is not None:
        raise ValueError(
            f"image {str(stray)!r} of dataset folder {str(path)!r} lies in no class folder; move it "
            "into the folder of its class or remove it"
        )
    # The name of the last folder is enough, unless two classes share it.
    unique = len({folder.name for folder in classes}) == len(classes)
    names = {folder: folder.name if unique else folder.as_posix() for folder in classes}
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=sorted(names.values()))})
    return {
        split: Dataset.from_dict(
            {"image": [str(path / file) for file in of], "label": [names[folder] for folder in of.values()]},
            features=features,
        )
        for split, of in folders.items()
    }
