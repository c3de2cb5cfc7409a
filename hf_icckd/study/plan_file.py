"""Read a plan from a YAML file; every mistake in it gives a one-line message."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from hf_icckd.study.parts import Comparison, Student, Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.utils.text import suggest
from hf_icckd.utils.yaml_files import read_yaml

_KINDS = {"dict", "list", "str", "int", "float", "bool", "None"}  # types of YAML; others are built by now


def load_plan(path: str | Path) -> Plan:
    """Read the YAML file of a study.

    Args:
        path: File whose keys are the attributes of `Plan`; students, sweeps and the comparison hold the attributes of
            `Student`, `Sweep` and `Comparison`.

    Raises:
        ValueError: If it can't be read, or a name, value or key does not fit.
    """
    raw = read_yaml(path, "study file")
    if not isinstance(raw, dict):
        raise ValueError(f"study file {str(path)!r} holds a {type(raw).__name__}, expected `key: value` lines")
    raw = dict(raw)
    for key, kind in (("students", Student), ("sweeps", Sweep)):
        named = _named(raw.get(key), key)
        raw[key] = {name: _build(kind, value, f"{key}.{name}") for name, value in named.items()}
    for key in ("teachers", "alone"):
        raw[key] = {name: _named(value, f"{key}.{name}") for name, value in _named(raw.get(key), key).items()}
    for key in ("pairs", "labels"):
        raw[key] = _named(raw.get(key), key)
    raw["comparison"] = _build(Comparison, raw.get("comparison"), "comparison")
    return _build(Plan, raw, "the study")


def _build(kind: type, values: Any, where: str):
    if kind is Student and isinstance(values, dict) and not values.keys() & {"options", "trials"}:
        values = {"options": values}
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}, expected `key: value` lines")
    fields = {each.name: each for each in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise ValueError(
                f"{where} has an unknown key {key!r}{suggest(str(key), fields)}; known: {', '.join(fields)}"
            )
    required = [
        name
        for name, each in fields.items()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    for key in required:
        if key not in values:
            raise ValueError(f"{where} has no {key!r}; expected {', '.join(required)}")
    values = {key: value for key, value in values.items() if value is not None}
    for key, value in values.items():
        expected = str(fields[key].type)
        if not _fits(value, expected):
            raise ValueError(f"{where}.{key} is {value!r}, expected {expected}")
        if items := re.fullmatch(r"list\[(.+)\]", expected):
            for item in value:
                if not _fits(item, items[1]):
                    raise ValueError(f"{where}.{key} holds {item!r}, expected {items[1]}")
    return kind(**values)


def _named(values: Any, where: str) -> dict[str, Any]:
    """A mapping with its names as text; an empty YAML value gives an empty mapping."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}, expected `name: value` lines")
    return {str(name): value for name, value in values.items()}


def _fits(value: Any, annotation: str) -> bool:
    """Whether a YAML value has a type that an annotation allows; true and false are not numbers."""
    kinds = set(re.sub(r"\[.*\]", "", annotation).split(" | "))
    name = type(value).__name__
    return name in kinds or (name == "int" and "float" in kinds) or not kinds <= _KINDS
