"""Text for users: suggestions, tables, Markdown, standard output."""

from __future__ import annotations

import difflib
import json
import re
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any

# What Markdown, tables and formulas included, gives a meaning; an underscore within a word has none.
_MARKUP = re.compile(r"([\\`*{}\[\]<>#|$~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` if one of the known words is close, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def percent(share: float, digits: int = 2) -> str:
    """A share, 0 to 1, in percent.

    Example:
        >>> percent(0.025), percent(0.1, 0)
        ('2.50 %', '10 %')
    """
    return f"{100 * share:.{digits}f} %"


def size_text(size: float) -> str:
    """Bytes in the unit that fits.

    Example:
        >>> size_text(1_500), size_text(12_345_678), size_text(3.21e9)
        ('1.5 kB', '12.3 MB', '3.2 GB')
    """
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def format_table(rows: list[tuple[str, str]], title: str) -> str:
    """Format two columns of text under a title."""
    width = max(columns(name) for name, _ in rows)
    lines = [title, "-" * max(columns(title), width + 2 + max(columns(value) for _, value in rows))]
    padded = ((name + " " * (width - columns(name)), value) for name, value in rows)
    return "\n".join([*lines, *(f"{name}  {value}".rstrip() for name, value in padded)])


def format_grid(
    heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], title: str, left: Collection[int] = (0,)
) -> str:
    """Format a table with any number of columns under a title.

    Args:
        heads: For each column the lines above it.
        rows: Cells as text.
        title: First line.
        left: Numbers of the columns that are aligned to the left; all others are to the right.
    """
    lines = [*zip(*heads, strict=True), *rows]
    widths = [max(columns(line[index]) for line in lines) for index in range(len(heads))]

    def aligned(line: Sequence[str]) -> str:
        cells = []
        for index, (text, width) in enumerate(zip(line, widths, strict=True)):
            space = " " * (width - columns(text))
            cells.append(text + space if index in left else space + text)
        return "  ".join(cells).rstrip()

    rule = "-" * max(columns(title), sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([title, rule, *map(aligned, lines)])


def columns(text: str) -> int:
    """Columns that a text takes in a terminal: Chinese characters take two, an accent of its own takes none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.category(character) in ("Mn", "Me") for character in text)


def shorten(text: str, longest: int) -> str:
    """Return a name on one line, cut to so many columns (at least one), with `?` for what can't be printed."""
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    if columns(text) <= longest:
        return text
    while columns(text) >= longest:
        text = text[:-1]
    return f"{text}…"


def shorten_path(path: str, longest: int) -> str:
    """Return a path on one line, of which the end is kept if it takes more columns than `longest`.

    Example:
        >>> shorten_path("photos/summer/beach.jpg", 12)
        '…r/beach.jpg'
    """
    return shorten(path[::-1], longest)[::-1]


def escape_markdown(text: object) -> str:
    """Text on one line that Markdown shows as it is: names of classes and data sets may hold any character."""
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def value_text(value: object) -> str:
    """A value of an option as a user would write it: `true`, `2`, `0.05`."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def json_text(value: dict[str, Any]) -> str:
    """Indented JSON in which a list of plain values stands on one line, and so does each flat entry of a list."""
    return f"{_json(value, '')}\n"


def _json(value: Any, margin: str, in_list: bool = False) -> str:
    nested = isinstance(value, dict | list) and any(
        isinstance(each, dict | list) for each in (value.values() if isinstance(value, dict) else value)
    )
    if not value or not (nested or (isinstance(value, dict) and not in_list)):
        return json.dumps(value)
    deeper = f"{margin}  "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_json(each, deeper)}" for key, each in value.items()]
    else:
        lines = [_json(each, deeper, in_list=True) for each in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    joined = f",\n{deeper}".join(lines)
    return f"{start}\n{deeper}{joined}\n{margin}{end}"


def show(text: str) -> None:
    """Write a paragraph to standard output."""
    sys.stdout.write(printable(f"\n{text}\n\n"))
    sys.stdout.flush()


def printable(text: str) -> str:
    """Escape what the encoding of standard output lacks: under an ASCII locale `Käse` becomes `K\\xe4se`."""
    encoding = sys.stdout.encoding or "utf-8"  # streams that stand in for it may have none
    return text.encode(encoding, "backslashreplace").decode(encoding)


def name_encoding_hint() -> str:
    """Why names of files may be unreadable, and what to do; empty where Python reads them as UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding.replace("-", "").lower() == "utf8":
        return ""
    return f"Python reads names of files as {encoding}, because of the locale; set PYTHONUTF8=1, or LC_ALL=C.UTF-8"


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names for a message, the first of many.

    Example:
        >>> listed(["a", "b", "c", "d"], limit=2)
        'a, b and 2 more'
    """
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
