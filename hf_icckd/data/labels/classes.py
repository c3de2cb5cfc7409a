"""Label sets made from a data set's own: some of its classes, or groups of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_icckd.data.labels.class_names import relabel
from hf_icckd.data.labels.columns import FINE_LABEL, labels_of
from hf_icckd.utils.text import suggest
from hf_icckd.utils.yaml_files import read_yaml


def select_classes(
    splits: dict[str, Dataset], names: list[str], chosen: list[str]
) -> tuple[dict[str, Dataset], list[str]]:
    """Keep the images of some classes, numbered in the order given; return the splits and the class names.

    Args:
        splits: Splits with a column `label` of class indices.
        names: Name of each class.
        chosen: Names of the classes to keep.

    Raises:
        ValueError: If a name is unknown or given twice, or a split has no image of these classes.
    """
    for name in chosen:
        if name not in names:
            raise ValueError(
                f"the data set has no class {name!r}{suggest(name, names)}; name only classes that it has"
            )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes names {next(c for c in chosen if chosen.count(c) > 1)!r} twice; leave one out")
    number = np.full(len(names), -1)
    number[[names.index(name) for name in chosen]] = np.arange(len(chosen))
    kept = {}
    for split_name, split in splits.items():
        labels = number[labels_of(split)]
        rows = np.flatnonzero(labels >= 0)
        if len(rows) == 0:
            raise ValueError(f"the {split_name} split has no image of {', '.join(chosen)}; choose classes that it has")
        kept[split_name] = relabel(split.select(rows), labels[rows], chosen)
    return kept, list(chosen)


def group_classes(
    splits: dict[str, Dataset], names: list[str], groups: dict[str, list[str]]
) -> tuple[dict[str, Dataset], list[str]]:
    """Label images with the group of their class, and keep the class as fine label.

    Args:
        splits: Splits with a column `label` of class indices.
        names: Name of each class.
        groups: Name of each group to the names of its classes; each class must be in exactly one group.

    Returns:
        The splits, and the names of the groups that are used.

    Raises:
        ValueError: If a class is in no group or in two.
    """
    group_of: dict[str, int] = {}
    for number, (group, members) in enumerate(groups.items()):
        for member in members:
            if member in group_of:
                raise ValueError(f"class {member!r} is in two groups, the second is {group!r}; leave it out of one")
            group_of[member] = number
    missing = [name for name in names if name not in group_of]
    if missing:
        raise ValueError(
            f"{len(missing)} classes are in no group, the first is {missing[0]!r}{suggest(missing[0], group_of)}; add "
            "them, or leave them out with --classes"
        )
    used = sorted({group_of[name] for name in names})
    used_names = [list(groups)[group] for group in used]
    group_numbers = np.array([used.index(group_of[name]) for name in names])
    grouped = {}
    for split_name, split in splits.items():
        labels = labels_of(split)
        split = split.remove_columns([name for name in split.column_names if name == FINE_LABEL])
        split = split.rename_column("label", FINE_LABEL)
        grouped[split_name] = relabel(split, group_numbers[labels], used_names)
    return grouped, used_names


def read_groups(path: str | Path) -> dict[str, list[str]]:
    """Read a YAML file of lines `group: [class, class]`.

    Raises:
        ValueError: If there is no such file or it holds something else.
    """
    groups = read_yaml(path, "label_groups file", as_text=True)
    if not isinstance(groups, dict) or not all(
        isinstance(members, list) and all(isinstance(member, str) for member in members) for members in groups.values()
    ):
        raise ValueError(f"label_groups file {str(path)!r} holds something else than lines `group: [class, class]`")
    return groups
