"""Shrunk copies of large training images on the disk, made once: `--image_cache 512`."""

from __future__ import annotations

import functools
import io
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import datasets
import numpy as np
import PIL
import PIL.Image
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from filelock import FileLock
from tqdm.auto import tqdm

from hf_icckd.data.cache import cache_errors, cache_folder, cache_key
from hf_icckd.data.depth import Range
from hf_icckd.data.images import READER, REMEDY, name_of_row
from hf_icckd.data.splits.content import content_of
from hf_icckd.data.stored_image import StoredImage, jpeg_decoder
from hf_icckd.utils.atomic_files import existing_folder, replace_file
from hf_icckd.utils.machine import cores
from hf_icckd.utils.text import size_text

logger = logging.getLogger(__name__)

_QUALITY = 95
_PIECE = 512  # images in a file; a run that is killed loses no more than one file
_PROBED = 32  # images that are shrunk to estimate the room
_FEATURES = datasets.Features({"image": datasets.Image(decode=False)})


class Stored(TypedDict):
    """A stored image as a table of `datasets` holds it."""

    bytes: bytes
    path: str | None


def shrunk_images(rows: Dataset, short_side: int, name: str, pixel_range: Range | None = None) -> Dataset:
    """Return copies of the images whose short side has at most `short_side` pixels, as JPEG of quality 95.

    They are made once and kept in the cache folder of `datasets`, under a key of the bytes of all images. One process
    makes them, others that need the same ones wait. A process that is stopped leaves what it has made.

    Args:
        rows: Data set with an undecoded `image` column.
        short_side: Short side in pixels. Smaller images are kept as they are stored.
        name: Name of the split for the progress bar and errors.
        pixel_range: Values of black and white in deep images; None for the range of their type.

    Returns:
        Data set with an undecoded `image` column alone, in the same order.

    Raises:
        UnreadableImageError: If an image can't be read.
        ValueError: If the disk has too little room.
    """
    versions = PIL.__version__, jpeg_decoder(), READER, _QUALITY, _PIECE
    key = cache_key(content_of(rows, name).tobytes(), short_side, pixel_range, versions, "shrunk")
    folder = cache_folder() / f"images-{key}"
    files = {start: folder / f"{start:09d}.arrow" for start in range(0, len(rows), _PIECE)}
    with cache_errors():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            missing = {start: file for start, file in files.items() if not file.is_file()}
            if missing:
                _make(rows, missing, short_side, name, pixel_range)
    return datasets.concatenate_datasets([Dataset.from_file(str(file)) for file in files.values()])


def _make(rows: Dataset, missing: dict[int, Path], short_side: int, name: str, pixel_range: Range | None) -> None:
    """Make the files that are missing: the images from `start` on."""

    def shrink(row: int) -> Stored:
        record = rows[row]
        image = StoredImage(record["image"], name_of_row(record, row, name), REMEDY, pixel_range)
        return {"bytes": _shrunk(image, short_side), "path": record["image"].get("path")}

    folder = next(iter(missing.values())).parent
    todo = [row for start in missing for row in range(start, min(start + _PIECE, len(rows)))]
    with ThreadPoolExecutor(cores()) as threads:  # decoders let others run
        probed = np.unique(np.linspace(0, len(todo) - 1, min(len(todo), _PROBED)).astype(int))
        sizes = [len(each["bytes"]) for each in threads.map(shrink, (todo[place] for place in probed))]
        _check_room(folder, len(todo) * sum(sizes) // len(sizes), short_side, len(todo))
        with tqdm(total=len(todo), desc=f"shrinking {name}", unit="img", leave=False) as bar:
            for start, file in missing.items():
                images = []
                for image in threads.map(shrink, range(start, min(start + _PIECE, len(rows)))):
                    images.append(image)
                    bar.update()
                replace_file(file, functools.partial(_write, images))


def _shrunk(image: StoredImage, short_side: int) -> bytes:
    shrunk = image.shrunk(short_side)
    if shrunk is None:
        return image.content
    file = io.BytesIO()
    shrunk.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _write(images: list[Stored], path: Path) -> None:
    with ArrowWriter(path=str(path), features=_FEATURES) as writer:
        writer.write_batch({"image": images})
        writer.finalize()


def _check_room(folder: Path, needed: int, short_side: int, count: int) -> None:
    free = shutil.disk_usage(existing_folder(folder)).free
    words = f"{count:,} images with a short side of at most {short_side} pixels take about {size_text(needed)}"
    if needed > free:
        raise ValueError(
            f"image_cache is {short_side}, but {words} in {folder} and {size_text(free)} are free; make room, set "
            "HF_HOME to a folder on a larger disk, take a smaller side, or leave the option out"
        )
    logger.info("%s in %s, of %s that are free", words, folder, size_text(free))
