"""The grammar of folder layouts: which folders are splits, which are classes, which are neither.

Everything here is a function of paths; nothing is read from the disk. What can be read in two ways is refused, with
the tree and with the option that decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NoReturn

from hf_icckd.data.layouts.class_folders import class_folders, without_split_words
from hf_icckd.data.layouts.given_folders import chosen_folders
from hf_icckd.data.layouts.nesting import lies_beside
from hf_icckd.data.layouts.tree import (
    Node,
    are_numbered,
    are_parts,
    is_annotation_word,
    is_image_word,
    is_part,
    joined,
    make_tree,
    merged,
    refuse,
    without,
)
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.splits.words import ROLES, Role, SplitName, is_split_word, split_name, without_split_word
from hf_icckd.utils.text import listed


@dataclass(frozen=True)
class Choices:
    """What the user has decided about a layout.

    Attributes:
        splits: Whether names of folders may say which split they are.
        folders: Folders that the user named, by split.
        classes: Classes that the user named; other folders are no classes then.
        labels_elsewhere: Whether a table or the file names give the labels, so that folders need not be classes.
    """

    splits: bool = True
    folders: dict[Role, list[str]] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    labels_elsewhere: bool = False


@dataclass
class Layout:
    """What the folders of a data set mean.

    Attributes:
        images: Images of each split by class; the class is "" where no folder says it.
        folders: Folder of each split; "." for the root.
        left_out: Images in no split.
        notes: Decisions that a reader should know.
    """

    images: dict[Role, dict[str, list[PurePosixPath]]]
    folders: dict[Role, str]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_layout(images: Sequence[PurePosixPath], choices: Choices = Choices()) -> Layout:
    """Find splits and class folders among the paths of images.

    Args:
        images: Paths relative to the root of the data set, without those that `leave_out_annotations` leaves out.
        choices: What the user has decided.

    Raises:
        LayoutError: If the paths can be read in several ways, or no split to train on is there.

    Example:
        >>> paths = ["cars_train/audi/1.jpg", "cars_train/bmw/2.jpg", "cars_test/audi/3.jpg"]
        >>> layout = read_layout([PurePosixPath(path) for path in paths])
        >>> {split: list(classes) for split, classes in layout.images.items()}
        {'train': ['audi', 'bmw'], 'test': ['audi']}
    """
    root = make_tree(images)
    layout = Layout({}, {})
    if choices.folders:
        nodes = chosen_folders(root, choices.folders, choices.splits, layout.left_out)
    elif choices.splits:
        nodes = _find_splits(root, choices, layout)
    else:
        nodes = {"train": root}
    for role in ROLES:
        if role in nodes:
            layout.folders[role] = nodes[role].path.as_posix()
            layout.images[role] = _classes_of(nodes[role], choices, layout)
    if choices.splits:
        without_split_words(layout.images, layout.notes)
    return layout


def _classes_of(node: Node, choices: Choices, layout: Layout) -> dict[str, list[PurePosixPath]]:
    if choices.labels_elsewhere:
        return {"": node.all_images()}
    return class_folders(node, choices.splits and not choices.folders, choices.classes, layout.left_out, layout.notes)


def leave_out_annotations(images: Sequence[PurePosixPath]) -> tuple[list[PurePosixPath], list[LeftOut]]:
    """Return the images without masks, trimaps and the like in folders beside a folder of images.

    Example:
        >>> paths = [PurePosixPath("images/cat/1.jpg"), PurePosixPath("annotations/trimaps/1.png")]
        >>> [str(path) for path in leave_out_annotations(paths)[0]]
        ['images/cat/1.jpg']
    """
    root = make_tree(images)
    dropped: dict[PurePosixPath, Node] = {}

    def look_into(node: Node) -> None:
        if any(is_image_word(name) for name in node.children):
            dropped.update((child.path, child) for child in node if is_annotation_word(child.name))
        for child in node:
            look_into(child)

    look_into(root)
    if not dropped:
        return list(images), []
    count = sum(len(node.all_images()) for node in dropped.values())
    example = next(iter(dropped)).as_posix()
    left_out = LeftOut(count, "images in folders of annotations beside the images", example)
    return without(root, set(dropped)).all_images(), [left_out]


def _find_splits(node: Node, choices: Choices, layout: Layout) -> dict[Role, Node]:
    """Find the folders that are splits, at any depth; the whole tree is the training split if there are none."""
    found = _split_level(node, choices, layout)
    if found:
        return found
    children = list(node)
    if not node.images and len(children) == 1:
        if children[0].children:
            return _find_splits(children[0], choices, layout)
        if (only := split_name(children[0].name)) is not None and is_split_word(children[0].name):
            if only.role == "train":
                return {"train": children[0]}
            refuse(node, f"there is the split {children[0].name} and none to train on", _TRAIN_ON)
    if not node.images and len(children) > 1 and are_parts(node.children):
        whole = merged(children, node.path)
        if whole.children:
            _check_parts(node, choices)
            return _find_splits(whole, choices, layout)
    below = {child.name: _split_level(child, choices, Layout({}, {}), alone=False) for child in children}
    if any(below.values()):
        return _splits_in_classes(node, below, choices)
    return {"train": node}


def _check_parts(node: Node, choices: Choices) -> None:
    """Parts of one data set have classes in common; folders of one class each don't."""
    names = [set(child.names()) for child in node]
    if any(not any(own & other for other in names if other is not own) for own in names if own):
        if choices.labels_elsewhere:
            return
        refuse(
            node,
            f"the folders {_listed(node.names())} look like parts of one data set but have no class in common",
            "use --splits none if they are no parts, or move them apart",
        )


