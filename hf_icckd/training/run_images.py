"""The images of a run: recorded when it begins, compared when it resumes."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging

import numpy as np
from datasets import Dataset

from hf_icckd.data import ImageData
from hf_icckd.data.sources.image_data import file_of
from hf_icckd.data.splits.duplicates import copies
from hf_icckd.evaluation.leakage import earlier_images, origins_of
from hf_icckd.runs import checkpoints
from hf_icckd.runs.folder import RunFolder
from hf_icckd.runs.identity import PLACES
from hf_icckd.runs.images import Channels, Removed, RunImages, find_removed, read_images, write_images
from hf_icckd.runs.layout import DUPLICATES_FILE, IMAGES_FILE
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import write_text

logger = logging.getLogger(__name__)


def as_begun(folder: RunFolder, data: ImageData) -> ImageData:
    """Put a data set into the state that the run in a folder was begun with, if only a few images have gone since.

    Training images keep their rows, on which order and augmentation depend: in place of each removed image another of
    its class is read. So the run resumes where it was, also within an epoch. A run without a checkpoint starts over
    with the remaining images. Any other difference is left to `RunFolder.owned`, which refuses it. All processes call
    this together.
    """
    distributed.on_first_rank(lambda: _check_moved(folder, data))
    removed = distributed.on_first_rank(lambda: _removed(folder, data))
    if removed is None or not isinstance(data.train, Dataset):
        return data
    has_checkpoint = distributed.on_first_rank(lambda: checkpoints.newest_intact(folder.path) is not None)
    folder.resume_without(removed, has_checkpoint)
    if not has_checkpoint:
        logger.warning("%s; it has no checkpoint yet, so it starts over with the others", removed)
        return data
    note = f"{str(removed).capitalize()}."
    if removed.counts.keys() & {"train", "unlabeled"}:
        note += " In place of each training image another one of its class is seen twice in an epoch."
    logger.warning("%s", note)
    unlabeled = data.unlabeled
    if unlabeled is not None and removed.unlabeled is not None:
        unlabeled = unlabeled.select(removed.unlabeled)
    return dataclasses.replace(
        data, train=data.train.select(removed.train), unlabeled=unlabeled, notes=[*data.notes, note]
    )


def _check_moved(folder: RunFolder, data: ImageData) -> None:
    """Raise ValueError if a data set that is in another place has the fingerprint of the run's, but other images.

    A fingerprint need not cover the bytes of all images; under the same path that is taken on trust.
    """
    if not folder.moved_data or data.streamed or folder.recorded_data != data.fingerprint():
        return
    before, hashes = read_images(folder.path), data.hashes()
    if before is None or hashes is None:
        return
    for name, values in hashes.items():
        if count := int((values != before.hashes[name]).sum()):
            raise ValueError(
                f"{'; '.join(map(str, folder.moved_data))}: {count} images of the {name} split differ from those of "
                f"the run in {str(folder.path)!r}, expected the same; give the data set of that run, or choose "
                "another folder with --output_dir"
            )


def _removed(folder: RunFolder, data: ImageData) -> Removed | None:
    # Images that an option leaves out now are not removed ones.
    if data.streamed or any(each.name not in PLACES for each in folder.moved_data):
        return None
    if folder.recorded_data in (None, data.fingerprint()):
        return None
    before, hashes = read_images(folder.path), data.hashes()
    if before is None or hashes is None:
        return None
    return find_removed(before, hashes, {name: data.labels(name) for name in hashes}, data.label_names)


def record_images(folder: RunFolder, data: ImageData, mean: Channels, std: Channels) -> None:
    """Write the hashes of a new run's images into its folder, and a list of exact copies; nothing for a stream.

    Args:
        folder: Folder of the run.
        data: Its data set.
        mean: Channel means of its model.
        std: Channel standard deviations of its model.
    """
    hashes = data.hashes()
    if hashes is None or ((folder.path / IMAGES_FILE).is_file() and not folder.starts_over):
        return
    own = np.concatenate([hashes[name] for name in ("train", "unlabeled") if name in hashes])
    earlier, complete = earlier_images(origins_of(folder.values), own)
    labels = {name: data.labels(name) for name in hashes}
    write_images(folder.path, RunImages(hashes, labels, data.label_names, mean, std, earlier, complete))
    (folder.path / DUPLICATES_FILE).unlink(missing_ok=True)
    if data.duplicates is not None and data.duplicates.any:
        logger.warning("%s lists the exact copies; --duplicates drop leaves them out", folder.path / DUPLICATES_FILE)
        write_text(folder.path / DUPLICATES_FILE, _table_of_copies(data))


def _table_of_copies(data: ImageData) -> str:
    """Every image that is there more than once as CSV, copies below each other."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("content", "split", "row", "label", "file"))
    splits = data.splits()
    labels = {name: data.labels(name) for name in splits}
    for value, name, row in copies(data.hashes() or {}):
        label = int(labels[name][row])
        names = [f"{value:016x}", name, row, data.label_names[label] if label >= 0 else "", file_of(splits[name], row)]
        table.writerow(names)
    return text.getvalue()
