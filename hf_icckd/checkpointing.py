"""Checkpoints of a run: they appear in its folder whole or not at all, and a damaged one is told from a whole one."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_icckd import __version__
from hf_icckd.files import sync
from hf_icckd.hub import contiguous_state

logger = logging.getLogger(__name__)

FORMAT = 1
STATE_FILE, MANIFEST_FILE = "training_state.safetensors", "manifest.json"


class DamagedCheckpointError(ValueError):
    """A checkpoint lacks something or is not what was written."""


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, damaged ones among them."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=_step)


def newest_whole(output_dir: str | Path) -> Path | None:
    """The newest checkpoint that is what was written; a warning names each damaged one that is passed over.

    Raises:
        ValueError: If that checkpoint was written by a later version with another format.
    """
    for path in reversed(checkpoints(output_dir)):
        try:
            verify(path)
            return path
        except DamagedCheckpointError as error:
            logger.warning("%s is damaged (%s); the one before it is taken", path, error)
    return None


def verify(checkpoint: str | Path) -> None:
    """Compare a checkpoint with its manifest.

    Raises:
        DamagedCheckpointError: If a file is missing or has changed.
        ValueError: If a later version with another format wrote it.
    """
    checkpoint = Path(checkpoint)
    try:
        manifest = json.loads((checkpoint / MANIFEST_FILE).read_text())
        if manifest["format"] > FORMAT:
            raise ValueError(
                f"{checkpoint} has format {manifest['format']} of hf_icckd {manifest['version']}, expected at most "
                f"{FORMAT}; go on with that version, or choose another folder with --output_dir"
            )
        files = manifest["files"].items()
    except (OSError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise DamagedCheckpointError(f"{MANIFEST_FILE} is missing or incomplete: {type(error).__name__}") from error
    for name, digest in files:
        try:
            found = _digest(checkpoint / name)
        except OSError as error:
            raise DamagedCheckpointError(f"{name} can't be read: {error.strerror}") from error
        if found != digest:
            raise DamagedCheckpointError(f"{name} is not what was written")


def staging_folder(output_dir: str | Path) -> Path:
    """Where a checkpoint is written before it is whole."""
    return Path(output_dir) / ".unfinished"


def clear_staging(output_dir: str | Path) -> None:
    """Remove what an interrupted write left behind."""
    shutil.rmtree(staging_folder(output_dir), ignore_errors=True)


def publish(output_dir: str | Path, extra_state: dict[str, Tensor], limit: int | None) -> None:
    """Complete the staged checkpoint, move it to its place and remove those that are no longer wanted.

    The move comes when everything is on the disk, and the removal when the move is: at no moment is there no whole
    checkpoint once there was one.

    Args:
        output_dir: Folder of the run.
        extra_state: Further tensors that belong to the checkpoint.
        limit: How many checkpoints to keep; None for all.
    """
    output_dir = Path(output_dir)
    (written,) = staging_folder(output_dir).glob("checkpoint-*")
    save_file(contiguous_state(extra_state), written / STATE_FILE)
    files = {path.name: _digest(path) for path in sorted(written.iterdir())}
    manifest = {"format": FORMAT, "version": __version__, "files": files}
    (written / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2))
    for path in written.iterdir():
        sync(path)
    sync(written)
    target = output_dir / written.name
    shutil.rmtree(target, ignore_errors=True)  # of this step there is one only if it was passed over as damaged
    written.rename(target)
    sync(output_dir)
    clear_staging(output_dir)
    # Checkpoints ahead of the run were passed over as damaged; they must not count as its newest ones.
    past = [path for path in checkpoints(output_dir) if _step(path) <= _step(target)]
    for old in {*checkpoints(output_dir)} - {*past[-limit if limit else 0 :]}:
        shutil.rmtree(old)


def load_extra_state(checkpoint: str | Path) -> dict[str, Tensor]:
    """What `publish` was given as `extra_state`."""
    return load_file(Path(checkpoint) / STATE_FILE)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
