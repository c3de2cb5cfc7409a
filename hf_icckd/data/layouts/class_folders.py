"""Class folders of one split: what their names are, and which folders are no classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from hf_icckd.data.layouts.nesting import Folders, check_levels, check_nesting, levels, without_wrappers
from hf_icckd.data.layouts.tree import Node, are_parts, is_annotation_word, is_image_word, merged, refuse
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.splits.words import Role, is_split_word, without_split_word


def class_folders(
    node: Node, words_matter: bool, chosen: Sequence[str] | None, left_out: list[LeftOut], notes: list[str]
) -> dict[str, list[PurePosixPath]]:
    """Return the images of a split by class.

    Args:
        node: Folder of the split.
        words_matter: Whether a folder called `test` or `val` is doubtful as a class.
        chosen: Classes that the user named.
        left_out: List to add to.
        notes: List to add to.

    Returns:
        Images by class; all in one class "" if there are no class folders.
    """
    node = _inside(node)
    folders = node.leaves()
    if not folders:
        return {}
    folders = without_wrappers(folders, notes)
    if () in folders:
        if len(folders) > 1:
            stray = folders[()]
            what = f"image {str(stray[0])!r}" + (f" and {len(stray) - 1:,} more" if len(stray) > 1 else "")
            refuse(node, f"{what} lies in no class folder", "move it into the folder of its class or remove it")
        return {"": folders[()]}
    if words_matter and len(folders) > 1 and are_parts(path[-1] for path in folders):
        return {"": node.all_images()}  # parts of one folder of images
    check_nesting(node, folders)
    if chosen is None:
        check_levels(node, folders)
    return _named(node, folders, words_matter, chosen, left_out, notes)


def _inside(node: Node) -> Node:
    """Step into folders that only wrap others, and join parts."""
    while not node.images:
        children = list(node)
        if len(children) == 1 and (children[0].children or is_image_word(children[0].name)):
            node = children[0]
        elif len(children) > 1 and all(child.children for child in children) and are_parts(node.children):
            node = merged(children, node.path)
        else:
            break
    return node


def without_split_words(images: dict[Role, dict[str, list[PurePosixPath]]], notes: list[str]) -> None:
    """Rename classes that say their split, `train/cats_train` and `test/cats_test`, if they have no name in common.

    Args:
        images: Images of each split by class; changed in place.
        notes: List to add to.
    """
    shorter = {role: {name: without_split_word(name, role) for name in classes} for role, classes in images.items()}
    train = shorter["train"]
    if not train or not all(train.values()) or len(set(train.values())) < len(train):
        return
    changed = False
    for role, names in shorter.items():
        alike = all(names.values()) and len(set(names.values())) == len(names)
        if role != "train" and alike and set(names.values()) & set(train.values()):
            images[role] = {names[name] or name: own for name, own in images[role].items()}
            changed = True
    if changed:
        first = next(iter(train))
        notes.append(f"Names of classes are taken without the word for the split: {first!r} is {train[first]!r}.")
        images["train"] = {train[name] or name: own for name, own in images["train"].items()}


def _named(
    node: Node,
    folders: Folders,
    words_matter: bool,
    chosen: Sequence[str] | None,
    left_out: list[LeftOut],
    notes: list[str],
) -> dict[str, list[PurePosixPath]]:
    classes: dict[str, list[PurePosixPath]] = {}
    paths: dict[str, tuple[str, ...]] = {}
    dropped: list[str] = []
    count = 0
    for path, images in folders.items():
        name = path[-1]
        if chosen is None:
            _check_name(node, path, [other[-1] for other in folders if other != path], words_matter)
        elif name not in chosen and (is_split_word(name) or is_annotation_word(name)):
            dropped.append(name)
            count += len(images)
            continue
        if name in classes:
            first, second = "/".join(paths[name]), "/".join(path)
            refuse(
                node,
                f"the class {name!r} lies in two places, {first!r} and {second!r}",
                "name the folders to use with --train_split (several are joined) and --test_split, or tell the "
                f"classes apart with --label_pattern or --labels: {levels(folders, node)}",
            )
        classes[name], paths[name] = images, path
    if dropped:
        left_out.append(LeftOut(count, "images in folders that --classes does not name", dropped[0]))
    parents = {path[:-1] for path in paths.values()}
    if len(parents) > 1:
        note = f"Classes are the innermost folders: {len(classes)} of them, in {len(parents)} other folders."
        notes += [] if note in notes else [note]
    return classes


def _check_name(node: Node, path: tuple[str, ...], others: list[str], words_matter: bool) -> None:
    """Refuse a class folder that may be a split or a folder of masks."""
    name = path[-1]
    if words_matter and is_split_word(name) and name.lower() != "train" and others:
        refuse(
            node,
            f"{name!r} is the name of a split and lies among folders of classes",
            "use --splits none if it is a class, or name the classes with --classes to leave it out",
        )
    if is_annotation_word(name) and others and not any(name.lower() in other.lower() for other in others):
        refuse(
            node,
            f"{name!r} lies among folders of classes but looks like a folder of annotations",
            "name the classes to use with --classes",
        )
