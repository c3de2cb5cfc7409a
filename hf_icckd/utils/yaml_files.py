"""YAML files, read by the rules of YAML 1.2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from hf_icckd.utils.atomic_files import user_path


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as most people expect it: 1e-3 is a number, and no, yes, on and off are words."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own is one)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: str | Path, what: str, as_text: bool = False) -> Any:
    """Read a YAML file.

    Args:
        what: What errors call the file.
        as_text: Whether to keep all values as text: `no`, `1e3` and `007` may be names.

    Raises:
        ValueError: If the file does not exist or is not valid YAML; the message is one line.
    """
    path = user_path(path)
    if not path.is_file():
        raise ValueError(f"{what} {str(path)!r} does not exist; check the path")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader if as_text else _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {str(path)!r} is not valid YAML: {' '.join(str(error).split())}") from error
