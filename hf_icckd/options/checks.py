"""What all dataclasses of options share."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from typing import Any


def default_of(option: dataclasses.Field) -> Any:
    """Default of an option, made by its factory if it has one."""
    if option.default_factory is dataclasses.MISSING:
        return option.default
    return option.default_factory()


def type_text(option: dataclasses.Field) -> str:
    """Type of an option as it is written; HfArgumentParser replaces the text by the type itself."""
    kind = option.type
    text = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    return text.removeprefix("typing.")


def changed_options(arguments: Any) -> dict[str, Any]:
    """Options of a dataclass that differ from their defaults; call it before anything is filled in."""
    changed = {}
    for option in dataclasses.fields(arguments):
        default = default_of(option)
        value = getattr(arguments, option.name)
        # Some defaults of the Trainer are "" or "no", for which the parser gives None or False.
        if value != default and not (default in ("", "no") and value in (None, False)):
            changed[option.name] = value
    return changed


def check_range(
    arguments: Any, name: str, low: float, high: float, exclude_low: bool = False, exclude_high: bool = False
) -> None:
    """Raise ValueError if an option is a number outside its range; None passes."""
    check_number(name, getattr(arguments, name), low, high, exclude_low, exclude_high)


def check_number(
    name: str,
    value: float | None,
    low: float,
    high: float = math.inf,
    exclude_low: bool = False,
    exclude_high: bool = False,
) -> None:
    """Raise ValueError if a number is outside its range; None passes."""
    if value is None:
        return
    if not low <= value <= high or (exclude_low and value == low) or (exclude_high and value == high):
        bounds = f"{'above' if exclude_low else 'at least'} {low}"
        if high < math.inf:
            bounds += f" and {'below' if exclude_high else 'at most'} {high}"
        raise ValueError(f"{name} is {value}, expected a number {bounds}")


def check_channels(name: str, values: list[float] | None) -> None:
    """Raise ValueError unless there are three numbers from 0 to 1; None passes."""
    if values is not None and (len(values) != 3 or not all(0 <= each <= 1 for each in values)):
        raise ValueError(f"{name} is {values}, expected three numbers from 0 to 1")


def check_pixel_range(values: list[float] | None) -> None:
    """Raise ValueError unless there are two values, of black and of white; None passes."""
    if values is not None and not (len(values) == 2 and values[0] < values[1]):
        raise ValueError(
            f"pixel_range is {values}, expected the values of black and of white, the smaller first; for example "
            "--pixel_range 0 4095"
        )


_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def check_licence(identifier: str | None) -> None:
    """Raise ValueError unless the identifier of a licence can be one of the Hub's."""
    if identifier is not None and not _LICENCE.fullmatch(identifier):
        guess = identifier.strip().lower().replace(" ", "-")
        hint = f", perhaps {guess!r}" if _LICENCE.fullmatch(guess) else ""
        raise ValueError(
            f"license is {identifier!r}, expected an identifier as the Hub spells it, such as apache-2.0, cc-by-4.0, "
            f"or other{hint}"
        )
