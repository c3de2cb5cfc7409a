"""Which files of a model folder belong on the Hub."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hf_icckd.models.pretrained import CONFIG_FILE, WEIGHTS_FILE, check_complete
from hf_icckd.runs.layout import ARGS_FILE, CARD_FILE, METRICS_FILE

# All else in the folder of a run is for its training, or was put there by someone.
_PUBLISHED = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, METRICS_FILE, ARGS_FILE, "*.png", "*.svg")


def published_files(folder: str | Path) -> list[Path]:
    """The files of a model folder that belong on the Hub: weights, config, card, metrics, options and pictures.

    Subfolders (which may be checkpoints) and all other files are left out.

    Args:
        folder: A folder with config and weights, such as a finished run.

    Raises:
        ValueError: If config or weights are missing, or the content of a file does not match its name: a pickle in
            place of weights or of a picture, for example.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"model folder {str(folder)!r} does not exist, expected a finished run; check the path")
    check_complete(folder, str(folder))
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_published(path.name))
    for path in files:
        if not _is_what_its_name_says(path):
            raise ValueError(
                f"{path} is not what its name says, expected safetensors, a PNG picture or text; remove it, or write "
                "the folder again"
            )
    return files


def _is_published(name: str) -> bool:
    return not name.startswith(".") and any(fnmatchcase(name, pattern) for pattern in _PUBLISHED)


def _is_what_its_name_says(path: Path) -> bool:
    if path.name == WEIGHTS_FILE:
        try:
            with safe_open(path, "pt"):
                return True
        except SafetensorError:
            return False
    content = path.read_bytes()
    if path.suffix == ".png":
        return content.startswith(b"\x89PNG\r\n\x1a\n")
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False
