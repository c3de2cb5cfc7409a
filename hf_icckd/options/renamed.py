"""Options of earlier versions: using one is an error that gives the new spelling."""

from __future__ import annotations

_TERM_ARGUMENTS = {
    "intra_class_weight": "weight",
    "intra_class_margin": "margin",
    "intra_class_gate": "gate",
    "intra_class_temperature": "temperature",
    "intra_class_embedding": "embedding",
    "cache_size_per_class": "cache_size",
    "in_batch_negatives": "in_batch_negatives",
}


def new_spelling(name: str, value: object = None) -> str | None:
    """How to write an option of 0.1 now; None if it never was one.

    Args:
        name: Name of the option, without dashes.
        value: Its value, as far as it is known.

    Example:
        >>> new_spelling("intra_class_weight", "0.5")
        '--terms intra_class:weight=0.5'
        >>> new_spelling("student_branches", "cifar_resnet8")
        '--terms sftn:student=cifar_resnet8'
    """
    if name == "student_branches":
        return f"--terms sftn:student={'ARCHITECTURE' if value is None else value}"
    if name not in _TERM_ARGUMENTS:
        return None
    if name == "intra_class_weight" and str(value) in ("0", "0.0"):
        return "--terms none"
    return f"--terms intra_class:{_TERM_ARGUMENTS[name]}={'VALUE' if value is None else str(value)}"