def _splits_in_classes(node: Node, below: dict[str, dict[Role, Node]], choices: Choices) -> dict[Role, Node]:
    """Read CLASS/SPLIT/IMAGE, where every class folder holds the splits."""
    simple = all(
        found and all(not split.children or _is_wrapped(split) for split in found.values()) for found in below.values()
    )
    if not simple or node.images or len(below) < 2:
        if choices.labels_elsewhere:
            return {"train": node}
        inside = [name for name, found in below.items() if found]
        refuse(
            node,
            f"there are splits inside {_listed(inside)}, which may be data sets of their own",
            "give one of these folders as --dataset, or name folders with --train_split and --test_split",
        )
    nodes: dict[Role, Node] = {}
    for name, found in below.items():
        for role, split in found.items():
            nodes.setdefault(role, Node(node.path)).children[name] = split
    return nodes


def _is_wrapped(node: Node) -> bool:
    """Whether a folder holds nothing but a folder of images, `images/`."""
    return not node.images and len(node.children) == 1 and all(is_image_word(child.name) for child in node)


def _split_level(node: Node, choices: Choices, layout: Layout, alone: bool = True) -> dict[Role, Node]:
    """Find the splits among the folders of one folder; empty if there are none.

    Args:
        alone: Whether a folder `train` with class folders is enough, without a test split beside it.
    """
    named = {child.name: found for child in node if (found := split_name(child.name))}
    groups: dict[frozenset[str], list[str]] = {}
    for name, found in named.items():
        groups.setdefault(found.rest, []).append(name)
    complete = [
        names
        for names in groups.values()
        if len({named[name].role for name in names}) > 1 and any(named[name].role == "train" for name in names)
    ]
    if len(complete) > 1:
        exact = groups.get(frozenset(), [])
        if exact not in complete:
            _refuse_sets(node, complete, named)
        complete = [exact]
    if complete:
        return _splits_among(node, complete[0], choices, layout)
    if not alone or choices.labels_elsewhere:
        return {}
    exact = [name for name in groups.get(frozenset(), []) if node.children[name].children]
    trains = [name for name in exact if named[name].role == "train"]
    if trains:
        if len(trains) == len(node.children) and not node.images:
            _check_several(node, {"train": trains})
            inner = _split_level(node.children[trains[0]], choices, layout) if len(trains) == 1 else {}
            return inner or {"train": joined([node.children[name] for name in trains], node)}
        refuse(node, f"the split {trains[0]!r} lies beside other folders of images", _NAME_OR_NONE)
    if exact and len(exact) == len(node.children):
        refuse(
            node,
            f"there are the splits {_listed(exact)} and none to train on, expected one called train",
            _TRAIN_ON,
        )
    return {}


