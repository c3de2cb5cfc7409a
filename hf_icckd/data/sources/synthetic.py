"""A generated image set with several features ("views") per class, and the true view of every image.

Classes of real images can be recognised by several features (a car by its wheels or its windows), and most but not all
images show all of them. A network may learn one feature per class and still fit the training set, while a teacher's
soft labels tell a student which features an image has. Here the features are drawn, so a probe can measure which of
them a teacher has kept.

Reference:
    Allen-Zhu & Li 2020, Towards Understanding Ensemble, Knowledge Distillation and Self-Distillation in Deep Learning,
    arXiv 2012.09816 (the multi-view distribution of its section 2; images instead of abstract patch vectors are ours).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import torch
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset
from torch import Tensor

from hf_icckd.data.labels.columns import FINE_LABEL
from hf_icckd.data.sources.source import Reading, Source, refuse_file_options, refuse_to_stream
from hf_icckd.data.splits.roles import named_reading
from hf_icckd.options.data import ImageDataArguments

GRID = 4  # an image is GRID x GRID patches, and a feature GRID x GRID cells
PATCHES_PER_VIEW = 2
PATCHES_OF_OTHERS = 4  # patches with weak features of other classes
MOST_EDGES = 10  # of the 24 borders between the cells of a feature; with more it looks like noise
# Each against its complement: white and black, red and cyan, green and magenta, blue and yellow.
COLOURS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float32)
CONTRAST = 90  # grey levels between the background and a feature at strength 1
STREAMS = {"features": 0, "train": 1, "test": 2}  # independent random streams of one seed


class MultiViewImages(NamedTuple):
    """A split of the set.

    Attributes:
        images: (N, 3, S, S) uint8.
        labels: (N,) int64, cycling through 0..C-1, so that any C consecutive rows hold each class once.
        views: (N,) int64, which feature of its class dominates the image.
        is_multi_view: (N,) bool, whether the image shows all features of its class or the dominant one only.
    """

    images: Tensor
    labels: Tensor
    views: Tensor
    is_multi_view: Tensor


def make_multi_view_features(num_classes: int = 10, num_views: int = 2, patch_size: int = 8, seed: int = 0) -> Tensor:
    """Draw the features of all classes: two-colour patterns, all distinct, even when mirrored.

    Half of the 4 x 4 cells of a pattern have a colour and the others its complement, so a feature does not change the
    mean colour of an image. There are few colours, shared by many classes, so colour alone doesn't tell the class.

    Args:
        num_classes: Number of classes, C.
        num_views: Features per class, V.
        patch_size: Side of a pattern in pixels, P, a multiple of 4.
        seed: Seed of the draw.

    Returns:
        (C, V, 3, P, P) float32 in -1..1.

    Raises:
        ValueError: If more features are asked for than exist (2,004), or an argument is out of range.
    """
    _require("num_classes", num_classes, 2)
    _require("num_views", num_views, 1)
    _require_multiple("patch_size", patch_size, GRID)
    _require("seed", seed, 0)
    patterns = _distinct_patterns()
    num_features, most_features = num_classes * num_views, len(patterns) * len(COLOURS)
    if num_features > most_features:
        raise ValueError(
            f"num_classes * num_views is {num_features}, expected at most {most_features} (as many distinct features "
            "exist): ask for fewer classes or views"
        )
    rng = np.random.default_rng([seed, STREAMS["features"]])
    chosen = patterns[rng.permutation(len(patterns))[:num_features]]
    first_colour = rng.permutation(len(chosen))
    # When all patterns are used, the next round uses them again in another colour.
    turn, pattern = np.divmod(np.arange(num_features), len(chosen))
    colours = COLOURS[(first_colour[pattern] + turn) % len(COLOURS)]
    signs = np.where(chosen[pattern], np.float32(1), np.float32(-1))[:, None]
    features = np.kron(colours[:, :, None, None] * signs, np.ones((patch_size // GRID,) * 2, dtype=np.float32))
    return torch.from_numpy(features).unflatten(0, (num_classes, num_views))


def make_multi_view_images(
    num_classes: int = 10,
    num_images_per_class: int = 200,
    image_size: int = 32,
    *,
    num_views: int = 2,
    multi_view_fraction: float = 0.8,
    feature_noise: float = 0.4,
    noise_std: float = 28.0,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
) -> MultiViewImages:
    """Draw a label-balanced split of the multi-view image set.

    An image is a 4 x 4 grid of patches on grey. A multi-view image shows every feature of its class in two patches, at
    a strength in 0.5..1 that is drawn per feature; a single-view image shows only one feature. Four more patches show
    weak features of other classes. Places are random, patches are mirrored at random (so a horizontal flip keeps the
    class), the image is shifted by up to half a patch around its edges, and Gaussian noise is added.

    The features depend on `seed` and their number, the images on `seed` and `split`: two calls that differ in `split`
    make a training set and its test set. With the defaults a linear probe on the pixels reaches about 60 %, and a
    small convolutional network passes 90 % in a few epochs; the single-view images are the hard ones.

    Args:
        image_size: Side in pixels, S, a multiple of 16.
        num_views: Features per class, 1 to 6.
        multi_view_fraction: Share of multi-view images in every class, rounded to whole images.
        feature_noise: Largest strength of the features of other classes, in 0..1.
        noise_std: Standard deviation of the background noise in grey levels (0..255).
        split: Which of the independent draws to return.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> train = make_multi_view_images(num_images_per_class=5, split="train")
        >>> train.images.shape, train.labels[:3].tolist()
        (torch.Size([50, 3, 32, 32]), [0, 1, 2])
    """
    _require("num_images_per_class", num_images_per_class, 1)
    _require_multiple("image_size", image_size, GRID * GRID)
    _require("num_views", num_views, 1, (GRID * GRID - PATCHES_OF_OTHERS) // PATCHES_PER_VIEW)
    for name, share in (("multi_view_fraction", multi_view_fraction), ("feature_noise", feature_noise)):
        _require(name, share, 0, 1)
    _require("noise_std", noise_std, 0)
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}, expected 'train' or 'test'")
    features = make_multi_view_features(num_classes, num_views, image_size // GRID, seed).flatten(0, 1).numpy()
    rng = np.random.default_rng([seed, STREAMS[split]])
    labels = np.arange(num_classes * num_images_per_class) % num_classes
    is_multi_view = _draw_multi_view(num_classes, num_images_per_class, multi_view_fraction, rng)
    view_strength = rng.uniform(0.5, 1, size=(len(labels), num_views))
    views = view_strength.argmax(axis=1)
    is_shown = is_multi_view[:, None] | (views[:, None] == np.arange(num_views))
    patch_feature, patch_strength = _draw_patches(labels, view_strength * is_shown, num_classes, feature_noise, rng)
    images = _render(features, patch_feature, patch_strength, noise_std, rng)
    return MultiViewImages(*map(torch.from_numpy, (images, labels, views, is_multi_view)))


def _draw_multi_view(num_classes: int, num_per_class: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) whether each image shows all features of its class; the share is exact in every class."""
    is_multi_view = np.arange(num_per_class)[:, None] < round(fraction * num_per_class)
    return rng.permuted(np.tile(is_multi_view, num_classes), axis=0).reshape(-1)


