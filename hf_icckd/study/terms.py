"""Teacher terms in plans and records, where they are compared by their meaning: all arguments, defaults included."""

from __future__ import annotations

from typing import Any

from hf_icckd.losses import term_arguments

# Options of earlier versions, and the arguments of terms that replaced them.
OLD_OPTIONS = {
    "intra_class_weight": "intra_class.weight",
    "intra_class_margin": "intra_class.margin",
    "intra_class_gate": "intra_class.gate",
    "intra_class_temperature": "intra_class.temperature",
    "cache_size_per_class": "intra_class.cache_size",
    "intra_class_embedding": "intra_class.embedding",
    "in_batch_negatives": "intra_class.in_batch_negatives",
    "student_branches": "sftn.student",
}
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


def full_specs(meaning: Meaning) -> list[str]:
    """Specs that name every argument, so that they stay the same if a default changes."""
    return [_spec(name, arguments) for name, arguments in meaning.items()] or ["none"]


def short_specs(meaning: Meaning) -> list[str]:
    """Specs that name only the arguments that differ from their defaults."""
    return [_short_spec(name, arguments) for name, arguments in meaning.items()] or ["none"]


def from_old_options(options: dict[str, Any]) -> Meaning:
    """Meaning of options of earlier versions; those left out, or None, have their defaults."""
    asked: Meaning = {"sftn": {}, "intra_class": {}}
    for option, path in OLD_OPTIONS.items():
        if options.get(option) is not None:
            term, _, argument = path.partition(".")
            asked[term][argument] = options[option]
    return meaning_of([_spec(term, arguments) for term, arguments in asked.items() if term != "sftn" or arguments])


def _spec(term: str, arguments: dict[str, Any]) -> str:
    pairs = ",".join(f"{name}={_text(value)}" for name, value in arguments.items())
    return f"{term}:{pairs}" if pairs else term


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")


def _short_spec(term: str, arguments: dict[str, Any]) -> str:
    kept = dict(arguments)
    for name in arguments:
        fewer = {key: value for key, value in kept.items() if key != name}
        try:
            unneeded = term_arguments([_spec(term, fewer)]) == {term: arguments}
        except ValueError:  # the term requires this argument
            unneeded = False
        if unneeded:
            kept = fewer
    return _spec(term, kept)
