"""Teacher terms in plans and records, where they are compared by their meaning: all arguments, defaults included."""

from __future__ import annotations

from typing import Any

from hf_icckd.losses import TEACHER_TERMS, term_arguments
from hf_icckd.losses.registry import NO_TERMS
from hf_icckd.losses.specs import shortest_spec
from hf_icckd.options.renamed import TERM_ARGUMENTS, with_terms

# Options of earlier versions, and the arguments of terms that replaced them.
OLD_OPTIONS = {name: f"intra_class.{argument}" for name, argument in TERM_ARGUMENTS.items()}
OLD_OPTIONS["student_branches"] = "sftn.student"
FORMER_TERMS = "intra_class"  # those of a teacher that said nothing of them
Meaning = dict[str, dict[str, Any]]


def as_specs(terms: Any) -> list[str]:
    """Specs from a value of `terms`, which may be a single one or a list.

    Raises:
        ValueError: If it is neither.
    """
    specs = [terms] if isinstance(terms, str) else terms
    if not isinstance(specs, list) or not all(isinstance(spec, str) for spec in specs):
        raise ValueError(f"terms is {terms!r}, expected none, intra_class:weight=0.5 or a list of such; correct it")
    return specs


def meaning_of(terms: Any) -> Meaning:
    """All arguments of each term with a weight above 0, from a value of `terms`.

    Raises:
        ValueError: If a spec can't be read.
    """
    return term_arguments(as_specs(terms))


def short_specs(meaning: Meaning) -> list[str]:
    """Specs that name only the arguments that differ from their defaults."""
    return [shortest_spec(name, arguments, TEACHER_TERMS) for name, arguments in meaning.items()] or [NO_TERMS]


def from_old_options(options: dict[str, Any]) -> Meaning:
    """Meaning of options of earlier versions; those left out, or None, have their defaults."""
    return meaning_of(with_terms(options).get("terms", FORMER_TERMS))
