"""Specs: how an objective or a teacher term is written on a command line, `name:argument=value,argument=value`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from hf_icckd.utils.text import suggest, value_text

REQUIRED = inspect.Parameter.empty


def parse_spec(spec: str, registry: Mapping[str, type], kind: str) -> tuple[str, dict[str, Any]]:
    """Read a spec.

    Args:
        spec: A name of the registry, then optional `argument=value` pairs after a colon.
        registry: Names and classes. Arguments: `weight` and what the class's constructor takes.
        kind: What the registry holds, for errors: `objective` or `teacher term`.

    Returns:
        The name and all arguments, defaults filled in, `weight` first.

    Raises:
        ValueError: If a name, an argument or a value is not known, or a required argument is missing.
    """
    name, _, tail = spec.partition(":")
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}, expected one of: {', '.join(registry)}{suggest(name, registry)}")
    parameters = _parameters(registry[name])
    arguments = default_arguments(registry[name])
    for pair in filter(None, tail.split(",")):
        key, equals, text = pair.partition("=")
        if key not in arguments or not equals:
            raise ValueError(
                f"cannot read {pair!r} in {kind} {spec!r}, expected {name}:argument=value with one of the arguments: "
                f"{', '.join(arguments)}{suggest(key, arguments)}"
            )
        arguments[key] = _parse_value(text, key, parameters.get(key), f"{kind} {spec!r}")
    missing = [key for key, value in arguments.items() if value is REQUIRED]
    if missing:
        raise ValueError(f"{kind} {spec!r} lacks {missing[0]}, expected {name}:{missing[0]}=VALUE")
    return name, arguments


def default_arguments(kind: type) -> dict[str, Any]:
    """All arguments of an objective or a term with their defaults, `weight` first; `REQUIRED` where there is none."""
    defaults = {key: parameter.default for key, parameter in _parameters(kind).items()}
    return {"weight": getattr(kind, "default_weight", 1.0), **defaults}


def write_spec(name: str, arguments: Mapping[str, Any]) -> str:
    """The spec that names all of these arguments."""
    pairs = ",".join(f"{key}={value_text(value)}" for key, value in arguments.items())
    return f"{name}:{pairs}" if pairs else name


def shortest_spec(name: str, arguments: Mapping[str, Any], registry: Mapping[str, type]) -> str:
    """The spec without the arguments that have their default values."""
    required = [key for key, each in _parameters(registry[name]).items() if each.default is REQUIRED]
    _, defaults = parse_spec(write_spec(name, {key: arguments[key] for key in required}), registry, "spec")
    shown = {key: value for key, value in arguments.items() if key in required or value != defaults[key]}
    return write_spec(name, shown)


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    # A class without a constructor of its own takes no arguments, whatever nn.Module's signature says.
    inherited = inspect.getattr_static(kind, "__init__") is inspect.getattr_static(nn.Module, "__init__")
    return {} if inherited else dict(inspect.signature(kind).parameters)


def _parse_value(text: str, key: str, parameter: inspect.Parameter | None, where: str) -> Any:
    default = 1.0 if parameter is None else parameter.default
    if isinstance(default, str) or (parameter is not None and parameter.annotation in ("str", str)):
        return text
    words = re.findall(r"'(\w+)'", str(parameter.annotation)) if parameter is not None else []
    if text in words:  # of an argument that is otherwise a number
        return text
    flag = {"true": True, "false": False}.get(text.lower())
    if isinstance(default, bool) or flag is not None:
        if not isinstance(default, bool) or flag is None:
            expected = "true or false" if isinstance(default, bool) else "a number"
            raise ValueError(f"{key} is {text!r} in {where}, expected {expected}")
        return flag
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if isinstance(default, int) and not isinstance(value, int):
            raise ValueError(f"{key} is {text!r} in {where}, expected a whole number")
        return float(value) if isinstance(default, float) else value
    raise ValueError(f"{key} is {text!r} in {where}, expected {' or '.join(['a number', *words])}")
