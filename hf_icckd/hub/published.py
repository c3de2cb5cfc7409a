"""Which files of a model folder belong on the Hub."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hf_icckd.models.pretrained import CONFIG_FILE, WEIGHTS_FILE, check_complete
from hf_icckd.runs.layout import ARGS_FILE, CARD_FILE, METRICS_FILE

# What belongs on the Hub. Everything else in the folder of a run serves its training, or whoever put it there.
_PUBLISHED = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, METRICS_FILE, ARGS_FILE, "*.png", "*.svg")


def published_files(folder: str | Path) -> list[Path]:
    """Files of a model folder that belong on the Hub, each looked into.

    Args:
        folder: A folder with config and weights, such as that of a finished run.

    Returns:
        Its weights, config, card, figures, options and pictures (*.png, *.svg), as far as they are there. Subfolders,
        which may be checkpoints, and files of any other name stay out.

    Raises:
        ValueError: If config or weights are missing, or a file is not what its name says, such as a pickle in the
            place of weights or of a picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"model folder {str(folder)!r} does not exist; expected the folder of a finished run")
    check_complete(folder, str(folder))
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_published(path.name))
    for path in files:
        if not _is_what_its_name_says(path):
            raise ValueError(
                f"{path} is not what its name says, expected safetensors, a PNG picture or text; remove it, or write "
                "the folder anew"
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
