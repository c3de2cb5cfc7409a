"""Files of images as splits: class folders, tables of labels, labels in file names, official lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset

from hf_icckd.data.containers.archives import is_archive
from hf_icckd.data.containers.unsupported import boxes_refusal, label_file_refusal
from hf_icckd.data.labels.class_names import same_name
from hf_icckd.data.labels.columns import find_label_column
from hf_icckd.data.layouts.layout import Choices, Layout, leave_out_annotations, read_layout
from hf_icckd.data.layouts.listing import Files
from hf_icckd.data.layouts.lists import Lists, find_lists, given_lists, labels_in_split, split_column
from hf_icckd.data.layouts.no_labels import refuse_unlabelled
from hf_icckd.data.layouts.text_tables import ImageIndex, TextTable, check_one_row_each, read_text_table, typed
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.sources.source import Piece, Reading
from hf_icckd.data.splits.roles import given_splits
from hf_icckd.data.splits.words import Role
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.text import listed

_METADATA_FILES = ("metadata.csv", "metadata.jsonl")
Splits = dict[Role, list[PurePosixPath]]
Labels = dict[PurePosixPath, str]


def read_image_files(files: Files, options: ImageDataArguments) -> Reading:
    """Read images and find their splits and labels.

    Raises:
        ValueError: If no folder, table or file name gives the labels, or the layout can be read in several ways.
    """
    files.images, annotations = leave_out_annotations(files.images)
    index = ImageIndex(files.images)
    folders, named_lists = _given(files, options)
    metadata = _metadata(files, index)
    tables = _label_tables(files, index, options, metadata)
    labels = None if options.label_pattern is None else _labels_in_names(files, options)
    if not tables and labels is None and (boxes := boxes_refusal([*files.images, *files.others])) is not None:
        raise ValueError(boxes)
    choices = Choices(options.splits == "auto", folders, options.classes, bool(tables) or labels is not None)
    layout = read_layout(files.images, choices)
    splits: Splits = {
        role: [image for images in classes.values() for image in images] for role, classes in layout.images.items()
    }
    origins: dict[Role, str] = {role: _folder(folder) for role, folder in layout.folders.items()}
    reading = Reading({}, left_out=files.left_out + annotations + layout.left_out, notes=layout.notes)
    lists = Lists()
    if named_lists:
        lists = given_lists(files, index, named_lists)
    elif choices.splits and not folders and set(splits) == {"train"}:
        lists = _by_column(tables) if tables else find_lists(files, index)
    reading.notes += lists.notes
    if lists.images:
        splits, origins = _by_lists(lists, splits, reading.left_out)
    if not choices.labels_elsewhere:
        labels = _folder_labels(layout)
        if len({labels[image] for image in splits["train"] if image in labels}) < 2:
            labels, tables = None, metadata or (lists.tables if named_lists else [])
            if not any(image in table.rows for table in tables for image in splits["train"]):
                refuse_unlabelled(files, layout, splits["train"])
        else:
            _label_rest(files, layout, labels, origins)
            reading.notes += [_about_metadata(table, options.group_column) for table in metadata]
    if labels is not None:
        reading.label_origin = (
            "names of the class folders"
            if options.label_pattern is None
            else f"paths of the images, by --label_pattern {options.label_pattern!r}"
        )
        made = _by_labels(files, splits, labels, metadata, options)
    else:
        # The folder of a table elsewhere is no matter of those who read a published card.
        given = [PurePosixPath(table.name) for table in tables]
        reading.table = listed([path.name if path.is_absolute() else str(path) for path in given], 3)
        made = _by_tables(files, splits, tables, options, reading.left_out)
    reading.left_out += _unused(files, [*tables, *metadata, *lists.tables])
    reading.pieces = {role: [Piece(origins[role], rows)] for role, rows in made.items()}
    return reading


def _unused(files: Files, tables: Sequence[TextTable]) -> list[LeftOut]:
    """The files beside the images that say nothing about them."""
    used = {table.name for table in tables}
    kinds: dict[str, list[PurePosixPath]] = {}
    for path in files.others:
        if str(path) not in used:
            kind = "archives beside images, which are not read" if is_archive(path) else "files that are no images"
            kinds.setdefault(kind, []).append(path)
    return [LeftOut(len(paths), kind, str(paths[0])) for kind, paths in kinds.items()]


def _folder(path: str) -> str:
    return "the whole folder" if path == "." else f"folder {path}"


def _given(files: Files, options: ImageDataArguments) -> tuple[dict[Role, list[str]], dict[Role, list[str]]]:
    """Splits that options name: folders, and lists of images."""
    others = {str(path) for path in files.others}
    folders: dict[Role, list[str]] = {}
    lists: dict[Role, list[str]] = {}
    for role, names in given_splits(options).items():
        for name in names:
            (lists if name in others else folders).setdefault(role, []).append(name)
    if folders and lists:
        raise ValueError(
            f"splits are named by folders ({listed([n for names in folders.values() for n in names])}) and by lists "
            f"({listed([n for names in lists.values() for n in names])}), expected one kind; name all splits alike"
        )
    return folders, lists


def _metadata(files: Files, index: ImageIndex) -> list[TextTable]:
    """Tables called metadata.csv or metadata.jsonl that name images."""
    tables = [read_text_table(files.read(path), path, index) for path in files.others if path.name in _METADATA_FILES]
    return [table for table in tables if table.file_column is not None]


def _about_metadata(table: TextTable, group_column: str | None) -> str:
    """What a table is used for where class folders give the labels."""
    if group_column in table.columns:
        return f"Class folders give the labels, and {table.name} the groups."
    return f"{table.name} is not used: class folders give the labels."


def _label_tables(
    files: Files, index: ImageIndex, options: ImageDataArguments, metadata: list[TextTable]
) -> list[TextTable]:
    """The tables that options choose for the labels."""
    if options.labels is None:
        column = options.label_column
        if column is None:
            return []
        having = [table for table in metadata if column in table.columns]
        if metadata and not having:
            known = listed([name for table in metadata for name in table.columns if name != table.file_column])
            raise ValueError(f"label_column is {column!r}, expected a column of {metadata[0].name!r}: {known}")
        return having
    if options.label_pattern is not None:
        raise ValueError("labels and label_pattern are given, expected one source of labels; leave one of them out")
    inside = PurePosixPath(options.labels)
    if (unread := label_file_refusal(inside)) is not None:
        raise ValueError(f"labels is {options.labels!r}, expected a CSV, TSV or JSON lines file: {unread}")
    if inside in files.others:
        table = read_text_table(files.read(inside), inside, index)
    else:
        path = user_path(options.labels)
        if not path.is_file():
            raise ValueError(
                f"labels is {options.labels!r}, and no such file is here or in {files.name!r}; check the path"
            )
        path = Path(path).absolute()
        table = read_text_table(path.read_bytes(), PurePosixPath(path), index)
    if table.file_column is None:
        seen = ", ".join(f"{name} (such as {_first(cells)!r})" for name, cells in list(table.columns.items())[:5])
        raise ValueError(
            f"no column of labels file {options.labels!r} names images of {files.name!r}: it has {seen}, and an image "
            f"is called {str(files.images[0])!r}; expected a column of file names, or of paths "
            "where several images have the same name"
        )
    if table.unknown and options.bad_images != "skip":
        raise ValueError(
            f"labels file {options.labels!r} names {len(table.unknown):,} images that are not in {files.name!r}, such "
            f"as {table.unknown[0]!r}; fetch them, or leave them out with --bad_images skip"
        )
    return [table]


def _first(cells: Sequence[str | None]) -> str | None:
    return next((cell for cell in cells if cell is not None), None)


def _labels_in_names(files: Files, options: ImageDataArguments) -> Labels:
    pattern = re.compile(options.label_pattern or "")
    found = {image: match.group(1) for image in files.images if (match := pattern.search(str(image)))}
    missing = [image for image in files.images if not found.get(image)]
    if not found or (missing and options.missing_labels != "skip"):
        raise ValueError(
            f"label_pattern {options.label_pattern!r} finds no label in {len(missing):,} of {len(files.images):,} "
            f"paths, such as {str(missing[0])!r}; correct it, or leave such images out with --missing_labels skip"
        )
    return found


def _by_column(tables: Sequence[TextTable]) -> Lists:
    """Splits from a column of the tables, if one says them."""
    lists = Lists()
    for table in tables:
        said = split_column(table)
        for image, role in said[1].items() if said else ():
            lists.images.setdefault(role, []).append(image)
            lists.origins[role] = f"{table.name}, column {said[0]!r}" if said else ""
    return lists if "train" in lists.images else Lists()


def _by_lists(lists: Lists, splits: Splits, left_out: list[LeftOut]) -> tuple[Splits, dict[Role, str]]:
    every = {image for images in splits.values() for image in images}
    used = {image for images in lists.images.values() for image in images}
    unused = [image for images in splits.values() for image in images if image not in used]
    chosen = {role: [image for image in images if image in every] for role, images in lists.images.items()}
    if not chosen.get("train"):
        chosen = {**chosen, "train": unused}
    elif unused:
        left_out.append(LeftOut(len(unused), "images that no list of a split names", str(unused[0])))
    return chosen, {
        role: f"list {lists.origins[role]}" if role in lists.origins else "images in no list" for role in chosen
    }


def _folder_labels(layout: Layout) -> Labels:
    """Labels of the class folders; a split whose folders share no name with those of training has none.

    Names that differ in case or spaces only are shared: they are an error later.
    """
    train = {same_name(name) for name in layout.images["train"] if name}
    labels: Labels = {}
    for role, classes in layout.images.items():
        shares = role == "train" or bool(train & set(map(same_name, classes)))
        if not shares and set(classes) != {""}:
            layout.notes.append(
                f"Folders of the {role} split that are no classes of the training split: {listed(list(classes), 4)}."
            )
        labels |= {image: name for name, images in classes.items() for image in images if name and shares}
    return labels


def _label_rest(files: Files, layout: Layout, labels: Labels, origins: dict[Role, str]) -> None:
    """Label the splits without class folders by tables in their folders, where there are such."""
    for role, classes in layout.images.items():
        images = [image for own in classes.values() for image in own]
        if any(image in labels for image in images):
            continue
        found = labels_in_split(files, layout.folders[role], role, images, list(layout.images["train"]))
        if found is not None:
            labels |= found[1]
            origins[role] += f", labels from {found[0]}"


def _by_labels(
    files: Files, splits: Splits, labels: Labels, metadata: Sequence[TextTable], options: ImageDataArguments
) -> dict[Role, Dataset]:
    """Tables of images with a label each, and the group that metadata gives them."""
    groups: list[TextTable] = []
    if options.group_column is not None:
        groups = [table for table in metadata if options.group_column in table.columns]
        if not groups:
            raise ValueError(
                f"group_column is {options.group_column!r}, and no metadata.csv of {files.name!r} has such a column; "
                "write one with the columns file_name and that one"
            )
    made = {}
    for role, images in splits.items():
        if options.missing_labels == "skip" and options.label_pattern is not None:
            images = [image for image in images if image in labels]
        columns: dict[str, list[Any]] = {"label": [labels.get(image) for image in images]}
        if options.group_column is not None:
            columns[options.group_column] = _merged(groups, options.group_column, images)
        made[role] = files.rows(images, columns)
    return made


def _merged(tables: Sequence[TextTable], column: str, images: Sequence[PurePosixPath]) -> list[str | None]:
    """Cells of a column of several tables, each about some of the images."""
    cells: list[str | None] = [None] * len(images)
    for table in tables:
        if column in table.columns:
            cells = [new if old is None else old for old, new in zip(cells, table.cells(column, images), strict=True)]
    return cells


def _by_tables(
    files: Files,
    splits: Mapping[Role, list[PurePosixPath]],
    tables: Sequence[TextTable],
    options: ImageDataArguments,
    left_out: list[LeftOut],
) -> dict[Role, Dataset]:
    """Tables of the images that label tables name, with all their columns but the one of file names."""
    index = ImageIndex(files.images)
    names = [name for table in tables for name in table.columns if name != table.file_column and name != "image"]
    named = {image for table in tables for image in table.rows}
    kept = {role: [image for image in images if image in named] for role, images in splits.items()}
    unnamed = [image for images in splits.values() for image in images if image not in named]
    if unnamed:
        what = listed([table.name.rpartition("/")[2] for table in tables], 2)
        left_out.append(LeftOut(len(unnamed), f"images that {what} does not name", str(unnamed[0])))
    every = [image for images in kept.values() for image in images]
    columns, types = {}, {}
    for name in dict.fromkeys(names):
        cells, types[name] = typed(_merged(tables, name, every))
        columns[name] = dict(zip(every, cells, strict=True))
    made = {
        role: files.rows(images, {name: [cells[image] for image in images] for name, cells in columns.items()}, types)
        for role, images in kept.items()
        if images
    }
    if "train" not in made:
        raise ValueError(f"{listed([table.name for table in tables], 2)} names no image of the training split")
    label, _ = find_label_column(made["train"], options.label_column, "image")
    for table in tables:
        if label in table.columns:
            check_one_row_each(table, label, index)
    return made
