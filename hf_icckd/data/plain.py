"""Ordinary data sets, which give one image and its label at a time, as batches."""

from __future__ import annotations

import contextlib
import logging
import operator
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from hf_icckd.data.augment import augment, stack_views
from hf_icckd.data.images import upright_rgb
from hf_icckd.data.labels.mirroring import mirroring_doubt
from hf_icckd.data.sampling import BatchDataset, BatchKey
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.utils.keyed_random import generator_seed
from hf_icckd.utils.text import suggest

logger = logging.getLogger(__name__)

IMAGE_COLUMNS, LABEL_COLUMNS = ("pixel_values", "image", "img"), ("labels", "label")
_TRIED_ROWS = 8  # a mirrored half of the images would look unchanged in all of them once in 256 data sets


def as_batches(dataset: Any, label_names: Sequence[str], name: str = "evaluation") -> BatchDataset:
    """Return a data set of batches as it is, and any other map-style data set as `PlainImages`.

    Raises:
        ValueError: If it has no rows to look up by number, numbers the classes in another way, or its first row is no
            image with its label.
    """
    if isinstance(dataset, BatchDataset):
        return dataset
    plain = PlainImages(_map_style(dataset, label_names, name), len(label_names), name)
    plain.read(0, 0, 0)
    return plain


def first_dataset(datasets: Any) -> Any:
    """The first of several evaluation sets by name, or the only one; None if there is none."""
    return next(iter(datasets.values()), None) if isinstance(datasets, dict) else datasets


def check_evaluation_sets(datasets: Any, label_names: Sequence[str]) -> None:
    """Raise ValueError if an evaluation set, of several by name or the only one, can't be read; see `as_batches`."""
    for name, each in (datasets if isinstance(datasets, dict) else {"evaluation": datasets}).items():
        if each is not None:
            as_batches(each, label_names, name)


def chosen_dataset(given: Any, datasets: Any) -> Any:
    """Evaluation set that is meant: one by name, of those given at construction, or all of these.

    Raises:
        ValueError: If there is none of that name.
    """
    if not isinstance(given, str):
        return datasets if given is None else given
    known = datasets if isinstance(datasets, dict) else {}
    if given not in known:
        raise ValueError(f"eval_dataset is {given!r}, expected a data set{suggest(given, known)}")
    return known[given]


def as_training_batches(dataset: Any, label_names: Sequence[str], seed: int, num_views: int = 1) -> BatchDataset:
    """As `as_batches`, for training; one line of the log says what an ordinary data set does without.

    Where two views are asked for and the data set gives the same pixels each time, they get this package's random
    crops and mirroring. Otherwise the random changes are those of the data set alone.
    """
    if isinstance(dataset, BatchDataset):
        return dataset
    plain = PlainImages(_map_style(dataset, label_names, "train"), len(label_names), "train", seed, num_views)
    varies, repeats = _tried(plain)
    height, width = plain.read(0, 0, 0)[0].shape[1:]
    said = [
        f"training images of {height} x {width} pixels are read one by one from the given {type(dataset).__name__}"
    ]
    if varies or num_views == 1:
        said.append("no crops or mirroring of this package are added")
    else:
        mirrored = not mirroring_doubt(label_names)
        plain.augmentation = Augmentation(seed=seed).for_images(min(height, width), small=True, mirrored=mirrored)
        said.append(
            f"they are the same each time, so the {num_views} views get this package's random crops"
            f"{' and mirroring' if mirrored else ''}"
        )
    if not repeats:
        said.append(
            "its random changes come from a generator of its own and not from torch's, NumPy's or Python's global "
            "one, so neither another start nor a resume repeats them"
        )
    logger.warning("%s", "; ".join(said))
    return plain


class PlainImages(BatchDataset):
    """Batches of a data set that gives one image and its label at a time.

    What it draws from the global generators of torch, NumPy and Python is a function of seed, epoch, row and view, as
    in the augmentation of this package.

    Args:
        dataset: Its rows are (image, label) or have them by the names in `IMAGE_COLUMNS` and `LABEL_COLUMNS`. An
            image is a PIL image, a tensor (3, H, W) or (1, H, W), or an array (H, W, 3) or (H, W); uint8, or floating
            point from 0 to 1.
        num_classes: Labels are 0 to `num_classes - 1`.
        name: What errors call it.
        seed: Part of the key.
        num_views: How often each image is read, V.
        augmentation: Changes to each view, with every choice made; None for none.
    """

    def __init__(
        self,
        dataset: Any,
        num_classes: int,
        name: str = "evaluation",
        seed: int = 0,
        num_views: int = 1,
        augmentation: Augmentation | None = None,
    ):
        self.dataset, self.num_classes, self.name = dataset, num_classes, name
        self.seed, self.num_views, self.augmentation = seed, num_views, augmentation

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """Read and stack the rows of the batch, once for each view."""
        rows, views, labels = key.indices.tolist(), [], []
        for view in range(self.num_views):
            read = [self.read(row, key.epoch, view) for row in rows]
            images, labels = [image for image, _ in read], [label for _, label in read]
            views.append(self._stack(images, rows))
        if self.augmentation is not None:
            views = [
                augment(images, self.augmentation, key.epoch, key.indices, view) for view, images in enumerate(views)
            ]
        return {
            "pixel_values": stack_views(views),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "sample_ids": key.indices,
            "global_rows": key.global_rows,
        }

    def read(self, row: int, epoch: int, view: int) -> tuple[Tensor, int]:
        """Return one image, (3, H, W) uint8, and its label.

        Raises:
            ValueError: If the row is something else; the message names it.
        """
        with _seeded(generator_seed(self.seed, epoch, row, view)):
            stored = self.dataset[row]
        try:
            image, label = _parts(stored)
            return _pixels(image), _class_index(label, self.num_classes)
        except ValueError as error:
            raise ValueError(f"row {row} of the {self.name} data set: {error}") from error

    def _stack(self, images: list[Tensor], rows: list[int]) -> Tensor:
        if not images:  # a process may have no row of a short last batch
            return torch.empty_like(self.read(0, 0, 0)[0][None][:0])
        for image, row in zip(images, rows, strict=True):
            if image.shape != images[0].shape:
                sizes = ["{1} x {2}".format(*each.shape) for each in (images[0], image)]
                raise ValueError(
                    f"rows {rows[0]} and {row} of the {self.name} data set have images of {sizes[0]} and {sizes[1]} "
                    "pixels (height x width), expected one size in a batch; resize them in the data set, for example "
                    "with torchvision.transforms.Resize((224, 224)), or load the images with load_image_data"
                )
        return torch.stack(images)


