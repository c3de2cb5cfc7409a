"""Folders that the user named as splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from hf_icckd.data.layouts.tree import LayoutError, Node, joined, refuse, without
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.splits.words import Role, is_split_word, split_name


def chosen_folders(
    root: Node, folders: Mapping[Role, Sequence[str]], words_matter: bool, left_out: list[LeftOut]
) -> dict[Role, Node]:
    """Take the folders that the user named; the others are found beside the first of them by their names.

    Args:
        root: The data set.
        folders: Names or paths of folders, by split.
        words_matter: Whether the names of other folders may say which split they are.
        left_out: List to add to.
    """
    chosen = {role: [_find(root, name, role) for name in names] for role, names in folders.items()}
    named = {node.path for nodes in chosen.values() for node in nodes}
    first = next(iter(chosen.values()))[0]
    parent = _node_at(root, first.path.parent)
    nodes = {role: joined(own, parent) for role, own in chosen.items()}
    if words_matter:
        for child in parent if first is not root else []:
            found = split_name(child.name)
            if found and is_split_word(child.name) and found.role not in nodes and child.path not in named:
                nodes[found.role] = child
    if "train" not in nodes:
        nodes["train"] = without(root, {node.path for node in nodes.values()})
        if not nodes["train"].all_images():
            raise LayoutError("the folders that options name hold all images, and none is left to train on")
    used = {image for node in nodes.values() for image in node.all_images()}
    count = len(root.all_images()) - len(used)
    if count:
        left_out.append(LeftOut(count, "images in folders that no option names as a split"))
    return nodes


def _find(root: Node, name: str, role: Role) -> Node:
    """Return the folder of a name or path that the user gave."""
    path = PurePosixPath(name.rstrip("/"))
    every = {node.path: node for node in _walk(root)}
    if path in every:
        return every[path]
    same = [node for node in every.values() if node.name == path.as_posix()]
    if len(same) == 1:
        return same[0]
    if len(same) > 1:
        paths = ", ".join(node.path.as_posix() for node in same[:5])
        raise LayoutError(f"--{role}_split is {name!r}, which is the name of several folders: {paths}; give a path")
    refuse(root, f"--{role}_split is {name!r}, and no folder of images has that name", "give one of the folders")


def _walk(node: Node) -> list[Node]:
    return [node, *(inner for child in node for inner in _walk(child))]


def _node_at(root: Node, path: PurePosixPath) -> Node:
    for part in path.parts:
        root = root.children[part]
    return root
