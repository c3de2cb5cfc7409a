"""What to say when images are there and nothing says their classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NoReturn

from hf_icckd.data.containers.unsupported import refusal
from hf_icckd.data.layouts.layout import Layout
from hf_icckd.data.layouts.listing import Files
from hf_icckd.data.layouts.text_tables import TABLE_SUFFIXES, ImageIndex, read_text_table
from hf_icckd.data.layouts.tree import LayoutError, draw, is_part, make_tree
from hf_icckd.data.splits.words import Role, split_name
from hf_icckd.utils.text import listed

# Labels in file names as they are common: `cat.0.jpg`, `Abyssinian_100.jpg`, `0_cat.png`.
_PATTERNS = (r"([^/]+)[._ -]\d+\.\w+$", r"([^/]+?)[._ -]*\(?\d+\)?\.\w+$", r"\d+[._ -]([^/]+)\.\w+$")
_MOST_CLASSES = 0.34  # of the images: with more, what a pattern finds is no class
_SHOWN_TABLES = 4


def refuse_unlabelled(files: Files, layout: Layout, images: Sequence[PurePosixPath]) -> NoReturn:
    """Raise the error for a data set without class folders, with the options that may help.

    Args:
        files: The files of the data set.
        layout: What was understood of its folders.
        images: Images of the training split.
    """
    tree = draw(make_tree(files.images))
    folders = sorted({image.parts[-2] for image in images if len(image.parts) > 1})
    place = f" (those to train on lie in the one folder {folders[0]!r})" if len(folders) == 1 else ""
    lines = [
        f"data set {files.name!r} holds {len(files.images):,} images and no folder per class{place}, so nothing says "
        "their labels; expected CLASS/IMAGE, train/CLASS/IMAGE with two classes or more, or a table of labels; seen "
        f"was\n{tree}"
    ]
    lines += _only_in_test(layout)
    lines += _about_tables(files)
    pattern = suggested_pattern(images)
    if pattern is not None:
        expression, names = pattern
        lines.append(
            f"file names look as if they hold {len(names)} classes ({listed(names, 4)}): if so, add "
            f"--label_pattern '{expression}'"
        )
    if (other := refusal([*files.images, *files.others])) is not None:
        lines.append(other)
    if len(folders) > 1 and all(map(is_part, folders)):
        lines.append(f"if the folders {listed(folders, 3)} are classes and no parts, add --splits none")
    if len(lines) == 1:
        lines.append(
            "move the images into a folder for each class, or write a CSV of file names and labels for --labels"
        )
    raise LayoutError("\n".join(lines))


def _only_in_test(layout: Layout) -> list[str]:
    """Say that other splits have more classes, as data sets for the detection of anomalies have."""
    train = layout.images["train"]
    others = {name for role, classes in layout.images.items() if role != "train" for name in classes} - {"", *train}
    if len(train) != 1 or "" in train or not others:
        return []
    return [
        f"the classes {listed(sorted(others), 4)} have no training image: this trains classifiers, which need images "
        f"of each class; to cut them all, name their folder: --train_split {layout.folders.get('test', 'test')}"
    ]


def _about_tables(files: Files) -> list[str]:
    """Tables that name images, with their columns and the option that takes them, and those that can't be read."""
    index = ImageIndex(files.images)
    lines: list[str] = []
    lists: dict[Role, str] = {}
    for path in files.others:
        if len(lines) == _SHOWN_TABLES:
            break
        if path.suffix.lower() not in TABLE_SUFFIXES or "submission" in path.name.lower():
            continue
        try:
            table = read_text_table(files.read(path), path, index)
        except ValueError as error:
            if path.suffix.lower() not in (".txt", ".lst"):  # those are often texts of another kind
                lines.append(f"{path} is not used: {error}")
            continue
        if table.file_column is None or len(table.columns) < 2:
            continue
        split = split_name(path.stem) or split_name(path.parent.name)
        if split is not None:
            lists.setdefault(split.role, str(path))
        columns = listed(list(table.columns), 6)
        lines.append(f"{path} has the columns {columns}: if it holds the labels, add --labels {path}")
    if "train" in lists and len(lists) > 1:
        options = " ".join(f"--{role}_split {path}" for role, path in lists.items())
        lines.append(f"if the tables hold the labels of the splits, add {options}")
    return lines


def suggested_pattern(images: Sequence[PurePosixPath]) -> tuple[str, list[str]] | None:
    """Return a regular expression that finds few and frequent words in file names, and what it finds.

    Example:
        >>> suggested_pattern([PurePosixPath(f"{name}.{i}.jpg") for name in ("cat", "dog") for i in range(5)])
        ('([^/]+)[._ -]\\\\d+\\\\.\\\\w+$', ['cat', 'dog'])
    """
    for pattern in _PATTERNS:
        matches = [re.search(pattern, str(image)) for image in images]
        found = Counter(match.group(1) for match in matches if match)
        if sum(found.values()) == len(images) and 2 <= len(found) <= _MOST_CLASSES * len(images):
            return pattern, sorted(found)
    return None