def _map_style(dataset: Any, label_names: Sequence[str], name: str) -> Any:
    kind = type(dataset).__name__
    if isinstance(dataset, Mapping):
        raise ValueError(
            f"the {name} data set is a {kind} of {', '.join(map(str, dataset))}, expected one data set; name the one "
            "that is meant"
        )
    if isinstance(dataset, torch.utils.data.DataLoader):
        raise ValueError(f"the {name} data set is a {kind}, expected what it loads from; give its .dataset")
    if isinstance(dataset, torch.utils.data.IterableDataset) or not (
        hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    ):
        raise ValueError(
            f"the {name} data set is a {kind}, which can't be read by row number, expected __getitem__ and __len__: "
            "the order of a run is a function of its seed; give a map-style data set, or "
            "load_image_data(..., streaming=True) for one that is too large to store"
        )
    if len(dataset) == 0:
        raise ValueError(f"the {name} data set is empty, expected at least one image")
    own = _class_names(dataset)
    if sorted(own) == sorted(label_names) and list(own) != list(label_names):
        raise ValueError(
            f"the {name} data set numbers its classes {', '.join(own)}, the classifier {', '.join(label_names)}; "
            "create the classifier with the names in the order of the data set"
        )
    return dataset


def _class_names(dataset: Any) -> list[str]:
    """Class names in the order of their numbers, as data sets of `datasets` and torchvision know them."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        labels = next((features[name] for name in LABEL_COLUMNS if name in features), None)
        return list(getattr(labels, "names", None) or ())
    classes = getattr(dataset, "classes", None)
    return [str(each) for each in classes] if isinstance(classes, list | tuple) else []


def _tried(plain: PlainImages) -> tuple[bool, bool]:
    """Whether images differ between two readings with different keys, and are equal with the same key."""
    varies, repeats = False, True
    for row in range(min(_TRIED_ROWS, len(plain))):
        first, again, other = (plain.read(row, 0, view)[0] for view in (0, 0, 1))
        varies |= not torch.equal(first, other)
        repeats &= torch.equal(first, again)
    return varies, repeats


def _parts(stored: Any) -> tuple[Any, Any]:
    """Image and label of a row."""
    if isinstance(stored, Mapping):
        found = [next((name for name in names if name in stored), None) for names in (IMAGE_COLUMNS, LABEL_COLUMNS)]
        if None in found:
            raise ValueError(
                f"it has {', '.join(map(str, stored))}, expected an image as {', '.join(IMAGE_COLUMNS)} and a class "
                f"as {' or '.join(LABEL_COLUMNS)}; rename them"
            )
        return stored[found[0]], stored[found[1]]
    if isinstance(stored, tuple | list) and len(stored) == 2:
        return stored[0], stored[1]
    raise ValueError(f"it is a {type(stored).__name__}, expected (image, label) or a dictionary of both")


def _pixels(image: Any) -> Tensor:
    """(3, H, W) uint8."""
    if isinstance(image, PIL.Image.Image):
        return torch.from_numpy(np.array(upright_rgb(image))).permute(2, 0, 1)
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        image = torch.from_numpy(image).reshape(*image.shape[:2], -1).permute(2, 0, 1)
    if not isinstance(image, Tensor) or image.ndim != 3 or len(image) not in (1, 3):
        what = f"{type(image).__name__} of shape {tuple(image.shape)}" if hasattr(image, "shape") else type(image)
        raise ValueError(
            f"its image is a {what}, expected a PIL image, a tensor (3, H, W) or (1, H, W), or an array (H, W, 3)"
        )
    image = image.detach().cpu()
    if image.is_floating_point():
        low, high = (value.item() for value in image.aminmax())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"its image is {image.dtype} with values from {low:.4g} to {high:.4g}, expected 0 to 1, or uint8: the "
                "classifier normalises images itself; leave Normalize, or a processor, out of the data set"
            )
        image = image.float().mul(255).round().byte()
    if image.dtype != torch.uint8:
        raise ValueError(f"its image is {image.dtype}, expected uint8, or floating point from 0 to 1; convert it")
    return image.expand(3, -1, -1)


def _class_index(label: Any, num_classes: int) -> int:
    try:
        index = operator.index(label)
    except TypeError:
        raise ValueError(f"its label is {label!r}, expected the number of a class, 0 to {num_classes - 1}") from None
    if not 0 <= index < num_classes:
        raise ValueError(
            f"its label is {index}, expected 0 to {num_classes - 1}: the classifier has {num_classes} classes; "
            "correct the label, or create the classifier with all class names"
        )
    return index


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of torch (for the CPU), NumPy and Python; afterwards they are as before."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
