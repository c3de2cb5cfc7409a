"""How users write the name of a model on the Hub."""

from __future__ import annotations

from typing import NamedTuple

_PREFIXES = ("hf-hub:", "hf_hub:")  # timm's


class HubName(NamedTuple):
    """A repository on the Hub and, if one was named, its revision."""

    repository: str
    revision: str | None = None


def hub_name(name: str) -> HubName | None:
    """Read `me/model`, `me/model@revision`, or either after timm's `hf-hub:`; None if a name is none of these.

    Example:
        >>> hub_name("hf-hub:me/model@v1.0")
        HubName(repository='me/model', revision='v1.0')
        >>> hub_name("runs/teacher/last")
    """
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    repository, at, revision = name.partition("@")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or (at and not revision):
        return None
    return HubName(repository, revision or None)
