"""List what students and teachers can minimise: `hf-icckd objectives`."""

from __future__ import annotations

import re
import sys
import textwrap

from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS
from hf_icckd.losses.objective import DistillationObjective
from hf_icckd.losses.specs import REQUIRED, default_arguments
from hf_icckd.losses.teacher_term import TeacherTerm
from hf_icckd.options.command_line import parse_command
from hf_icckd.utils.text import show

_WIDTH = 100


def main(argv: list[str] | None = None) -> None:
    """Print all objectives and terms."""
    parse_command("objectives", argv)
    show(objectives_text())


def objectives_text() -> str:
    """Objectives of students and terms of teachers, each with its arguments, what it reads and its source."""
    lines = ["objectives of students: --objectives NAME:argument=value ...", "-" * _WIDTH]
    for name, kind in OBJECTIVES.items():
        lines += _entry(name, kind)
        lines += _row("terms", ", ".join(f"{weight:g} x {term}" for term, weight in kind.term_weights.items()))
        lines += _row("reads", "the teacher's " + " and ".join(kind.teacher_outputs).replace("_", " "))
        lines += _row("source", _source(kind))
    lines += ["", "terms of teachers beside cross-entropy: --terms NAME:argument=value ..., or none", "-" * _WIDTH]
    for name, term in TEACHER_TERMS.items():
        lines += _entry(name, term)
        views = "any number of views" if term.num_views is None else f"{term.num_views} views of an image"
        lines += _row("reads", f"logits and embeddings of {views}")
        lines += _row("source", _source(term))
    return "\n".join(lines)


def _entry(name: str, kind: type) -> list[str]:
    summary = (kind.__doc__ or "").strip().partition("\n")[0].partition(";")[0].rstrip(".")
    given = ", ".join(f"{argument} {_value(value)}" for argument, value in default_arguments(kind).items())
    return [f"{name}", *_row("what", summary.replace("`", "")), *_row("arguments", given)]


def _row(title: str, words: str) -> list[str]:
    return textwrap.wrap(words, _WIDTH, initial_indent=f"  {title:<11}", subsequent_indent=" " * 13)


def _value(value: object) -> str:
    if value is REQUIRED:
        return "(to be given)"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _source(kind: type[DistillationObjective] | type[TeacherTerm]) -> str:
    """Authors, year and number at arXiv, from the citation and the docstring of the module."""
    fields = dict(re.findall(r"(\w+)\s*=\s*\{([^{}]*)\}", kind.citation))
    authors = [each.partition(",")[0].strip() for each in fields.get("author", "").split(" and ")]
    who = authors[0] if len(authors) == 1 else f"{authors[0]} et al."
    module = sys.modules[kind.__module__].__doc__ or ""
    number = re.search(r"arXiv[: ]([0-9]{4}\.[0-9]{4,5})", f"{kind.citation} {module}")
    parts = [who, fields.get("year", ""), f"arXiv {number[1]}" if number else ""]
    return f"{fields.get('title', '')} ({', '.join(filter(None, parts))})"


if __name__ == "__main__":
    main()
