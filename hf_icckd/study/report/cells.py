"""Markdown cells of the tables of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hf_icckd.study.plan import Plan
from hf_icckd.utils.text import escape_markdown as escape

_ABSENT = "–"


def table(header: list[str], rows: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table; cells must be escaped where they hold other people's text.

    Args:
        header: Titles of the columns.
        rows: As many cells each.
        left: Number of columns, from the left, that are text; figures stand at the right.
    """
    rule = ["---" if number < left else "---:" for number in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def code(text: object) -> str:
    """Text as code that can stand in a table."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", r"\|") + "`"


def number(value: float, decimals: int) -> str:
    """A figure, or a dash where there is none."""
    return _ABSENT if math.isnan(value) else f"{value:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """A difference, or a dash where there is none."""
    return _ABSENT if math.isnan(value) else f"{value:+z.{decimals}f}"


def interval(low: float, high: float, decimals: int) -> str:
    """An interval of a difference, or a dash where there is none; -0.00 is an end below 0."""
    return _ABSENT if math.isnan(low) else f"{low:+.{decimals}f} to {high:+.{decimals}f}"


def probability(p: float) -> str:
    """A p value."""
    return _ABSENT if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def equals(p: float) -> str:
    """A p value with its sign, for a sentence."""
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def duration(seconds: float) -> str:
    """A time for a reader."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def label(plan: Plan, name: str) -> str:
    """What a teacher or student is called in the report."""
    return escape(plan.labels.get(name, name))


def value_label(value: Any) -> str:
    """An option's value for a reader."""
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
