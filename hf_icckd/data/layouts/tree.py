"""A tree of folders and images, as the grammar of layouts reads it and as an error shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NoReturn

_SHOWN_FOLDERS, _SHOWN_DEPTH = 12, 3
_IMAGE_WORDS = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "jpg", "jpeg", "png", "frames"}
_ANNOTATION_WORDS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annots", "trimap", "trimaps", "segmentation",
    "segmentations", "segmentationclass", "segmentationobject", "groundtruth", "gt", "labelimages", "depth",
}  # fmt: skip
# Words of _IMAGE_WORDS that may be classes: photos and drawings.
_MAYBE_CLASSES = {"photos", "pictures"}
_PART = re.compile(
    r"(?:.*[\W_])?(?:parts?|images?|imgs?|batch|shard|chunk|volume|vol|disk)[\W_]*\d+"
    r"|.*-\d{8}T\d{6}Z(?:-\d+)+",  # an archive that Google Drive cut in pieces
    re.IGNORECASE,
)


class LayoutError(ValueError):
    """A layout that can be read in several ways, or in none."""


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


def joined(nodes: list[Node], parent: Node) -> Node:
    """Return one folder, or several merged in place of their parent."""
    return nodes[0] if len(nodes) == 1 else merged(nodes, parent.path)


def without(node: Node, dropped: set[PurePosixPath]) -> Node:
    """Return the tree without the folders of these paths, and without folders that are empty then."""
    children = {name: without(child, dropped) for name, child in node.children.items() if child.path not in dropped}
    kept = {name: child for name, child in children.items() if child.images or child.children}
    return Node(node.path, node.images, kept)


def refuse(node: Node, reason: str, remedy: str) -> NoReturn:
    """Raise `LayoutError` with the reason, the tree as it was seen and the remedy."""
    raise LayoutError(f"{reason}; seen was\n{draw(node)}\n{remedy}")


def draw(node: Node, what: str = "image") -> str:
    """Draw a tree as lines of text, cut short.

    Args:
        what: What its files are.
    """
    lines = [f"  {_count(len(node.images), what)}"] if node.images else []
    lines += _lines(node, 1, what)
    if len(lines) > _SHOWN_FOLDERS:
        lines = [*lines[:_SHOWN_FOLDERS], f"  ... and {len(lines) - _SHOWN_FOLDERS} more folders"]
    return "\n".join(lines)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _lines(node: Node, depth: int, what: str) -> list[str]:
    lines = []
    children = list(node)
    shown = children if len(children) <= _SHOWN_FOLDERS // depth else children[: _SHOWN_FOLDERS // depth - 1]
    for child in shown:
        count = len(child.all_images())
        folders = f", {_count(len(child.children), 'folder')}" if child.children else ""
        lines.append(f"{'  ' * depth}{child.name}/ ({_count(count, what)}{folders})")
        if depth < _SHOWN_DEPTH:
            lines += _lines(child, depth + 1, what)
    if len(shown) < len(children):
        lines.append(f"{'  ' * depth}... and {len(children) - len(shown)} more folders")
    return lines


def is_image_word(name: str) -> bool:
    """Whether a folder's name only says that images are in it."""
    return re.sub(r"[\W_]", "", name.lower()) in _IMAGE_WORDS


def only_holds_images(name: str) -> bool:
    """Whether a folder's name says that images are in it and can't be the name of a class."""
    return is_image_word(name) and re.sub(r"[\W_]", "", name.lower()) not in _MAYBE_CLASSES


def is_annotation_word(name: str) -> bool:
    """Whether a folder's name says that masks or other annotations are in it."""
    return re.sub(r"[\W_]", "", name.lower()) in _ANNOTATION_WORDS


def is_part(name: str) -> bool:
    """Whether a folder's name says that it is one part of many: `part_1`, `images_001`."""
    return _PART.fullmatch(name) is not None


def are_parts(names: Iterable[str]) -> bool:
    """Whether folders are parts of one folder. `images_1` and `images_2` are; `images_224` and `images_512` are sizes.

    Example:
        >>> are_parts(["part_1", "part_2"]), are_parts(["images_224", "images_512"])
        (True, False)
    """
    names = list(names)
    return all(map(is_part, names)) and (len(names) == 1 or are_numbered(names))


def are_numbered(names: Iterable[str]) -> bool:
    """Whether names differ in a number only, and their numbers lie close to each other as those of parts do."""
    names = list(names)
    numbers = [re.findall(r"\d+", name) for name in names]
    if len({re.sub(r"\d+", "#", name) for name in names}) > 1 or not numbers[0]:
        return False
    differing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(differing) != 1:
        return False
    values = [int(number) for number in differing[0]]
    return any(number.startswith("0") for number in differing[0]) or max(values) - min(values) <= 2 * len(values)
