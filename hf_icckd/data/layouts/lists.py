"""Official lists: text files beside the images that say which image belongs to which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hf_icckd.data.layouts.listing import Files
from hf_icckd.data.layouts.text_tables import TABLE_SUFFIXES, ImageIndex, TextTable, read_text_table
from hf_icckd.data.splits.split_column import splits_of_column
from hf_icckd.data.splits.words import Role, is_split_word, split_name

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
    named: dict[Role, list[tuple[int, PurePosixPath]]] = {}
    for path in files.others:
        if path.suffix.lower() in TABLE_SUFFIXES and is_split_word(path.stem):
            split = split_name(path.stem)
            assert split is not None  # it is a split word
            named.setdefault(split.role, []).append((split.rank, path))
    for role, ranked in named.items():
        best = min(rank for rank, _ in ranked)
        for path in sorted(path for rank, path in ranked if rank == best):
            table = read_list(files, path, index)
            if table.file_column is None:
                found.notes.append(f"{path} names no image, so it is not used.")
            else:
                _add(found, role, table)
    if "train" in found.images and len(found.images) > 1:
        _check_disjoint(found.images)
        return found
    notes = [
        *found.notes,
        *(f"{origin} is not used: there is no list for another split." for origin in found.origins.values()),
    ]
    return Lists(notes=notes)


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
    _check_disjoint(found.images)
    return found


def _check_disjoint(images: Mapping[Role, Sequence[PurePosixPath]]) -> None:
    seen: dict[PurePosixPath, Role] = {}
    for role, own in images.items():
        both = [image for image in own if image in seen]
        if both:
            raise ValueError(
                f"{len(both):,} images are in the lists of both {seen[both[0]]} and {role}, such as {str(both[0])!r}; "
                "expected each image in one list: correct them"
            )
        seen.update(dict.fromkeys(own, role))


def split_column(table: TextTable) -> tuple[str, dict[PurePosixPath, Role]] | None:
    """Return the column that says which split each image belongs to, and what it says; None if there is none.

    Raises:
        ValueError: If several columns say it, or one in numbers that don't say which split is which.
    """
    found: dict[str, dict[PurePosixPath, Role]] = {}
    for column, cells in table.columns.items():
        names = None if column == table.file_column else splits_of_column(column, set(cells))
        if names is not None:
            splits = {cell: split for cell, name in names.items() if (split := split_name(name)) is not None}
            said = {image: cells[row] for image, row in table.rows.items()}
            found[column] = {image: splits[cell].role for image, cell in said.items() if cell in splits}
    if len(found) > 1:
        raise ValueError(
            f"the columns {', '.join(found)} of {table.name!r} say which split each row is, expected one; remove the "
            "others"
        )
    return next(iter(found.items()), None)


def labels_in_split(
    files: Files, folder: str, images: Sequence[PurePosixPath], classes: Sequence[str]
) -> tuple[str, dict[PurePosixPath, str]] | None:
    """Find a table in the folder of a split that gives every image one of the known classes, as in Tiny ImageNet.

    Returns:
        Name of the table and class of each image; None if there is no such table.
    """
    index = ImageIndex(images)
    known = set(classes)
    for path in files.others:
        if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_relative_to(folder):
            continue
        table = read_text_table(files.read(path), path, index)
        if table.file_column is None or len(table.rows) < len(images):
            continue
        for column in table.columns:
            cells = table.cells(column, images)
            if column != table.file_column and all(cell in known for cell in cells):
                return str(path), {image: str(cell) for image, cell in zip(images, cells, strict=True)}
    return None


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
