"""Official lists: text files beside the images that say which image belongs to which split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hf_icckd.data.labels.columns import LABEL_NAMES
from hf_icckd.data.layouts.listing import Files
from hf_icckd.data.layouts.text_tables import TABLE_SUFFIXES, ImageIndex, TextTable, read_text_table
from hf_icckd.data.splits.words import SPLIT_COLUMNS, Role, split_name
from hf_icckd.utils.text import listed

_LEAST_NAMED = 0.5  # of the images, by lists whose names have other words beside that of the split
_MOST_UNKNOWN = 0.1  # of the lines of a list: with more, it is about other images


@dataclass
class Lists:
    """What lists say.

    Attributes:
        images: Images of each split.
        origins: Files of each split.
        tables: The lists.
        notes: Lists that were not used, and why.
    """

    images: dict[Role, list[PurePosixPath]] = field(default_factory=dict)
    origins: dict[Role, str] = field(default_factory=dict)
    tables: list[TextTable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_lists(files: Files, index: ImageIndex) -> Lists:
    """Find lists by their names, as `train.txt` and `test.txt`; the well-known ones of CUB are read too.

    They are used if there is one for training and another one, and they name images of this data set.
    """
    found = _cub_lists(files, index)
    if found.images:
        return found
    groups: dict[frozenset[str], dict[Role, list[tuple[int, PurePosixPath]]]] = {}
    for path in files.others:
        split = split_name(path.stem) if path.suffix.lower() in TABLE_SUFFIXES else None
        if split is not None:
            groups.setdefault(split.rest, {}).setdefault(split.role, []).append((split.rank, path))
    notes: list[str] = []
    plain = _read_group(files, index, groups.pop(frozenset(), {}), notes)
    if plain is not None:
        plain.notes = notes + plain.notes
        return plain
    others = [own for own in groups.values() if "train" in own and len(own) > 1]
    sets = [lists for own in others if (lists := _read_group(files, index, own, notes)) is not None]
    for lists in sets:  # a table of something else may have numbers that are names of images
        if sum(map(len, lists.images.values())) < _LEAST_NAMED * len(files.images):
            notes += [f"{table.name} is not used: it names few of the images." for table in lists.tables]
    sets = [lists for lists in sets if sum(map(len, lists.images.values())) >= _LEAST_NAMED * len(files.images)]
    if len(sets) > 1:
        raise ValueError(
            f"there are several sets of lists, such as {listed([table.name for table in sets[0].tables], 2)} and "
            f"{listed([table.name for table in sets[1].tables], 2)}; name the lists to use: {_options(sets[0])}"
        )
    return sets[0] if sets else _in_column(files, index, notes)


def _in_column(files: Files, index: ImageIndex, notes: list[str]) -> Lists:
    """Read a table about all images that has a column `split`."""
    found: list[Lists] = []
    for path in files.others:
        if path.suffix.lower() not in TABLE_SUFFIXES - {".txt", ".lst"}:
            continue
        try:
            table = read_text_table(files.read(path), path, index)
        except ValueError:
            continue  # a table of something else
        said = split_column(table)
        if said is None or len(said[1]) < _LEAST_NAMED * len(files.images):
            continue
        lists = Lists(tables=[table], notes=notes)
        for image, role in said[1].items():
            lists.images.setdefault(role, []).append(image)
        lists.origins = dict.fromkeys(lists.images, f"{table.name}, column {said[0]!r}")
        if "train" in lists.images and len(lists.images) > 1:
            found.append(lists)
    if len(found) > 1:
        raise ValueError(
            f"{found[0].tables[0].name} and {found[1].tables[0].name} both say which split an image is in; move one "
            "away"
        )
    return found[0] if found else Lists(notes=notes)


def _read_group(
    files: Files, index: ImageIndex, group: Mapping[Role, Sequence[tuple[int, PurePosixPath]]], notes: list[str]
) -> Lists | None:
    """Read the lists of one set, the most usual name for each split; None if they are no lists of several splits."""
    found = Lists()
    for role, ranked in group.items():
        best = min(rank for rank, _ in ranked)
        for path in sorted(path for rank, path in ranked if rank == best):
            table = read_list(files, path, index)
            if table.file_column is None:
                notes.append(f"{path} names no image, so it is not used.")
            else:
                _add(found, role, table)
    if "train" in found.images and len(found.images) > 1:
        _check_disjoint(found)
        return found
    notes += [f"{origin} is not used: there is no list for another split." for origin in found.origins.values()]
    return None


def _options(lists: Lists) -> str:
    """Options that name the first list of each split."""
    return " ".join(f"--{role}_split {origin.split(', ')[0]}" for role, origin in lists.origins.items())


def read_list(files: Files, path: PurePosixPath, index: ImageIndex) -> TextTable:
    """Read a list or table; an error if most of its lines name an image and some don't."""
    table = read_text_table(files.read(path), path, index)
    if table.file_column is not None and len(table.unknown) > _MOST_UNKNOWN * len(table):
        raise ValueError(
            f"{str(path)!r} names {len(table.unknown):,} files that are not here, such as {table.unknown[0]!r}, and "
            f"{len(table.rows):,} that are; correct the list, fetch the missing images, or move the list away"
        )
    return table


