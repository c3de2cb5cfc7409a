"""Epochs that show the images of small classes more often, and those of large ones less often.

An epoch has as many places as there are images. Which image stands in each of them is a function of the sampling's
seed and of the epoch. Places have numbers as rows do, so they can be shuffled, mixed, cut over processes and recorded
like the rows of any data set.

Reference:
    Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis: Decoupling Representation and Classifier for Long-Tailed
    Recognition. ICLR 2020, arXiv 1910.09217, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from hf_icckd.data.sampling import BatchDataset, BatchKey, WrappedDataset, rank_within_class
from hf_icckd.options.imbalance import Sampling
from hf_icckd.utils.keyed_random import STREAM_DRAW, STREAM_REMAINDER, permutation

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ClassifierSpec


def class_shares(images: Sequence[int], kind: Literal["balanced", "square_root"]) -> list[float]:
    """Share of an epoch that each class gets; a class without images gets none.

    Example:
        >>> class_shares([90, 10, 0], "balanced"), class_shares([90, 10, 0], "square_root")
        ([0.5, 0.5, 0.0], [0.75, 0.25, 0.0])
    """
    parts = [math.sqrt(count) if kind == "square_root" else float(count > 0) for count in images]
    total = math.fsum(parts)
    return [part / total for part in parts]


def class_draws(images: Sequence[int], sampling: Sampling, epoch: int) -> list[int]:
    """How many images of each class an epoch shows; they add up to all images.

    What rounding leaves goes to the largest fractions, and where those are equal to other classes in each epoch.

    Example:
        >>> class_draws([90, 10, 1], Sampling("square_root"), epoch=0)
        [70, 24, 7]
    """
    total = sum(images)
    exact = [total * share for share in class_shares(images, sampling.kind)]
    draws = [math.floor(value) for value in exact]
    order = permutation(sampling.seed, epoch, len(images), STREAM_REMAINDER).tolist()
    order.sort(key=lambda label: draws[label] - exact[label])
    for label in order[: total - sum(draws)]:
        draws[label] += 1
    return draws


def places_of(labels: Tensor, sampling: Sampling, epoch: int) -> tuple[Tensor, Tensor]:
    """Which image stands in each place of an epoch.

    The images of a class are shown equally often, to within one; those that are shown once more differ from epoch to
    epoch.

    Args:
        labels: (N,) class indices.
        sampling: How often classes are shown, and the seed.
        epoch: Epoch.

    Returns:
        (N,) row of each place, in rising order, and (N,) how often that row stands before it.

    Example:
        >>> rows, repeats = places_of(torch.tensor([0, 0, 0, 1]), Sampling("balanced"), epoch=0)
        >>> rows.tolist(), repeats.tolist()
        ([1, 2, 3, 3], [0, 0, 0, 1])
    """
    images = labels.bincount()
    draws = torch.tensor(class_draws(images.tolist(), sampling, epoch))
    order = permutation(sampling.seed, epoch, len(labels), STREAM_DRAW)
    rank = torch.empty_like(order)
    rank[order] = torch.from_numpy(rank_within_class(labels[order].numpy()))
    times = (draws // images.clamp(min=1))[labels] + (rank < (draws % images.clamp(min=1))[labels])
    rows = torch.arange(len(labels)).repeat_interleave(times)
    first = times.cumsum(0) - times
    return rows, torch.arange(len(rows)) - first[rows]


class ResampledImages(WrappedDataset):
    """Training images of which an epoch shows some several times and some not at all.

    Row i of an epoch is its i-th place. A repeated image is cropped and changed in another way each time. `sample_ids`
    are rows of the stored images, so that no term takes a repeated image for another one of its class.

    Args:
        dataset: The images; it must know the class of each.
        sampling: How often classes are shown, and the seed.

    Raises:
        ValueError: If the data set does not know the classes.

    Example:
        >>> import hf_icckd
        >>> data = hf_icckd.load_image_data("digits")
        >>> pipeline = hf_icckd.ImagePipeline(data, sampling=hf_icckd.Sampling("balanced"))
        >>> images = pipeline.dataset("train", training=True)
        >>> batch = images.__getitems__(BatchKey(0, torch.arange(len(images)), len(images)))
        >>> batch["labels"].bincount().unique().tolist()
        [143, 144]
    """

    resampled = True

    def __init__(self, dataset: BatchDataset, sampling: Sampling):
        labels = dataset.class_labels()
        if labels is None or int(labels.min()) < 0:
            raise ValueError(
                f"sampling is {sampling.kind!r}, but {'no' if labels is None else 'not every'} image has a class that "
                "is known before it is read, expected all; leave sampling out"
            )
        super().__init__(dataset)
        self.sampling, self.labels, self.framed = sampling, labels, dataset.framed
        self._places: tuple[int, tuple[Tensor, Tensor]] | None = None

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The images that stand in these places."""
        if self._places is None or self._places[0] != key.epoch:
            self._places = key.epoch, places_of(self.labels, self.sampling, key.epoch)
        rows, repeats = (each[key.indices] for each in self._places[1])
        return self.dataset.__getitems__(key._replace(indices=rows, repeats=repeats))

    def for_classifier(self, spec: ClassifierSpec) -> BatchDataset:
        """The same places as a classifier wants their pixels."""
        return self._over(self.dataset.for_classifier(spec))

    def with_teacher(self, spec: ClassifierSpec) -> BatchDataset:
        """The same places, with the teacher's pixels too where they differ."""
        return self._over(self.dataset.with_teacher(spec))

    def _over(self, dataset: BatchDataset) -> BatchDataset:
        return self if dataset is self.dataset else ResampledImages(dataset, self.sampling)
