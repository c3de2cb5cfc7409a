"""Licences of weights: what is stated for a model, and whether that allows commercial use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.repocard import metadata_load
from timm.models import get_pretrained_cfg, is_model

from hf_icckd.models.hub_names import hub_name
from hf_icckd.models.state_dicts import is_weights_file
from hf_icckd.utils.atomic_files import user_path

Terms: TypeAlias = Literal["open", "non-commercial", "unclear"]

_CARD = "README.md"
# Families of identifiers, as the Hub and timm spell them. What is not among them has terms of its own.
_OPEN = re.compile(
    r"apache-2\.0|mit|isc|zlib|unlicense|wtfpl|cc0-1\.0|bsd(-.*)?|cc-by(-sa)?-\d.*|[al]?gpl(-.*)?|mpl-2\.0|epl-.*|"
    r"artistic-2\.0|afl-3\.0|ecl-2\.0|eupl-.*|ms-pl|postgresql|bsl-1\.0"
)
_NON_COMMERCIAL = re.compile(r".*\bnc\b.*|.*non-?commercial.*|apple-amlr")  # the last: for research alone


def terms_of(licence: str | None) -> Terms:
    """Whether a licence is open, forbids commercial use, or must be read to know; None, `other` and unknown ones must.

    Example:
        >>> terms_of("apache-2.0"), terms_of("cc-by-nc-4.0"), terms_of("other"), terms_of(None)
        ('open', 'non-commercial', 'unclear', 'unclear')
    """
    if licence is None:
        return "unclear"
    if _NON_COMMERCIAL.fullmatch(licence):
        return "non-commercial"
    return "open" if _OPEN.fullmatch(licence) else "unclear"


def model_title(name: str) -> str:
    """What a model named on the command line is called in public: never a path.

    Args:
        name: Folder, file of weights, Hub id or timm name.
    """
    path = user_path(name)
    if path.is_dir() or is_weights_file(path):
        return path.resolve().name
    if _is_timm(name):
        pretrained = get_pretrained_cfg(name)
        return f"{pretrained.architecture}.{pretrained.tag}" if pretrained and pretrained.tag else name
    found = hub_name(name)
    return name if found is None else found.repository


def stated_licence(name: str) -> str | None:
    """Identifier of the licence that is stated for a model; None if none is.

    A folder and a repository state it in the metadata of their README.md, timm's weights in timm's configuration. A
    file of weights states none.

    Args:
        name: Folder, file of weights, Hub id or timm name.

    Example:
        >>> stated_licence("convnextv2_atto.fcmae_ft_in1k")
        'cc-by-nc-4.0'
    """
    path = user_path(name)
    if path.is_dir():
        return _of_card(path / _CARD)
    if is_weights_file(path):
        return None
    if _is_timm(name):
        pretrained = get_pretrained_cfg(name)
        return _identifier(pretrained.license) if pretrained else None
    found = hub_name(name)
    if found is None:
        return None
    try:
        return _of_card(Path(hf_hub_download(found.repository, _CARD, revision=found.revision)))
    except (OSError, ValueError):  # no such file, or no network: the client's errors are of these types
        return None


def _is_timm(name: str) -> bool:
    return "/" not in name and is_model(name.partition(".")[0])


def _of_card(card: Path) -> str | None:
    try:
        metadata = metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):  # no card, or no metadata in it
        return None
    licence = _identifier(metadata.get("license"))
    # The Hub's way to name a licence that it has no identifier for.
    return (_identifier(metadata.get("license_name")) or licence) if licence == "other" else licence


def _identifier(stated: object) -> str | None:
    text = stated.strip().lower() if isinstance(stated, str) else ""
    return None if text in ("", "unknown") else text
