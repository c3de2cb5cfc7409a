"""The table of deployed models: size, accuracy beside torch, and latency, one row for each model and format.

A row is a dict: `format`, `bytes` and `latencies` (of `measure_latencies`), `model` where there are several, and what
`accuracy_beside` returns where images were measured. metrics.json holds such rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hf_icckd.utils.text import format_grid, shorten, size_text

_LONGEST_MODEL = 26
Row = dict[str, Any]
_COLUMNS: list[tuple[tuple[str, str], str, Callable[[Any], str]]] = [
    (("", "top-1 %"), "top1", lambda value: f"{value:.2f}"),
    (("", "drop"), "top1_drop", lambda value: f"{value:.2f}"),
    (("class", "drop"), "class_drop", lambda value: f"{value:.2f}"),
    (("", "agree %"), "agreement", lambda value: f"{value:.2f}"),
]


def table_cells(rows: Sequence[Row]) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Heads of two lines each, and the cells of every row as text. Latencies are in milliseconds.

    Args:
        rows: As in metrics.json; a column is left out if no row has its value.
    """
    heads: list[tuple[str, str]] = [("", "format"), ("", "size")]
    cells = [[row["format"], size_text(row["bytes"])] for row in rows]
    if any("model" in row for row in rows):
        heads.insert(0, ("", "model"))
        for row, line in zip(rows, cells, strict=True):
            line.insert(0, shorten(row["model"], _LONGEST_MODEL))
    for head, name, text in _COLUMNS:
        if any(name in row for row in rows):
            heads.append(head)
            for row, line in zip(rows, cells, strict=True):
                line.append(text(row[name]) if name in row else "")
    for index, measured in enumerate(rows[0]["latencies"]):
        heads.append((_counted(measured["batch_size"], "image"), _counted(measured["threads"], "thread")))
        for row, line in zip(rows, cells, strict=True):
            line.append(f"{row['latencies'][index]['ms']:.2f}")
    return heads, cells


def deployed_table(rows: Sequence[Row], title: str, left: int = 1) -> str:
    """The table as text under a title.

    Args:
        rows: As in metrics.json.
        title: First line.
        left: Number of columns of names, which are aligned to the left.
    """
    heads, cells = table_cells(rows)
    return format_grid(heads, cells, title, range(left))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
