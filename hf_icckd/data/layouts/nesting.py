"""Folders in folders: which level is that of the classes. Where several may be, the layout is refused."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NoReturn

from hf_icckd.data.layouts.tree import (
    Node,
    are_parts,
    is_annotation_word,
    is_image_word,
    only_holds_images,
    refuse,
)
from hf_icckd.utils.text import listed

Folders = dict[tuple[str, ...], list[PurePosixPath]]
# Folders beside splits or beside the folder of the classes that hold no class: their images have no labels, were
# replaced by others, or belong to a text.
BESIDE = {
    "pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "unsup", "unsupervised", "extra",
    "submission", "inference", "backup", "old", "raw", "sample", "samples", "sample_images", "examples", "demo",
    "figure", "fig", "paper", "doc", "plot", "notebook", "asset", "meta", "metadata", "result",
    "output", "readme",
}  # fmt: skip
# Several versions of the same images, of which a model must not see one in training and one in the test.
_VERSIONS = {
    "original", "originals", "augmented", "augmentation", "augmentations", "aug", "augment", "raw", "processed",
    "preprocessed", "unprocessed", "resized", "cropped", "uncropped", "enhanced", "segmented", "grayscale",
    "greyscale", "normalized", "normalised", "denoised", "balanced", "unbalanced", "oversampled",
}  # fmt: skip
_HOLDERS = {"dataset", "datasets", "data", "database"}


def lies_beside(name: str) -> bool:
    """Whether a folder's name says that it holds no class, as `samples` and `figure_1`."""
    return name.lower() in BESIDE or any({word, word.removesuffix("s")} & BESIDE for word in name.lower().split("_"))


def without_wrappers(folders: Folders, notes: list[str]) -> Folders:
    """Drop inner folders that say nothing: `cat/images`, `cat/part_1`, and the last of `cat/raw` and `dog/raw`."""
    while True:
        names = {path[-1] for path in folders if path}
        same = len(names) == 1 and len(folders) > 1 and all(len(path) > 1 for path in folders)
        dropped = {path for path in folders if len(path) > 1 and (same or _says_nothing(path, folders))}
        dropped -= {path for path in dropped if path[:-1] in folders}
        if not dropped:
            return folders
        if same and not any(_says_nothing(path, folders) for path in dropped):
            note = f"All class folders hold one folder {names.pop()!r}, so it is no class."
            notes += [] if note in notes else [note]
        shorter: Folders = {}
        for path, images in folders.items():
            shorter.setdefault(path[:-1] if path in dropped else path, []).extend(images)
        folders = shorter


def _says_nothing(path: tuple[str, ...], folders: Folders) -> bool:
    if is_image_word(path[-1]):
        return True
    return are_parts([other[-1] for other in folders if len(other) == len(path) and other[:-1] == path[:-1]])


def check_nesting(node: Node, folders: Folders) -> None:
    """Refuse a folder of images inside a folder of images.

    Args:
        node: Folder of the split, for the error.
        folders: Images of each folder below it that holds some.
    """
    for path in folders:
        for length in range(1, len(path)):
            if path[:length] in folders:
                refuse(
                    node,
                    f"{'/'.join(path[:length])!r} holds images and the folder {'/'.join(path)!r}, which holds images "
                    "too, so that it is not clear which of them is a class",
                    "move the images, or take the first folder as the class with --label_pattern '^([^/]+)/'",
                )


def check_levels(node: Node, folders: Folders) -> None:
    """Refuse folders in folders where it is not certain that the innermost ones are the classes."""
    for path in folders:
        if len(folders) > 1 and only_holds_images(path[-1]):
            refuse(
                node,
                f"{'/'.join(path)!r} says only that images are in it, and lies among other folders, so that it is not "
                "clear which folders are classes",
                "name the folder of the classes with --train_split, or the classes with --classes",
            )
    deep = [path for path in folders if len(path) > 1]
    if deep:
        _check_versions(node, folders)
        _check_beside(node, folders)
        _check_single(node, folders)
        _check_numbers(node, folders)


def levels(folders: Folders, node: Node) -> str:
    """Say which `--label_pattern` takes the outer folders as classes and which the inner ones."""
    deep = [path for path in folders if len(path) > 1]
    if not deep:
        return ""
    if len({len(path) for path in folders}) == 1:
        outer = "([^/]+)/" + "[^/]+/" * (len(deep[0]) - 1) + "[^/]+$"
    else:
        above = len(node.path.parts)
        outer = "^" + (f"(?:[^/]+/){{{above}}}" if above else "") + "([^/]+)/"
    names = listed(list(dict.fromkeys(path[0] for path in folders)), 3)
    inner = listed(list(dict.fromkeys(path[-1] for path in folders)), 3)
    return (
        f"if the classes are {names}, add --label_pattern '{outer}'; if they are {inner}, add --label_pattern "
        "'([^/]+)/[^/]+$'"
    )


def _uncertain(node: Node, folders: Folders, reason: str) -> NoReturn:
    refuse(node, f"{reason}, so that it is not clear which folders are classes", levels(folders, node))


def _check_versions(node: Node, folders: Folders) -> None:
    """Refuse `original/cat` beside `augmented/cat_augmented`."""
    for path in folders:
        for name in path[:-1]:
            if _words(name) & _VERSIONS:
                refuse(
                    node,
                    f"{name!r} looks like one of several versions of the same images",
                    "name the folder to use with --train_split; others are left out then. Versions of one image must "
                    f"not lie in training and test split. Otherwise: {levels(folders, node)}",
                )


def _check_beside(node: Node, folders: Folders) -> None:
    """Refuse `samples/` beside `dataset/cat` and `dataset/dog`: the one holds images, the other class folders."""
    flat = [path[0] for path in folders if len(path) == 1]
    holders = [path[0] for path in folders if len(path) > 1]
    for name in flat:
        other = next((other for other in holders if is_image_word(other) or _words(other) & _HOLDERS), None)
        if other is not None or lies_beside(name) or is_annotation_word(name):
            refuse(
                node,
                f"{name!r} holds images and lies beside {(other or holders[0])!r}, which holds folders of images, so "
                "that it is not clear which folders are classes",
                f"name the folder of the classes with --train_split, for example --train_split "
                f"'{(node.path / (other or holders[0])).as_posix()}'; others are left out then",
            )


def _check_single(node: Node, folders: Folders) -> None:
    """Refuse `cat/New folder/` beside `dog/`, which holds images directly."""
    flat = {path[:-1] for path in folders}
    for path in folders:
        alone = sum(other[: len(path) - 1] == path[:-1] for other in folders) == 1
        if len(path) > 1 and alone and path[:-2] in flat and path[-1].casefold() != path[-2].casefold():
            _uncertain(
                node, folders, f"{'/'.join(path[:-1])!r} holds images in its folder {path[-1]!r}, and others directly"
            )


def _check_numbers(node: Node, folders: Folders) -> None:
    """Refuse `benign/patient_1` and `run/2019`: people, films, years and numbers are rarely the classes."""
    deep = [path for path in folders if len(path) > 1]
    inner: dict[tuple[str, ...], set[str]] = {}
    for path in deep:
        inner.setdefault(path[:-1], set()).add(re.sub(r"\d+", "#", path[-1]))
    numbered = all(len(names) == 1 and "#" in next(iter(names)) for names in inner.values())
    if len(inner) + len(folders) - len(deep) > 1 and numbered:
        _uncertain(
            node,
            folders,
            f"the folders in {'/'.join(deep[0][:-1])!r} differ in a number only, such as {deep[0][-1]!r}: they may be "
            "people, films or days",
        )


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
