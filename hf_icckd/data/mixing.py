"""mixup and CutMix: which images are mixed, how, and batches that hold the mixed pixels.

Every image of an epoch has one partner, and both are mixed with each other in one ratio, as in timm's mode `pair`.
Pairs and ratios are functions of the augmentation's seed and of the epoch alone. So any data set whose rows have
numbers can be mixed: in any order, by any worker and process, and at any size of its pixels.

Reference:
    Zhang, Cisse, Dauphin, Lopez-Paz: mixup. ICLR 2018, arXiv 1710.09412.
    Yun, Han, Oh, Chun, Choe, Yoo: CutMix. ICCV 2019, arXiv 1905.04899.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hf_icckd.data.sampling import BatchDataset, BatchKey, KeyedBatchSampler, WrappedDataset
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.utils.beta import beta_numbers
from hf_icckd.utils.keyed_random import STREAM_BOX, STREAM_MIX, STREAM_PAIR, permutation, random_words

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ClassifierSpec

WHOLE = 2**16  # shares are counted in 65,536ths, so that a blend is exact in float32 and has the same bits everywhere
_PIECE = 2**19  # values that are blended at once: on a CPU they stay in the cache
_PIXELS = ("pixel_values", "teacher_pixel_values")


def partners_of(seed: int, epoch: int, size: int) -> Tensor:
    """(size,) the row that each row is mixed with in an epoch; of an odd number, one row is its own partner."""
    order = permutation(seed, epoch, size, STREAM_PAIR)
    partners = torch.arange(size)
    first, second = order[: size // 2 * 2].view(-1, 2).unbind(1)
    partners[first], partners[second] = second, first
    return partners


class Mix(NamedTuple):
    """How B images are mixed with their partners, whatever their size.

    Attributes:
        share: (B,) int64, share of an image in its mix before a box is rounded to pixels, in 65,536ths.
        cut: (B,) bool, whether the partner comes in by a box (CutMix) or by blending (mixup).
        centre: (B, 2) int64, place of the box from top and from left, in 2**-32 of the side.
    """

    share: Tensor
    cut: Tensor
    centre: Tensor


def draw_mix(augmentation: Augmentation, epoch: int, rows: Tensor, partners: Tensor) -> Mix:
    """Draw how rows are mixed with their partners, (B,) each; both rows of a pair get the same.

    As in timm, a pair is mixed with probability `mixup_prob`, and by CutMix with `mixup_switch_prob` if both are asked
    for.
    """
    pair = torch.minimum(rows, partners)
    words = random_words(augmentation.seed, epoch, pair, 0, STREAM_MIX)
    cut_probability = (augmentation.mixup_switch_prob if augmentation.mixup else 1.0) if augmentation.cutmix else 0.0
    cut = words[:, 2] < int(cut_probability * 2**32)
    share = torch.ones(len(rows), dtype=torch.float64)
    for alpha, chosen in ((augmentation.mixup, ~cut), (augmentation.cutmix, cut)):
        if alpha:
            share = torch.where(chosen, beta_numbers(words[:, 0], alpha), share)
    mixed = (words[:, 1] < int(augmentation.mixup_prob * 2**32)) & (rows != partners)
    share = torch.where(mixed, (share * WHOLE).round().long(), WHOLE)
    return Mix(share, cut, random_words(augmentation.seed, epoch, pair, 0, STREAM_BOX)[:, :2])


def boxes_of(mix: Mix, height: int, width: int) -> Tensor:
    """Boxes of CutMix in images of a size, cut at the border; empty where there is no box.

    Sides and place are timm's: the sides are the root of the partner's share, rounded down, and the centre is any
    pixel.

    Returns:
        (B, 4) int64 left, top, right, bottom.
    """
    ratio = torch.where(mix.cut, (1 - mix.share.double() / WHOLE).sqrt(), 0.0)
    edges = []
    for side, words in ((width, mix.centre[:, 1]), (height, mix.centre[:, 0])):
        length, middle = (side * ratio).long(), words * side >> 32
        edges.append(((middle - length // 2).clamp(min=0), (middle + (length + 1) // 2).clamp(max=side)))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=1)


def shares_of(mix: Mix, height: int, width: int) -> Tensor:
    """(B,) float32 share of each image in its mix, and so of its label: with a box, the area outside of the box."""
    left, top, right, bottom = boxes_of(mix, height, width).unbind(1)
    outside = 1 - ((right - left) * (bottom - top)).double() / (height * width)
    return torch.where(mix.cut, outside, mix.share.double() / WHOLE).float()


def mix_images(images: Tensor, others: Tensor, mix: Mix) -> Tensor:
    """Mix images with their partners.

    A blend is rounded to whole grey levels, halves to the even one, as timm does where it mixes while it collates.

    Args:
        images: (B, V, C, H, W) uint8 on any device.
        others: The same views of their partners.
        mix: How, on the CPU, so that nothing waits for the device.
    """
    images = images.clone()
    blended = (~mix.cut & (mix.share < WHOLE)).nonzero()[:, 0]
    for rows in blended.split(max(1, _PIECE // images[:1].numel())) if len(blended) else ():
        there, shares = (each.to(images.device, non_blocking=True) for each in (rows, mix.share[rows].float() / WHOLE))
        images[there] = _blend(images[there], others[there], shares.view(-1, 1, 1, 1, 1))
    boxes = boxes_of(mix, *images.shape[-2:])
    rows = (boxes[:, 2] > boxes[:, 0]).nonzero()[:, 0]
    if len(rows):
        there, inside = (each.to(images.device, non_blocking=True) for each in (rows, boxes[rows]))
        images[there] = torch.where(_within(inside, images), others[there], images[there])
    return images


def _blend(images: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    return images.float().mul_(shares).add_(others.float().mul_(1 - shares)).round_().to(torch.uint8)


def _within(boxes: Tensor, images: Tensor) -> Tensor:
    """(B, 1, 1, H, W) whether a pixel is in the box of its image."""
    left, top, right, bottom = boxes.view(-1, 4, 1, 1).unbind(1)
    y = torch.arange(images.shape[-2], device=images.device)[:, None]
    x = torch.arange(images.shape[-1], device=images.device)[None, :]
    return ((x >= left) & (x < right) & (y >= top) & (y < bottom))[:, None, None]


class MixedImages(WrappedDataset):
    """Batches in which every image is mixed with its partner; both have the label of either, in their shares.

    Each view is mixed with the same view of the partner, and the teacher's pixels as the student's. Batches hold the
    partner's label as `mixed_labels` and the image's own share as `mix`.

    An image with a label is mixed with others that have one, and one without with others without.

    Its `batch_sampler` puts both rows of a pair next to each other, so that a batch has them both. A partner that is
    not in the batch of this process is read for it: at an odd batch size, and at the cut of a short last batch.

    Args:
        dataset: Training images whose rows have numbers.
        augmentation: How they are mixed, and the seed.

    Example:
        >>> import torch
        >>> import hf_icckd
        >>> augmentation = hf_icckd.Augmentation(mixup=0.2, cutmix=1.0)
        >>> pipeline = hf_icckd.ImagePipeline(hf_icckd.load_image_data("digits"), augmentation)
        >>> images = pipeline.dataset("train", training=True)
        >>> batch = images.__getitems__(next(iter(images.batch_sampler(4, seed=0))))
        >>> sorted(batch)
        ['global_rows', 'labels', 'mix', 'mixed_labels', 'pixel_values', 'sample_ids']
    """

    mixes = True

    def __init__(self, dataset: BatchDataset, augmentation: Augmentation):
        super().__init__(dataset)
        self.augmentation, self.framed, self.resampled = augmentation, dataset.framed, dataset.resampled
        self._partners: tuple[int, Tensor] | None = None

    def partners(self, epoch: int) -> Tensor:
        """(N,) partner of every row in an epoch."""
        if self._partners is None or self._partners[0] != epoch:
            unlabeled = self.unlabeled
            labeled = len(self) - unlabeled
            own = [partners_of(self.augmentation.seed, epoch, count) for count in (labeled, unlabeled)]
            self._partners = epoch, torch.cat([own[0], own[1] + labeled])
        return self._partners[1]

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """Read the rows and their partners, each once, and mix them."""
        partners = self.partners(key.epoch)[key.indices]
        rows, places = _with_partners(key.indices, partners)
        batch = self.dataset.__getitems__(key._replace(indices=rows))
        mix, count = draw_mix(self.augmentation, key.epoch, key.indices, partners), len(key.indices)
        for name in batch.keys() & set(_PIXELS):
            pixels = batch[name]
            others = pixels[places.to(pixels.device, non_blocking=True)]
            batch[name] = mix_images(pixels[:count], others, mix)
        labels, shares = batch["labels"], shares_of(mix, *batch["pixel_values"].shape[-2:])
        there = labels.device
        return batch | {
            "labels": labels[:count],
            "sample_ids": batch["sample_ids"][:count],
            "mixed_labels": labels[places.to(there, non_blocking=True)],
            "mix": shares.to(there, non_blocking=True),
        }

    def for_classifier(self, spec: ClassifierSpec) -> BatchDataset:
        """The same mixes as a classifier wants their pixels."""
        return self._over(self.dataset.for_classifier(spec))

    def with_teacher(self, spec: ClassifierSpec) -> BatchDataset:
        """The same mixes, with the teacher's pixels too where they differ."""
        return self._over(self.dataset.with_teacher(spec))

    def _over(self, dataset: BatchDataset) -> BatchDataset:
        return self if dataset is self.dataset else MixedImages(dataset, self.augmentation)

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> KeyedBatchSampler:
        """Keys whose pairs stand side by side; in order if there is no seed."""
        return KeyedBatchSampler(len(self), batch_size, seed, None if seed is None else self.partners)


def _with_partners(rows: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """All rows to read, first those of the batch, and the place of each partner among them."""
    missing = partners[~torch.isin(partners, rows)]
    everything = torch.cat([rows, missing])
    order = everything.argsort(stable=True)
    return everything, order[torch.searchsorted(everything[order], partners)]
