"""The report on a data set in words: a table for terminals, rows for the card."""

from __future__ import annotations

import textwrap
from typing import Any

from hf_icckd.data.report import summarize_classes
from hf_icckd.utils.text import columns, format_table, shorten

_SPLITS = {"train": "training", "unlabeled": "unlabelled", "validation": "validation", "test": "test"}
_NAME_COLUMNS, _WIDTH = 28, 100


def report_table(report: dict[str, Any], classes: int | None = 20) -> str:
    """Return a report as a table for a terminal.

    Args:
        report: From `hf_icckd.data.report.data_report`.
        classes: Number of classes up to which each gets a line; of more, the first and the last do. None for all.

    Example:
        >>> from hf_icckd import load_image_data
        >>> from hf_icckd.data.report import data_report
        >>> digits = load_image_data("digits", classes=["3", "8"])
        >>> print(report_table(data_report(digits)).split("-\\n")[-1])
        training images  285 (split train)
        test images      72 (split test)
        2 classes           training       test
          3                      146         37
          8                      139         35
        labels           column 'label': its name says so
        image size       all 8 x 8 pixels (256 evenly spaced training images)
        pixels           8-bit grey
        exact copies     none
        left out         images of classes that --classes does not name: 1,440
        warning          The test split is small: each of its 72 images is 1.4 points of top-1.
    """
    facts = report_facts(report)
    heads = [fact for fact in facts if fact[0].endswith(" images")]
    notes = [("note", note) for note in report["notes"]]
    entries = [*heads, *_class_lines(report["classes"], classes), *facts[len(heads) :], *notes]
    room = _WIDTH - 2 - max(columns(title) for title, _ in entries)
    rows = []
    for title, words in entries:
        # Rows of numbers keep the spaces that align them.
        lines = [words] if words.startswith(" ") else textwrap.wrap(words, room, break_long_words=False)
        rows += [(title if number == 0 else "", line) for number, line in enumerate(lines or [""])]
    where = f" at revision {report['revision']}" if report["revision"] else ""
    return format_table(rows, f"data set {report['name']}{where}{', read as a stream' if report['streamed'] else ''}")


def report_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return all but classes and notes as titles and words.

    Args:
        report: From `data_report` or `published_report`.
    """
    facts = []
    for name, split in report["splits"].items():
        origin = f" ({split['origin']})" if "origin" in split else ""
        facts.append((f"{_SPLITS[name]} images", f"{split['images']:,}{origin}"))
    if report["labels"]:
        facts.append(("labels", report["labels"]))
    pixels = report["pixels"]
    facts.append(("image size", _size_words(pixels, report["streamed"])))
    facts.append(("pixels", _pixel_words(pixels)))
    if "unreadable" in pixels:
        example = pixels.get("unreadable_example")
        number = f"{pixels['unreadable']:,} of these images"
        facts.append(("unreadable", f"{number}: {example}" if example else number))
    if report["mirrored"]:
        facts.append(("mirrored", report["mirrored"]))
    if report.get("sampled"):  # earlier versions did not record it
        facts.append(("sampling", report["sampled"]))
    if report["duplicates"] is not None:
        facts.append(("exact copies", " ".join(report["duplicates"]) or "none"))
    for left_out in report["left_out"]:
        example = f", such as {left_out['example']}" if left_out.get("example") else ""
        facts.append(("left out", f"{left_out['reason']}: {left_out['count']:,}{example}"))
    return facts + [("warning", warning) for warning in report["warnings"]]


def class_rows(summary: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return a summary of classes as names and, for each split, the number of images as text.

    Args:
        summary: From `hf_icckd.data.report.summarize_classes`.
    """
    rows = [_class_row(each) for each in summary["first"]]
    if summary["last"]:
        blanks = [""] * len(rows[0][1])
        rows.append((f"... {summary['omitted']:,} more", blanks))
        rows += [_class_row(each) for each in summary["last"]]
    for extreme in ("largest", "smallest"):
        if extreme in summary:
            name, numbers = _class_row(summary[extreme])
            rows.append((f"{extreme}: {name}", numbers))
    return rows


def _class_row(row: dict[str, Any]) -> tuple[str, list[str]]:
    return shorten(row["name"], _NAME_COLUMNS), [f"{count:,}" for count in row["images"].values()]


def _class_lines(classes: dict[str, Any], limit: int | None) -> list[tuple[str, str]]:
    """Rows of the table about the classes: a head, then a row a class with its numbers below those of the head."""
    summary = summarize_classes(classes, limit)
    splits = [_SPLITS[name] for name in classes["images"]]
    missing = [f"; {number:,} without {_SPLITS[split]} images" for split, number in summary.get("without", {}).items()]
    lines = [(f"{summary['number']:,} classes", _aligned(splits) + "".join(missing))]
    return lines + [(f"  {name}", _aligned(numbers)) for name, numbers in class_rows(summary)]


def _aligned(cells: list[str]) -> str:
    return "".join(f"{cell:>11}" for cell in cells)


def _pixel_words(pixels: dict[str, Any]) -> str:
    modes = pixels["modes"]
    kinds = "".join(modes) if len(modes) == 1 else ", ".join(f"{count:,} {kind}" for kind, count in modes.items())
    end = "." if kinds and pixels["how"] else ""  # sentences follow
    return " ".join([f"{kinds}{end}", *pixels["how"]]).strip()


def _size_words(sizes: dict[str, Any], streamed: bool) -> str:
    looked_at = f"the first {sizes['images']:,}" if streamed else f"{sizes['images']:,} evenly spaced"
    if "width" not in sizes:
        return f"not known ({looked_at} training images)"
    (narrow, width, wide), (low, height, high) = sizes["width"], sizes["height"]
    if (narrow, low) == (wide, high):
        words = f"all {wide} x {high} pixels"
    else:
        wide_words = f"{narrow} wide" if narrow == wide else f"{narrow} to {wide} wide"
        high_words = f"{low} high" if low == high else f"{low} to {high} high"
        words = f"{wide_words}, {high_words}, median {width} x {height} pixels"
    return f"{words} ({looked_at} training images)"
