"""Markdown cells of the tables in a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hf_icckd.study.plan import Plan
from hf_icckd.utils.text import escape_markdown as escape

ABSENT = "–"


def table(header: list[str], rows: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table; cells that hold other people's text must be escaped.

    Args:
        header: Titles of the columns.
        rows: Cells of each row, one per column.
        left: Number of leading text columns; the numbers after them are aligned to the right.
    """
    rule = ["---" if number < left else "---:" for number in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def code(text: object) -> str:
    """Text as inline code for a table cell."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", r"\|") + "`"


def number(value: float, decimals: int) -> str:
    """A number, or a dash for NaN."""
    return ABSENT if math.isnan(value) else f"{value:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """A number with its sign, or a dash for NaN."""
    return ABSENT if math.isnan(value) else f"{value:+z.{decimals}f}"


def interval(low: float, high: float, decimals: int) -> str:
    """An interval of a difference, or a dash for NaN; an end just below 0 stays -0.00."""
    return ABSENT if math.isnan(low) else f"{low:+.{decimals}f} to {high:+.{decimals}f}"


def probability(p: float) -> str:
    """A p value."""
    return ABSENT if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def equals(p: float) -> str:
    """A p value with = or <, for a sentence."""
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def label(plan: Plan, name: str) -> str:
    """Escaped label of a teacher or student."""
    return escape(plan.labels.get(name, name))


def value_label(value: Any) -> str:
    """An option's value as the report shows it."""
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
