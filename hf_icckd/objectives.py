"""List what students and teachers can minimise, or describe some of it: `hf-icckd objectives [NAME ...]`."""

from __future__ import annotations

import textwrap

from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS
from hf_icckd.losses.description import describe, kind_of, needs_of, replays
from hf_icckd.losses.objective import DistillationObjective
from hf_icckd.losses.teacher_term import TeacherTerm
from hf_icckd.options.command_line import parse_command, readable_errors
from hf_icckd.utils.text import show, suggest

_WIDTH = 100
_COLUMNS = (12, 14, 9, 15, 9, 24, 0)
_LEGEND = (
    "B images in a step, C classes, D numbers in an embedding or channels of a map, P places in a map, N further "
    "images. Recorded: whether --teacher_targets record and replay serve it. Layers are trained with the student and "
    "not exported. NAME:weight=VALUE multiplies the weights. hf-icckd objectives NAME shows formula, arguments and "
    "source."
)


def main(argv: list[str] | None = None) -> None:
    """Print the table of all objectives and terms, or what is known of some."""
    (args,) = parse_command("objectives", argv)
    with readable_errors():
        show("\n\n".join(map(description_text, args.names)) if args.names else objectives_table())


def objectives_table() -> str:
    """One line for each objective of students, and one for each term of teachers."""
    head = _line("objective", "copies", "weight", "cost", "recorded", "needs", "source")
    lines = ["objectives of students: --objectives NAME:argument=value ...", "", head, "-" * _WIDTH]
    for name, kind in OBJECTIVES.items():
        weights = " + ".join(f"{weight:g}" for weight in kind.term_weights.values())
        if len({*kind.term_weights.values()}) == 1 < len(kind.term_weights):
            weights = f"{len(kind.term_weights)} x {next(iter(kind.term_weights.values())):g}"
        recorded = "yes" if replays(kind) else "no"
        lines.append(
            _line(name, kind_of(kind), weights, kind.cost, recorded, ", ".join(needs_of(kind)), _source(kind))
        )
    lines += ["", "terms of teachers beside cross-entropy: --terms NAME:argument=value ..., or none", ""]
    lines += [_line("term", "", "weight", "", "", "", "source"), "-" * _WIDTH]
    for name, term in TEACHER_TERMS.items():
        lines.append(_line(name, "", f"{term.default_weight:g}", "", "", "", _source(term)))
    return "\n".join([*lines, "", *textwrap.wrap(_LEGEND, _WIDTH)])


def _line(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, _COLUMNS, strict=True)).rstrip()


def _source(kind: type[DistillationObjective] | type[TeacherTerm]) -> str:
    described = describe(kind)
    return described.arxiv or described.authors


def description_text(name: str) -> str:
    """All that is known of an objective or a term.

    Raises:
        ValueError: If there is none of that name.
    """
    known: dict[str, type[DistillationObjective] | type[TeacherTerm]] = {**OBJECTIVES, **TEACHER_TERMS}
    if name not in known:
        raise ValueError(
            f"unknown objective or term {name!r}, expected one of: {', '.join(known)}{suggest(name, known)}"
        )
    kind = known[name]
    about = describe(kind)
    lines = [name, "-" * _WIDTH, *_row("what", about.summary)]
    lines += _row("formula", about.formula)
    for argument in about.arguments:
        elsewhere = f" ({argument.elsewhere})" if argument.elsewhere else ""
        lines += _row(argument.name, f"{argument.default}: {argument.meaning.rstrip('.')}{elsewhere}")
    if issubclass(kind, DistillationObjective):
        terms = ", ".join(f"{weight:g} x {term}" for term, weight in kind.term_weights.items())
        lines += _row("terms", terms)
        read = " and ".join(kind.teacher_outputs).replace("_", " ")
        lines += _row("reads", f"the teacher's {read}" if read else "nothing of the teacher")
    for paragraph in about.text:
        lines += ["", *textwrap.wrap(paragraph, _WIDTH)]
    if about.relations:
        lines += ["", *textwrap.wrap(about.relations, _WIDTH)]
    number = f", arXiv {about.arxiv}" if about.arxiv else ""
    return "\n".join([*lines, "", *textwrap.wrap(f"{about.title} ({about.authors}{number})", _WIDTH)]).replace("`", "")


def _row(title: str, words: str) -> list[str]:
    return textwrap.wrap(words, _WIDTH, initial_indent=f"  {title:<20}", subsequent_indent=" " * 22)


if __name__ == "__main__":
    main()
