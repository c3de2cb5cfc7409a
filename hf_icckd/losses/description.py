"""What can be said of an objective or a term without training with it, from its docstring and its attributes."""

from __future__ import annotations

import inspect
import re
import sys
from typing import NamedTuple

import torch

from hf_icckd.losses.objective import DistillationObjective, outputs_read
from hf_icckd.losses.specs import REQUIRED, default_arguments
from hf_icckd.losses.teacher_term import TeacherTerm
from hf_icckd.models.outputs import OutputShapes

_SECTIONS = ("Formula", "Relations", "Args", "Attributes", "Raises", "Reference", "Example")


class Argument(NamedTuple):
    """An argument of an objective or a term.

    Attributes:
        name: Its name.
        default: Its default as it is written on a command line; `to be given` without one.
        meaning: What it is.
        elsewhere: Its name in the paper or in public code, as in `paper: T`; empty if there is none.
    """

    name: str
    default: str
    meaning: str
    elsewhere: str


class Description(NamedTuple):
    """What an objective or a term is.

    Attributes:
        summary: One sentence.
        text: Paragraphs, also on where the paper and public code differ.
        formula: One line, with code in backticks; empty without one.
        relations: What it has to do with others.
        arguments: All of them, `weight` first.
        title: Title of the paper.
        authors: First author and year.
        arxiv: Its number at arXiv; empty without one.
    """

    summary: str
    text: list[str]
    formula: str
    relations: str
    arguments: list[Argument]
    title: str
    authors: str
    arxiv: str


def describe(kind: type[DistillationObjective] | type[TeacherTerm]) -> Description:
    """Read the docstring and the citation of a class.

    Example:
        >>> from hf_icckd.losses import OBJECTIVES
        >>> described = describe(OBJECTIVES["kd"])
        >>> described.authors, described.arxiv, described.arguments[1].default
        ('Hinton et al., 2015', '1503.02531', '4')
    """
    sections = _sections(inspect.getdoc(kind) or "")
    summary, *text = [" ".join(each.split()) for each in sections[""].split("\n\n") if each.strip()]
    meanings = dict(re.findall(r"^(\w+): (.*(?:\n {4,}.*)*)", sections.get("Args", ""), re.M))
    fields = dict(re.findall(r"(\w+)\s*=\s*\{((?:[^{}]|\{[^{}]*\})*)\}", kind.citation))
    title = " ".join(fields.get("title", "").replace("{", "").replace("}", "").split())
    people = [each.partition(",")[0].strip() for each in fields.get("author", "").split(" and ")]
    who = people[0] if len(people) == 1 else f"{people[0]} et al."
    module = sys.modules[kind.__module__].__doc__ or ""
    number = re.search(r"arXiv[: ]([0-9]{4}\.[0-9]{4,5})", f"{kind.citation} {module}")
    return Description(
        re.split(r"; see `| as an objective with | with the terms ", summary)[0].rstrip("."),
        text,
        " ".join(sections.get("Formula", "").split()),
        " ".join(sections.get("Relations", "").split()),
        [
            _argument(name, value, " ".join(meanings.get(name, "").split()))
            for name, value in default_arguments(kind).items()
        ],
        title,
        ", ".join(filter(None, [who, fields.get("year", "")])),
        number[1] if number else "",
    )


def references(kind: type) -> list[str]:
    """What the functions beside a class say of their sources: equations, and which of several versions they are."""
    functions = [each for name, each in inspect.getmembers(sys.modules[kind.__module__], inspect.isfunction)
                 if each.__module__ == kind.__module__ and not name.startswith("_")]  # fmt: skip
    found = [" ".join(_sections(inspect.getdoc(each) or "").get("Reference", "").split()) for each in functions]
    return [f"`{each.__name__}`: {text}" for each, text in zip(functions, found, strict=True) if text]


def _sections(doc: str) -> dict[str, str]:
    """Text of each section of a docstring by its heading, that before the first one under an empty name."""
    parts = re.split(rf"^({'|'.join(_SECTIONS)}):\n", doc, flags=re.M)
    return {"": parts[0]} | {name: inspect.cleandoc(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _argument(name: str, value: object, meaning: str) -> Argument:
    if name == "weight":
        meaning = "Multiplies the weights of all terms."
    found = re.search(r" \(((?:paper|code): [^()]+)\)", meaning)
    if found:
        meaning = meaning.replace(found[0], "")
    return Argument(name, _value(value), meaning, found[1] if found else "")


def _value(value: object) -> str:
    if value is REQUIRED:
        return "to be given"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def kind_of(objective: type[DistillationObjective]) -> str:
    """What a student copies by it: logits, embeddings or feature maps."""
    outputs = outputs_read(objective, "student")
    return "feature maps" if "feature_maps" in outputs else outputs[0]


def needs_of(objective: type[DistillationObjective]) -> list[str]:
    """What it needs besides the two models' outputs: labels, layers of its own, the teacher's last layer, a memory."""
    there = {
        "labels": not objective.takes_unlabeled,
        "layers": _is_trained(objective),
        "teacher layer": objective.reads_teacher_layer,
        "memory": objective.keep_images is not DistillationObjective.keep_images,
    }
    return [name for name, needed in there.items() if needed]


def _is_trained(objective: type[DistillationObjective]) -> bool:
    made, shapes = objective(), OutputShapes(2, 2, ((2, 1, 1),) * 2)
    with torch.random.fork_rng(devices=[]):
        made.build(shapes, shapes)
    return any(True for _ in made.parameters())


def replays(objective: type[DistillationObjective]) -> bool:
    """Whether recorded teacher targets serve it: feature maps are too large to record."""
    return "feature_maps" not in objective.teacher_outputs
