"""A tree of folders and images, as the grammar of layouts reads it and as an error shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

_SHOWN_FOLDERS, _SHOWN_DEPTH = 12, 3
_IMAGE_WORDS = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "jpg", "jpeg", "png", "frames"}
_ANNOTATION_WORDS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annots", "trimap", "trimaps", "segmentation",
    "segmentations", "segmentationclass", "segmentationobject", "groundtruth", "gt", "labelimages", "depth",
}  # fmt: skip
_PART = re.compile(r"(?:.*[\W_])?(?:parts?|images?|imgs?|batch|shard|chunk|volume|vol|disk)[\W_]*\d+", re.IGNORECASE)


@dataclass
class Node:
    """A folder that holds images, directly or deeper.

    Attributes:
        path: Path from the root of the data set.
        images: Images that lie directly in it.
        children: Folders in it that hold images, by name, sorted.
    """

    path: PurePosixPath
    images: list[PurePosixPath] = field(default_factory=list)
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    def __iter__(self) -> Iterator[Node]:
        return iter(self.children.values())

    def all_images(self) -> list[PurePosixPath]:
        """Return the images in it and in all folders below it, in order."""
        return self.images + [image for child in self for image in child.all_images()]

    def leaves(self, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], list[PurePosixPath]]:
        """Return the images of each folder that holds some, by the names of the folders down to it."""
        found = {above: self.images} if self.images else {}
        for name, child in self.children.items():
            found |= child.leaves((*above, name))
        return found

    def names(self) -> list[str]:
        """Return the names of the folders in it."""
        return list(self.children)


def make_tree(images: Iterable[PurePosixPath]) -> Node:
    """Build the tree of relative paths.

    Example:
        >>> tree = make_tree([PurePosixPath("train/cat/1.png"), PurePosixPath("train/dog/1.png")])
        >>> tree.children["train"].names()
        ['cat', 'dog']
    """
    root = Node(PurePosixPath())
    for image in sorted(images):
        node = root
        for part in image.parts[:-1]:
            node = node.children.setdefault(part, Node(node.path / part))
        node.images.append(image)
    return root


def merged(nodes: Iterable[Node], path: PurePosixPath) -> Node:
    """Return one folder with the content of several: folders of the same name become one."""
    result = Node(path)
    children: dict[str, list[Node]] = {}
    for node in nodes:
        result.images += node.images
        for name, child in node.children.items():
            children.setdefault(name, []).append(child)
    for name in sorted(children):
        same = children[name]
        result.children[name] = same[0] if len(same) == 1 else merged(same, same[0].path)
    return result


def without(node: Node, dropped: set[PurePosixPath]) -> Node:
    """Return the tree without the folders of these paths, and without folders that are empty then."""
    children = {name: without(child, dropped) for name, child in node.children.items() if child.path not in dropped}
    kept = {name: child for name, child in children.items() if child.images or child.children}
    return Node(node.path, node.images, kept)


def draw(node: Node, what: str = "image") -> str:
    """Draw a tree as lines of text, cut short; `what` its files are, in the singular."""
    lines = [f"  {_number(len(node.images), what)}"] if node.images else []
    lines += _lines(node, 1, what)
    if len(lines) > _SHOWN_FOLDERS:
        lines = [*lines[:_SHOWN_FOLDERS], f"  ... and {len(lines) - _SHOWN_FOLDERS} more folders"]
    return "\n".join(lines)


def _lines(node: Node, depth: int, what: str) -> list[str]:
    lines = []
    children = list(node)
    shown = children if len(children) <= _SHOWN_FOLDERS // depth else children[: _SHOWN_FOLDERS // depth - 1]
    for child in shown:
        count = len(child.all_images())
        folders = f", {len(child.children)} folders" if child.children else ""
        lines.append(f"{'  ' * depth}{child.name}/ ({_number(count, what)}{folders})")
        if depth < _SHOWN_DEPTH:
            lines += _lines(child, depth + 1, what)
    if len(shown) < len(children):
        lines.append(f"{'  ' * depth}... and {len(children) - len(shown)} more folders")
    return lines


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def is_image_word(name: str) -> bool:
    """Whether a folder's name only says that images are in it."""
    return re.sub(r"[\W_]", "", name.lower()) in _IMAGE_WORDS


def is_annotation_word(name: str) -> bool:
    """Whether a folder's name says that masks or other annotations are in it."""
    return re.sub(r"[\W_]", "", name.lower()) in _ANNOTATION_WORDS


def is_part(name: str) -> bool:
    """Whether a folder's name says that it is one part of many: `part_1`, `images_001`."""
    return _PART.fullmatch(name) is not None
