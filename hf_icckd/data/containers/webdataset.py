"""WebDataset: tar archives in which the files of a sample share a name, such as 000000.jpg and 000000.cls."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import Dataset, Features, Image, Value, concatenate_datasets

from hf_icckd.data.cache import cache_key, file_state
from hf_icckd.data.containers.archives import Archive, open_archive
from hf_icckd.data.containers.arrow_cache import BATCH_BYTES, cached_rows, with_columns

logger = logging.getLogger(__name__)

_IMAGES = {"jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "jp2", "avif"}
_TEXTS = {"cls", "cls2", "txt", "json", "label", "index", "class", "id"}
_VERSION = 1  # increase it whenever other rows are made of an archive


class _Sample(NamedTuple):
    key: str
    image: PurePosixPath
    texts: dict[str, PurePosixPath]


def read_webdataset(paths: Sequence[Path]) -> Dataset | None:
    """Read the shards of a split into columns; None if the first one is no WebDataset.

    The columns are `image`, whose path is the name of the archive and the key of the sample; `label` from `.cls`; one
    for each other text file; and one for each field of `.json` that holds text, a number or a truth value.

    Raises:
        ValueError: If a later shard is none, a sample has several images, or a file can't be read.
    """
    shards: list[Dataset] = []
    for path in paths:
        archive = open_archive(path)
        samples = _find_samples(archive)
        if samples is None:
            if shards:
                raise ValueError(
                    f"{path.name} is no WebDataset as {paths[0].name} is, expected files such as 000000.jpg and "
                    "000000.cls in it; move it away"
                )
            return None
        shards.append(_read_shard(archive, samples))
    rows = concatenate_datasets(shards)
    texts = [json.loads(value) for value in rows["texts"]]
    return with_columns(rows.remove_columns("texts"), _columns(texts))


def _find_samples(archive: Archive) -> list[_Sample] | None:
    """Samples by name; None if files don't lie together as in a WebDataset."""
    files: dict[str, dict[str, PurePosixPath]] = {}
    for member in archive.files:
        stem, _, extension = member.name.partition(".")
        files.setdefault(str(member.with_name(stem)), {})[extension.lower()] = member
    samples = []
    for key, members in files.items():
        images = [extension for extension in members if extension.rpartition(".")[2] in _IMAGES]
        texts = {extension: member for extension, member in members.items() if extension in _TEXTS}
        if len(images) > 1 and texts:
            raise ValueError(
                f"sample {key!r} of {archive.path.name} has {len(images)} images ({', '.join(images)}), expected one; "
                "remove the others, or save one image a sample"
            )
        samples += [_Sample(key, members[extension], texts) for extension in images]
    folders = {sample.image.parent for sample in samples}
    has_classes = any("cls" in sample.texts for sample in samples)
    described = sum(bool(sample.texts) for sample in samples)
    # Class folders with a text beside each image are no WebDataset; its key may hold folders all the same.
    if 2 * described <= len(samples) or (len(folders) > 1 and not has_classes):
        return None
    used = sum(1 + len(sample.texts) for sample in samples)
    if used < len(archive.files):
        logger.info("%s: %d files belong to no image and are left out", archive.path.name, len(archive.files) - used)
    return samples


def _read_shard(archive: Archive, samples: list[_Sample]) -> Dataset:
    return cached_rows(
        cache_key("webdataset", _VERSION, file_state(archive.path)),
        Features({"image": Image(decode=False), "texts": Value("string")}),
        lambda: _batches(archive, samples),
        archive.path.name,
    )


def _batches(archive: Archive, samples: list[_Sample]) -> Iterator[pa.Table]:
    contents = archive.read_all([file for sample in samples for file in (sample.image, *sample.texts.values())])
    images: list[dict[str, Any]] = []
    texts: list[str] = []
    size = 0
    for sample in samples:
        image = next(contents)
        if images and size + len(image) > BATCH_BYTES:
            yield _table(images, texts)
            images, texts, size = [], [], 0
        images.append({"bytes": image, "path": f"{archive.path.name}/{sample.image}"})
        fields = {extension: _decode(next(contents), archive, member) for extension, member in sample.texts.items()}
        texts.append(json.dumps(fields))
        size += len(image)
    yield _table(images, texts)


def _table(images: list[dict[str, Any]], texts: list[str]) -> pa.Table:
    return pa.table({"image": pa.array(images, Image.pa_type), "texts": pa.array(texts, pa.string())})


def _decode(content: bytes, archive: Archive, member: PurePosixPath) -> Any:
    """Text of a file, and the fields of a JSON file."""
    try:
        text = content.decode("utf-8-sig").strip()
        return json.loads(text) if member.name.lower().endswith(".json") else text
    except ValueError as error:
        raise ValueError(f"{member} in {archive.path.name} can't be read: {error}; correct or remove it") from None


def _columns(texts: list[dict[str, Any]]) -> pa.Table:
    """One column for each text and each plain field, with None where a sample lacks it."""
    taken = {"image", "texts", *("label" if extension == "cls" else extension for each in texts for extension in each)}
    samples = []
    for fields in texts:
        sample = {"label" if extension == "cls" else extension: text for extension, text in fields.items()}
        described = sample.pop("json", None)
        described = described if isinstance(described, dict) else {"json": described}
        for name, value in described.items():
            if isinstance(value, str | int | float | bool):
                sample[f"json.{name}" if name in taken and name != "json" else name] = value
        samples.append(sample)
    columns = {}
    for name in dict.fromkeys(name for sample in samples for name in sample):
        values = [sample.get(name) for sample in samples]
        if name == "label" and all(value is None or _is_integer(value) for value in values):
            values = [value if value is None else int(value) for value in values]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            logger.warning("field %r is left out: it holds values of several types", name)
    return pa.table(columns)


def _is_integer(value: Any) -> bool:
    """Whether a text is an integer as it is usually written: `00` stays text."""
    return isinstance(value, int) or (value.removeprefix("-").isdecimal() and str(int(value)) == value)
