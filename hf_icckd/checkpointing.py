"""Checkpoints of a run: they appear in its folder whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_icckd.hub import contiguous_state

_STATE_FILE = "training_state.safetensors"


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def staging_folder(output_dir: str | Path) -> Path:
    """Where a checkpoint is written before it is whole."""
    return Path(output_dir) / ".unfinished"


def clear_staging(output_dir: str | Path) -> None:
    """Remove what an interrupted write left behind."""
    shutil.rmtree(staging_folder(output_dir), ignore_errors=True)


def publish(output_dir: str | Path, extra_state: dict[str, Tensor], limit: int | None) -> None:
    """Move the staged checkpoint to its place and remove the oldest ones beyond a limit.

    Args:
        output_dir: Folder of the run.
        extra_state: Further tensors that belong to the checkpoint.
        limit: How many checkpoints to keep; None for all.
    """
    (written,) = staging_folder(output_dir).glob("checkpoint-*")
    if extra_state:
        save_file(contiguous_state(extra_state), written / _STATE_FILE)
    target = Path(output_dir) / written.name
    shutil.rmtree(target, ignore_errors=True)
    written.rename(target)
    clear_staging(output_dir)
    if limit:
        for old in checkpoints(output_dir)[:-limit]:
            shutil.rmtree(old)


def load_extra_state(checkpoint: str | Path) -> dict[str, Tensor]:
    """What `publish` was given as `extra_state`."""
    file = Path(checkpoint) / _STATE_FILE
    return load_file(file) if file.is_file() else {}
