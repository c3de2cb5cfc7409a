"""Which images a run was begun with, and which of them have been removed since."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_icckd.runs.layout import IMAGES_FILE
from hf_icckd.utils.atomic_files import replace_file, user_path

Channels = tuple[float, float, float]
_FEW = 10  # images that may have been removed from any data set when a run resumes; or 1 %
_SHARE = 0.01


@dataclass(frozen=True)
class RunImages:
    """The images of a run, 8 bytes each.

    Attributes:
        hashes: By split, (N,) uint64 hashes of the stored bytes.
        labels: By split, (N,) class indices.
        label_names: Name of each class.
        mean: Channel means of the model, on the scale 0 to 1.
        std: Channel standard deviations of the model.
        earlier: Hashes of further images that models were trained on from which this run learned or started.
        complete: Whether all those models have recorded their images.
    """

    hashes: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    label_names: list[str]
    mean: Channels
    std: Channels
    earlier: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    complete: bool = True

    @property
    def trained(self) -> np.ndarray:
        """Hashes of all images that the model, or one it comes from, was trained on."""
        without_labels = self.hashes.get("unlabeled", np.empty(0, dtype=np.uint64))
        return np.union1d(np.union1d(self.hashes["train"], without_labels), self.earlier)


@dataclass(frozen=True)
class Removed:
    """Images that have gone since a run was begun.

    Attributes:
        counts: By split, how many; only splits that lost some.
        train: (N,) row of each training image of then, now; in place of a removed one, that of another of its class.
        before: The images of then.
        unlabeled: As `train`, for the images without labels; None if there are none.
    """

    counts: dict[str, int]
    train: np.ndarray
    before: RunImages
    unlabeled: np.ndarray | None = None

    def __str__(self) -> str:
        parts = [f"{count:,} of the {name} split" for name, count in self.counts.items()]
        return f"images have been removed from the data set since this run was begun: {', '.join(parts)}"


def write_images(folder: str | Path, images: RunImages) -> None:
    """Write the record of a run's images into its folder, atomically."""
    arrays: dict[str, Any] = {
        **{f"hashes_{name}": values for name, values in images.hashes.items()},
        **{f"labels_{name}": values.astype(np.int32) for name, values in images.labels.items()},
        "label_names": np.array(images.label_names),
        "mean": np.array(images.mean),
        "std": np.array(images.std),
        "earlier": images.earlier,
        "complete": np.array(images.complete),
    }

    def write(path: Path) -> None:
        with path.open("wb") as file:  # with a path, numpy would add a suffix
            np.savez(file, **arrays)

    replace_file(Path(folder) / IMAGES_FILE, write)


def read_images(folder: str | Path) -> RunImages | None:
    """Read the record of a run's images; None if there is none, as for models from the Hub or of other makers.

    Args:
        folder: Folder of the run, or any other name of a model.

    Raises:
        ValueError: If the record is damaged.
    """
    path = user_path(folder) / IMAGES_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return RunImages(
            _part_of(arrays, "hashes_"),
            _part_of(arrays, "labels_"),
            arrays["label_names"].tolist(),
            _channels(arrays["mean"]),
            _channels(arrays["std"]),
            arrays["earlier"],
            bool(arrays["complete"]),
        )
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged ({error}); restore it, or move it away: then the images of that run can't be "
            "compared with others"
        ) from error


def find_removed(
    before: RunImages, hashes: dict[str, np.ndarray], labels: dict[str, np.ndarray], label_names: list[str]
) -> Removed | None:
    """Compare the images of now with those that a run was begun with.

    Args:
        before: The images of then.
        hashes: By split, hashes of the images of now.
        labels: By split, their class indices.
        label_names: Their class names.

    Returns:
        What has gone if that is the only difference: a few images, at most 1 % (or ten), and none of a class's last
        training images. None for any other difference, and for none.
    """
    if hashes.keys() != before.hashes.keys() or label_names != before.label_names:
        return None
    rows = {name: _rows_now(before, name, hashes[name], labels[name]) for name in hashes}
    found = {name: each for name, each in rows.items() if each is not None}
    counts = {name: int((each < 0).sum()) for name, each in found.items() if (each < 0).any()}
    total, most = sum(counts.values()), max(_FEW, _SHARE * sum(len(values) for values in before.hashes.values()))
    if len(found) < len(rows) or not 0 < total <= most:
        return None
    trained = {
        name: _with_substitutes(found[name], before.labels[name]) for name in ("train", "unlabeled") if name in found
    }
    train = trained["train"]
    if train is None or any(each is None for each in trained.values()):
        return None
    return Removed(counts, train, before, trained.get("unlabeled"))


def _rows_now(before: RunImages, name: str, hashes: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """(N,) row of each image of then in the split of now, -1 for a removed one; None if there is any other change."""
    rows = np.full(len(before.hashes[name]), -1)
    now = list(zip(hashes.tolist(), labels.tolist(), strict=True))
    then = zip(before.hashes[name].tolist(), before.labels[name].tolist(), strict=True)
    next_row = 0
    for row, image in enumerate(then):
        if next_row < len(now) and now[next_row] == image:
            rows[row] = next_row
            next_row += 1
    return rows if next_row == len(now) else None


def _with_substitutes(rows: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Put the nearest remaining row of the same class in place of each removed one; None if a class has none left."""
    filled = rows.copy()
    for row in np.flatnonzero(rows < 0).tolist():
        others = np.flatnonzero((labels == labels[row]) & (rows >= 0))
        if len(others) == 0:
            return None
        filled[row] = rows[others[np.abs(others - row).argmin()]]
    return filled


def _part_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _channels(values: np.ndarray) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
