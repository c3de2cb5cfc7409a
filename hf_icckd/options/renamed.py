"""Options of earlier versions: using one is an error that gives the new spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_icckd.utils.text import value_text

TERM_ARGUMENTS = {
    "intra_class_weight": "weight",
    "intra_class_margin": "margin",
    "intra_class_gate": "gate",
    "intra_class_temperature": "temperature",
    "cache_size_per_class": "cache_size",
    "intra_class_embedding": "embedding",
    "in_batch_negatives": "in_batch_negatives",
}
RENAMED = (*TERM_ARGUMENTS, "student_branches")


def new_spelling(old: Mapping[str, object]) -> str | None:
    """How options of 0.1 are written now; None if there is none among them.

    Args:
        old: Options by name, without dashes, with their values; a value that is not known is None.

    Example:
        >>> new_spelling({"intra_class_weight": "0.5", "intra_class_gate": "false"})
        '--terms intra_class:weight=0.5,gate=false'
        >>> new_spelling({"intra_class_weight": 0, "student_branches": "cifar_resnet8"})
        '--terms sftn:student=cifar_resnet8'
        >>> new_spelling({"intra_class_weight": 0})
        '--terms none'
    """
    if not any(name in RENAMED for name in old):
        return None
    specs = []
    arguments = {new: old[name] for name, new in TERM_ARGUMENTS.items() if name in old}
    if arguments and str(arguments.get("weight")) not in ("0", "0.0"):
        shown = {name: "VALUE" if value is None else value_text(value) for name, value in arguments.items()}
        specs.append("intra_class:" + ",".join(f"{name}={value}" for name, value in shown.items()))
    if "student_branches" in old:
        specs.append(f"sftn:student={old['student_branches'] or 'ARCHITECTURE'}")
    return f"--terms {' '.join(specs or ['none'])}"


def with_terms(record: Any) -> Any:
    """A record of a 0.1 run with `terms` in place of the old options, at any depth.

    Example:
        >>> with_terms({"model": "cifar_resnet20", "intra_class_weight": 0.05, "student_branches": None})
        {'model': 'cifar_resnet20', 'terms': ['intra_class:weight=0.05']}
    """
    if isinstance(record, list):
        return [with_terms(item) for item in record]
    if not isinstance(record, dict):
        return record
    old = {name: value for name, value in record.items() if name in RENAMED and value is not None}
    kept = {name: with_terms(value) for name, value in record.items() if name not in RENAMED}
    spelling = new_spelling(old)
    return kept if spelling is None else kept | {"terms": spelling.removeprefix("--terms ").split()}
