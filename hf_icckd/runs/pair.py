"""The table at the end of a distillation in one command: teacher and student side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.models.pretrained import WEIGHTS_FILE
from hf_icckd.runs.layout import CARD_FILE
from hf_icckd.runs.records import read_records, teachers_of
from hf_icckd.utils.formats import FORMATS
from hf_icckd.utils.text import format_table

_SHOWN = {"top1": "top-1", "balanced_accuracy": "balanced accuracy"}


def pair_table(student: Path, teacher: str, title: str) -> str:
    """Accuracy, size and speed of both, and where their files are.

    Args:
        student: Folder of the finished student.
        teacher: Folder of its teacher, or what else that is loaded by.
        title: First line.
    """
    arguments, results = read_records(student)
    # A teacher by embeddings has no classes, so no accuracy was measured.
    of_teacher = {"test": results.get("teacher_test", {}), "cost": results["teacher"]["cost"]}
    folder = Path(teacher)
    teachers = [folder, *list(map(Path, teachers_of(arguments).values()))[1:]]
    pairs = [(of_teacher, teachers), (results, [student])]
    shown = [
        ("", ["teacher", "student"]),
        ("net", [results["teacher"]["architecture"], results["model"]["architecture"]]),
        *((f"test {words}", [_metric(each["test"], name) for each, _ in pairs]) for name, words in _SHOWN.items()),
        ("parameters", [f"{each['cost']['parameters']:,}" for each, _ in pairs]),
        ("latency of an image", [f"{each['cost']['latency_ms']:.2f} ms" for each, _ in pairs]),
        ("size of the weights", [_size(*(place / WEIGHTS_FILE for place in places)) for _, places in pairs]),
    ]
    width = max(len(first) for _, (first, _) in shown) + 2
    rows = [(name, f"{first:<{width}}{second}") for name, (first, second) in shown]
    rows += [(f"card of the {name}", str(place / CARD_FILE)) for name, place in _cards(folder, student)]
    exported = {name: student / each.file for name, each in FORMATS.items()}
    rows += [(name, f"{file} ({_size(file)})") for name, file in exported.items() if file.is_file()]
    return format_table(rows, title)


def _cards(teacher: Path, student: Path) -> list[tuple[str, Path]]:
    both = [("teacher", teacher), ("student", student)]
    return [(name, place) for name, place in both if (place / CARD_FILE).is_file()]


def _metric(measured: dict[str, Any], name: str) -> str:
    return METRICS[name].show(measured[name]) if name in measured else ""


def _size(*files: Path) -> str:
    """Megabytes of all files together; empty if one is not there."""
    if not all(file.is_file() for file in files):
        return ""
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