def _add(found: Lists, role: Role, table: TextTable) -> None:
    found.images.setdefault(role, []).extend(image for image in table.rows if image not in found.images[role])
    found.origins[role] = ", ".join(filter(None, [found.origins.get(role), table.name]))
    found.tables.append(table)
    if table.unknown:
        found.notes.append(f"{table.name} names {len(table.unknown):,} files that are not here.")


def given_lists(files: Files, index: ImageIndex, given: Mapping[Role, Sequence[str]]) -> Lists:
    """Read the lists that options name."""
    found = Lists()
    for role, names in given.items():
        for name in names:
            table = read_list(files, PurePosixPath(name), index)
            if table.file_column is None:
                raise ValueError(f"--{role}_split {name!r} names no image of {files.name!r}; give another file")
            _add(found, role, table)
    _check_disjoint(found)
    return found


def _check_disjoint(lists: Lists) -> None:
    seen: dict[PurePosixPath, Role] = {}
    for role, own in lists.images.items():
        both = [image for image in own if image in seen]
        if both and len(lists.tables) > len(lists.images):
            raise ValueError(
                f"there are several lists for one split ({listed([table.name for table in lists.tables], 4)}), and "
                f"{len(both):,} images are in those of {seen[both[0]]} and of {role}, such as {str(both[0])!r}; name "
                f"one list for each split: {_options(lists)}"
            )
        if both:
            raise ValueError(
                f"{len(both):,} images are in the lists of both {seen[both[0]]} and {role}, such as {str(both[0])!r}; "
                "expected each image in one list: correct them"
            )
        seen.update(dict.fromkeys(own, role))


def split_column(table: TextTable) -> tuple[str, dict[PurePosixPath, Role]] | None:
    """Return the column that says which split each image belongs to, and what it says; None if there is none."""
    for column, cells in table.columns.items():
        if column.lower() not in SPLIT_COLUMNS:
            continue
        splits = {cell: split_name(cell) for cell in set(cells) if cell is not None}
        if splits and all(splits.values()):
            roles = {cell: split.role for cell, split in splits.items() if split is not None}
            said = {image: cells[row] for image, row in table.rows.items()}
            return column, {image: roles[cell] for image, cell in said.items() if cell is not None}
    return None


def labels_in_split(
    files: Files, folder: str, role: Role, images: Sequence[PurePosixPath], classes: Sequence[str]
) -> tuple[str, dict[PurePosixPath, str]] | None:
    """Find a table about a split that gives every image one of the known classes, as in Tiny ImageNet.

    It lies in the folder of the split, or is called as the split is: `Test.csv`.

    Returns:
        Name of the table and class of each image; None if there is no such table, or several columns may be the one.
    """
    index = ImageIndex(images)
    for path in files.others:
        named = split_name(path.stem)
        about = path.is_relative_to(folder) or (named is not None and named.role == role)
        if path.suffix.lower() not in TABLE_SUFFIXES or not about:
            continue
        table = read_text_table(files.read(path), path, index)
        if table.file_column is None or len(table.rows) < len(images):
            continue
        found = {
            column: known
            for column in table.columns
            if column != table.file_column and (known := _as_classes(table.cells(column, images), classes)) is not None
        }
        called = [column for column in found if _is_label_name(column)]
        column = called[0] if len(called) == 1 else next(iter(found)) if len(found) == 1 else None
        if column is not None:
            where = f"{path}, column {column!r}" if len(table.columns) > 2 else str(path)
            return where, dict(zip(images, found[column], strict=True))
    return None


def _as_classes(cells: Sequence[str | None], classes: Sequence[str]) -> list[str] | None:
    """Cells as names of classes; the number 7 is the class `00007` if all classes are numbers. None if one is none."""
    known = {name: name for name in classes}
    if all(re.fullmatch(r"\d+", name) for name in classes) and len({int(name) for name in classes}) == len(classes):
        known |= {str(int(name)): name for name in classes}
    found = [known.get(cell or "") for cell in cells]
    return None if None in found else [name for name in found if name is not None]


def _is_label_name(column: str) -> bool:
    """Whether a column is called as labels are: `label`, `ClassId`, `class_name`."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", column)]
    return any(word in LABEL_NAMES for word in words)


def _cub_lists(files: Files, index: ImageIndex) -> Lists:
    """Read `images.txt` and `train_test_split.txt`: a number and a path, a number and 1 for training."""
    by_name = {path.name: path for path in files.others}
    names, said = by_name.get("images.txt"), by_name.get("train_test_split.txt")
    if names is None or said is None or names.parent != said.parent:
        return Lists()
    paths = dict(line.split(maxsplit=1) for line in files.read(names).decode().splitlines() if line.strip())
    found = Lists()
    for line in files.read(said).decode().splitlines():
        number, _, is_train = line.strip().partition(" ")
        image = index.find(paths.get(number), names.parent / "images" / names.name)
        if image is not None:
            found.images.setdefault("train" if is_train == "1" else "test", []).append(image)
    found.origins = dict.fromkeys(found.images, str(said))
    return found
