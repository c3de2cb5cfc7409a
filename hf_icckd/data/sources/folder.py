"""A local folder as splits: images in a folder per class, parquet or arrow files, or what `datasets` saved."""

from __future__ import annotations

import glob
import logging
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    SplitDict,
    SplitInfo,
    load_dataset,
    load_from_disk,
)

logger = logging.getLogger(__name__)

TRAIN_SPLITS = ("train", "training")
TEST_SPLITS = ("test", "testing", "eval", "validation", "valid", "val", "dev")
_SPLIT_WORDS = (*TRAIN_SPLITS, *TEST_SPLITS)
_WORD_BREAK = re.compile(r"[\W\d_]+|set(?![^\W\d_])")  # train2, "my test", testset
_TABLE_SUFFIXES = (".parquet", ".arrow")
_METADATA_FILES = ("metadata.csv", "metadata.jsonl")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}


def load_folder(path: Path, streaming: bool = False) -> dict[str, Dataset]:
    """Read a folder.

    Args:
        path: The folder. Its images lie in `CLASS/` or `train/CLASS/` and `test/CLASS/`; or it holds parquet or arrow
            files, told apart by the words train, test, ... of their names.
        streaming: Whether to leave the rows of parquet and arrow files where they are.

    Returns:
        Splits by name; iterable ones if streaming.

    Raises:
        ValueError: If the folder holds nothing of the kind, or it can't be read.
    """
    files = _list_files(path)
    tables = [file for file in files if file.suffix.lower() in _TABLE_SUFFIXES]
    if streaming and not tables:
        raise ValueError(
            f"streaming is true but dataset folder {str(path)!r} holds no parquet or arrow files; leave it out: "
            "images in folders are only read when they are needed anyway"
        )
    try:
        if not streaming and ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file()):
            loaded = load_from_disk(str(path))
            return loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
        if tables:
            return _load_tables(path, tables, streaming)
        if any(file.name in _METADATA_FILES for file in files):
            return load_dataset("imagefolder", data_dir=glob.escape(str(path)))
    except Exception as error:  # see _load
        raise ValueError(f"dataset folder {str(path)!r} could not be read: {reason(error)}") from error
    images = [file for file in files if file.suffix.lower() in _IMAGE_SUFFIXES]
    if images and len(images) < len(files):
        other = next(file for file in files if file.suffix.lower() not in _IMAGE_SUFFIXES)
        logger.info("%s: %d files are no images and stay out, such as %s", path, len(files) - len(images), other)
    return _load_class_folders(path, images)


def _list_files(path: Path) -> list[Path]:
    """All files below a folder, relative to it, sorted, without what operating systems and editors hide there."""

    def refuse(error: OSError) -> None:  # or its class would be missing without a word
        raise ValueError(f"folder {error.filename!r} can't be read: {error.strerror}; mend its permissions or move it")

    found = []
    for folder, subfolders, files in os.walk(path, onerror=refuse, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__MACOSX", "lost+found"))]
        found += [Path(folder, file).relative_to(path) for file in files if not file.startswith(".")]
    return sorted(found)


def _load_tables(path: Path, tables: list[Path], streaming: bool) -> dict[str, Dataset]:
    """Splits are told by the words of file names, then of folder names; a file without any is training data."""
    suffix = tables[0].suffix
    files: dict[str, list[str]] = {}
    for file in tables:
        if file.suffix != suffix:
            raise ValueError(f"it mixes {tables[0]} and {file}, expected files of one kind; move the others away")
        names = (file.stem, *reversed(file.parent.parts))
        words = [word for name in names for word in _WORD_BREAK.split(name.lower())]
        split = next((word for word in words if word in _SPLIT_WORDS), "train")
        files.setdefault(split, []).append(glob.escape(str((path / file).absolute())))
    # One by one: a test split without labels has other columns than the rest.
    kind = suffix.lower().lstrip(".")
    loaded = {
        split: load_dataset(kind, data_files=names, split="train", streaming=streaming)
        for split, names in files.items()
    }
    if streaming:
        # What the files say of themselves may be of the data set they were taken from: their rows are counted.
        for split, rows in loaded.items():
            count = sum(_count_rows(file, kind) for name in files[split] for file in glob.glob(name))
            rows.info.splits = SplitDict({"train": SplitInfo("train", num_examples=count)})
    return loaded


def _count_rows(file: str, kind: str) -> int:
    if kind == "parquet":
        return pq.read_metadata(file).num_rows
    with pa.memory_map(file) as source:  # no image is read
        try:
            return sum(batch.num_rows for batch in pa.ipc.open_stream(source))
        except pa.ArrowInvalid:  # arrow has two formats, which `datasets` tells apart likewise
            reader = pa.ipc.open_file(source)
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def _load_class_folders(path: Path, images: list[Path]) -> dict[str, Dataset]:
    """Images in one folder per class, these in one folder per split or without splits.

    Not left to the image folder builder of `datasets`: it takes a class called "train" and a file called "test_1.png"
    for splits, and a stray image for a class of its own.
    """
    for file in images:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"image {str(file)!r} of dataset folder {str(path)!r} has a name that is not UTF-8; rename it or its "
                "folder"
            ) from None
    # A folder called train that holds images is a class (of vehicles); a split holds folders of images.
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
            "%s: images in %s stay out, as splits are called %s", path, ", ".join(left_out), ", ".join(_SPLIT_WORDS)
        )
    # Test images that all lie side by side have no labels.
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
    # The name of the last folder says it all, unless two classes share it.
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


def reason(error: BaseException) -> str:
    """One line about what went wrong first: builders wrap it in an error that says only that there was one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