def _refuse_sets(node: Node, sets: list[list[str]], named: dict[str, SplitName]) -> NoReturn:
    """Refuse several sets of splits, such as `cat_train`, `cat_test`, `dog_train` and `dog_test`."""
    remedy = _NAME_THEM
    names = [name for own in sets for name in own]
    if not any(node.children[name].children for name in names):
        options = []
        for role in ROLES:
            own = [f"'{(node.path / name).as_posix()}'" for name in names if named[name].role == role]
            options += [f"--{role}_split {' '.join(own)}"] if own else []
        classes = list(dict.fromkeys(without_split_word(name, named[name].role) or name for name in names))
        pattern = f"({'|'.join(map(re.escape, classes))})[^/]*/[^/]+$"
        remedy += f". If the classes are {listed(classes, 3)}: {' '.join(options)} --label_pattern '{pattern}'"
    refuse(node, f"there are two sets of splits, {_listed(sets[0])} and {_listed(sets[1])}", remedy)


_TRAIN_ON = "name the folder to train on with --train_split"
_NAME_THEM = "name the ones to use with --train_split and --test_split"
_NAME_OR_NONE = f"{_NAME_THEM}; other folders are left out then. If all folders are classes, use --splits none"


def _splits_among(node: Node, names: list[str], choices: Choices, layout: Layout) -> dict[Role, Node]:
    """Take the splits of these names, the most usual name for each, and look at what lies beside them."""
    ranked: dict[Role, dict[int, list[str]]] = {}
    for name in names:
        found = split_name(name)
        assert found is not None  # the names were found to be those of splits
        ranked.setdefault(found.role, {}).setdefault(found.rank, []).append(name)
    taken = {role: by_rank[min(by_rank)] for role, by_rank in ranked.items()}
    _check_several(node, taken)
    used = [name for chosen in taken.values() for name in chosen]
    nodes = {role: joined([node.children[name] for name in chosen], node) for role, chosen in taken.items()}
    beside = [child for child in node if child.name not in used]
    if not choices.labels_elsewhere:
        for child in beside:
            _check_beside(node, child, nodes["train"])
        if node.images:
            lie = "1 image lies" if len(node.images) == 1 else f"{len(node.images):,} images lie"
            refuse(node, f"{lie} beside the splits, such as {str(node.images[0])!r}", _MOVE)
    count = sum(len(child.all_images()) for child in beside)
    if count:
        kept = ", ".join(used)
        layout.left_out.append(LeftOut(count, f"images in folders beside the splits {kept}", _listed(_names(beside))))
    return nodes


def _check_several(node: Node, taken: dict[Role, list[str]]) -> None:
    """Refuse several folders for one split unless they are numbered parts of it; numbers of two splits are folds."""
    several = {role: names for role, names in taken.items() if len(names) > 1}
    for role, names in several.items():
        folds = len(several) > 1 and not all(map(is_part, names))
        if folds or not are_numbered(names):
            refuse(
                node,
                f"there are several folders for the {role} split, {_listed(names)}, which may hold the same images",
                f"{_NAME_THEM}; several folders for one split are joined, others are left out",
            )


_MOVE = "move them into folders of their classes, or remove them"


def _check_beside(node: Node, child: Node, train: Node) -> None:
    """Refuse a folder beside the splits that may be a class; one that can be none may be left out."""
    if lies_beside(child.name) or is_annotation_word(child.name) or split_name(child.name) is not None:
        return
    inner = {path[-1] for path in child.leaves() if path}
    if child.children and inner & {path[-1] for path in train.leaves() if path}:
        return  # another copy of the data set
    refuse(node, f"the folder {child.name!r} lies beside splits", _NAME_OR_NONE)


def _names(nodes: Sequence[Node]) -> list[str]:
    return [node.name for node in nodes]


def _listed(names: Sequence[str]) -> str:
    """Names for a message, at most four."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
