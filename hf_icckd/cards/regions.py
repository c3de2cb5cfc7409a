"""Regions of a generated text that belong to a person and are kept when the text is generated again.

`<!-- yours: begin NAME -->` ... `<!-- yours: end NAME -->` is a region. The last line of a text is its seal, a digest
of everything outside the regions; if it is missing or wrong, someone has changed more than the regions.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

_MARK = re.compile(r"<!--[ \t]*yours:[ \t]*(begin|end)[ \t]+([\w-]+)[ \t]*-->")
_SEAL = re.compile(r"<!-- made by hf_icckd; digest of all but your regions: ([0-9a-f]{16}) -->\s*\Z")


class _Span(NamedTuple):
    name: str
    start: int
    end: int


def region(name: str, content: str) -> str:
    """A region with its marks."""
    return f"<!-- yours: begin {name} -->{content}<!-- yours: end {name} -->"


def regions_of(text: str) -> dict[str, str]:
    """Content of each region, in their order, white space included.

    Raises:
        ValueError: If a mark lacks its partner, regions overlap or two have the same name; the message gives the line.
    """
    return {span.name: text[span.start : span.end] for span in _spans(text)}


def _spans(text: str) -> list[_Span]:
    spans: list[_Span] = []
    opened, start = None, 0
    for mark in _MARK.finditer(text):
        kind, name = mark.groups()
        line = text.count("\n", 0, mark.start()) + 1
        if kind == "begin" and opened is not None:
            raise ValueError(f"region {name!r} begins on line {line}, before region {opened!r} has ended")
        if kind == "begin" and any(span.name == name for span in spans):
            raise ValueError(f"region {name!r} begins a second time on line {line}")
        if kind == "end" and name != opened:
            raise ValueError(f"region {name!r} ends on line {line} without having begun")
        if kind == "begin":
            opened, start = name, mark.end()
        else:
            spans.append(_Span(name, start, mark.start()))
            opened = None
    if opened is not None:
        raise ValueError(f"region {opened!r} does not end")
    return spans


def seal(text: str) -> str:
    """Add the seal as the last line."""
    return f"{text.rstrip()}\n\n<!-- made by hf_icckd; digest of all but your regions: {_digest(text)} -->\n"


def is_sealed(text: str) -> bool:
    """Whether the text outside the regions is as it was when it was sealed. Raises like `regions_of`."""
    found = _SEAL.search(text)
    return found is not None and found.group(1) == _digest(text)


def _digest(text: str) -> str:
    """Digest of the text outside the regions, whatever the line ends: editors and git change them."""
    text = _SEAL.sub("", text)
    for span in reversed(_spans(text)):
        text = text[: span.start] + text[span.end :]
    return hashlib.blake2b(text.replace("\r\n", "\n").rstrip().encode(), digest_size=8).hexdigest()