def _draw_patches(
    labels: np.ndarray,
    view_strength: np.ndarray,
    num_classes: int,
    feature_noise: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what each patch shows: number and strength of a feature, both (N, GRID * GRID).

    Args:
        labels: (N,) class of each image.
        view_strength: (N, V) strength of each feature of that class; 0 where it is not shown.
        num_classes: Number of classes.
        feature_noise: Largest strength of the features of other classes.
        rng: Source of all random numbers.
    """
    num_images, num_views = view_strength.shape
    # Fill the patches in a fixed order (own features, features of other classes, blank), then shuffle the places.
    num_own = num_views * PATCHES_PER_VIEW
    patch_feature = np.zeros((num_images, GRID * GRID), dtype=np.int64)
    patch_strength = np.zeros((num_images, GRID * GRID), dtype=np.float32)
    patch_feature[:, :num_own] = labels[:, None] * num_views + np.arange(num_own) // PATCHES_PER_VIEW
    patch_strength[:, :num_own] = view_strength.repeat(PATCHES_PER_VIEW, axis=1)
    others = slice(num_own, num_own + PATCHES_OF_OTHERS)
    shape = (num_images, PATCHES_OF_OTHERS)
    other_labels = (labels[:, None] + rng.integers(1, num_classes, size=shape)) % num_classes
    patch_feature[:, others] = other_labels * num_views + rng.integers(num_views, size=shape)
    patch_strength[:, others] = rng.uniform(0, feature_noise, size=shape)
    places = rng.permuted(np.tile(np.arange(GRID * GRID), (num_images, 1)), axis=1)
    return np.take_along_axis(patch_feature, places, axis=1), np.take_along_axis(patch_strength, places, axis=1)


class Synthetic(Source):
    """2,000 training and 500 test images; the dominant view of each is its fine label."""

    image_column = "image"
    label_column = "label"
    has_fine_labels = True

    def read(self, options: ImageDataArguments) -> Reading:
        """Draw both splits, the same ones every time."""
        refuse_file_options("synthetic", options)
        splits = {"train": _drawn_split("train", 200), "test": _drawn_split("test", 50)}
        return named_reading("synthetic", splits, options, "split")

    def streams(self, options: ImageDataArguments) -> Mapping[str, IterableDataset]:
        """Refuse: the images are drawn in a second."""
        refuse_to_stream("synthetic")


def _drawn_split(split: Literal["train", "test"], per_class: int) -> Dataset:
    images, labels, views, _ = make_multi_view_images(num_images_per_class=per_class, split=split)
    names = [f"class {i}" for i in range(10)]
    fine_names = [f"{class_name}, view {view}" for class_name in names for view in range(2)]
    features = Features({"image": Image(), "label": ClassLabel(names=names), FINE_LABEL: ClassLabel(names=fine_names)})
    columns = {
        "image": [PIL.Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()],
        "label": labels.tolist(),
        FINE_LABEL: (2 * labels + views).tolist(),
    }
    return Dataset.from_dict(columns, features=features)


def _render(
    features: np.ndarray,
    patch_feature: np.ndarray,
    patch_strength: np.ndarray,
    noise_std: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw features (F, 3, P, P) into the patches (N, GRID * GRID) of N images; mirror, shift and add noise."""
    num_images, patch_size = len(patch_feature), features.shape[-1]
    image_size = GRID * patch_size
    features = np.stack([features, features[..., ::-1]])
    is_mirrored = rng.integers(2, size=patch_feature.shape)
    patches = features[is_mirrored, patch_feature] * (CONTRAST * patch_strength)[:, :, None, None, None]
    patches = patches.reshape(num_images, GRID, GRID, 3, patch_size, patch_size)
    images = patches.transpose(0, 1, 4, 2, 5, 3).reshape(num_images, image_size, image_size, 3)
    # Without a shift, a linear classifier could use one template per place.
    shift = rng.integers(patch_size // 2, size=(2, num_images, 1))
    rows, columns = (shift + np.arange(image_size)) % image_size
    images = images[np.arange(num_images)[:, None, None], rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    noise = rng.standard_normal(images.shape, dtype=np.float32) * np.float32(noise_std)
    return np.clip(np.rint(images + noise + 128), 0, 255).astype(np.uint8, order="C")


def _distinct_patterns() -> np.ndarray:
    """Return all smooth half-filled patterns (K, GRID, GRID), none the mirror image or negative of another."""
    cells = np.arange(GRID * GRID)
    patterns = (np.arange(1 << GRID * GRID)[:, None] >> cells & 1).astype(bool)
    patterns = patterns[patterns.sum(axis=1) == GRID * GRID // 2].reshape(-1, GRID, GRID)
    edges = (patterns[:, 1:] != patterns[:, :-1]).sum(axis=(1, 2))
    edges += (patterns[:, :, 1:] != patterns[:, :, :-1]).sum(axis=(1, 2))
    patterns = patterns[edges <= MOST_EDGES]
    lookalikes = [patterns, ~patterns, patterns[:, :, ::-1], ~patterns[:, :, ::-1]]
    codes = np.stack([variant.reshape(-1, GRID * GRID) @ (1 << cells) for variant in lookalikes])
    return patterns[codes.argmax(axis=0) == 0]


def _require(name: str, value: float, minimum: float, maximum: float = float("inf")) -> None:
    if not minimum <= value <= maximum:
        bounds = f"at least {minimum}" if maximum == float("inf") else f"in {minimum}..{maximum}"
        raise ValueError(f"{name} is {value}, expected {bounds}: pass a value in that range")


def _require_multiple(name: str, value: int, unit: int) -> None:
    if value < unit or value % unit:
        raise ValueError(f"{name} is {value}, expected a multiple of {unit}: cells are whole pixels")
