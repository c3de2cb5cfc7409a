"""Checkpoints of a run: written atomically, with a manifest that tells damaged ones from intact ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hf_icckd._version import __version__
from hf_icckd.utils.atomic_files import contiguous_state, sync

logger = logging.getLogger(__name__)

FORMAT = 2
STATE_FILE, MANIFEST_FILE = "training_state.safetensors", "manifest.json"
REHEARSED = ".rehearsal-"  # how folders begin in which writing a checkpoint is only tried


class Stateful(Protocol):
    """An object with tensors that must survive a resume."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors; all ranks call this together."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> Any:
        """Take back what `state_dict` returned."""
        ...


class DamagedCheckpointError(ValueError):
    """A checkpoint is incomplete or was changed after it was written."""


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, damaged ones included."""
    # Not checkpoint-best-10 and the like: copies that somebody made are not ours to remove.
    paths = Path(output_dir).glob("checkpoint-*")
    found = [path for path in paths if re.fullmatch("checkpoint-[0-9]+", path.name)]
    return sorted(found, key=_step)


def newest_intact(output_dir: str | Path) -> Path | None:
    """The newest undamaged checkpoint; a warning names each damaged one that is skipped.

    Raises:
        ValueError: If it was written by a version with another format.
    """
    for path in reversed(checkpoints(output_dir)):
        try:
            verify(path)
            return path
        except DamagedCheckpointError as error:
            logger.warning("%s; it is skipped", error)
    if checkpoints(output_dir):
        logger.warning("no checkpoint in %s is intact: training starts from the beginning", output_dir)
    return None


def verify(checkpoint: str | Path) -> None:
    """Compare a checkpoint with its manifest.

    Raises:
        DamagedCheckpointError: If a file is missing or has changed.
        ValueError: If a version with another format wrote it.
    """
    checkpoint = Path(checkpoint)
    try:
        manifest = json.loads((checkpoint / MANIFEST_FILE).read_bytes())
        written_as, version, files = int(manifest["format"]), manifest["version"], dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedCheckpointError(
            f"{checkpoint} is damaged: {MANIFEST_FILE} is missing or damaged ({type(error).__name__})"
        ) from error
    if written_as != FORMAT:
        raise ValueError(
            f"{checkpoint} has format {written_as} of hf_icckd {version}, expected {FORMAT}; resume with "
            "that version, or choose another folder with --output_dir"
        )
    for name, digest in files.items():
        try:
            found = _digest(checkpoint / name)
        except OSError as error:
            raise DamagedCheckpointError(
                f"{checkpoint} is damaged: {name} can't be read ({error.strerror})"
            ) from error
        if found != digest:
            raise DamagedCheckpointError(f"{checkpoint} is damaged: {name} is not what was written")


def is_intact(output_dir: str | Path, step: int) -> bool:
    """Whether there is an undamaged checkpoint of a step.

    Raises:
        ValueError: If a version with another format wrote it.
    """
    try:
        verify(Path(output_dir) / f"checkpoint-{step}")
    except DamagedCheckpointError:
        return False
    return True


def staging_folder(output_dir: str | Path) -> Path:
    """Where a checkpoint is written before it is moved to its place."""
    return Path(output_dir) / ".unfinished"


def clear_staging(output_dir: str | Path) -> None:
    """Remove what an interrupted write, or an interrupted rehearsal of one, left."""
    for folder in (staging_folder(output_dir), *Path(output_dir).glob(f"{REHEARSED}*")):
        shutil.rmtree(folder, ignore_errors=True)


def publish(output_dir: str | Path, step: int, extra_state: dict[str, Tensor]) -> None:
    """Complete the staged checkpoint of a step and move it to its place once everything is on the disk.

    Args:
        output_dir: Folder of the run.
        step: Step of the checkpoint.
        extra_state: Further tensors that belong to the checkpoint.
    """
    output_dir = Path(output_dir)
    written, target = (folder / f"checkpoint-{step}" for folder in (staging_folder(output_dir), output_dir))
    save_file(contiguous_state(extra_state), written / STATE_FILE)
    files = {path.name: _digest(path) for path in sorted(written.iterdir())}
    manifest = {"format": FORMAT, "version": __version__, "files": files}
    (written / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    for path in written.iterdir():
        sync(path)
    sync(written)
    if target.exists():
        target.rename(staging_folder(output_dir) / "replaced")
    written.rename(target)
    sync(output_dir)


def prune(output_dir: str | Path, step: int, limit: int | None) -> None:
    """Remove the oldest checkpoints up to a step.

    Checkpoints of later steps, such as damaged ones of an earlier session, don't count.

    Args:
        output_dir: Folder of the run.
        step: Step of the newest checkpoint.
        limit: How many to keep; None for all.
    """
    clear_staging(output_dir)
    past = [path for path in checkpoints(output_dir) if _step(path) <= step]
    for old in past[:-limit] if limit else []:
        try:
            shutil.rmtree(old)
        except OSError as error:  # the new checkpoint is intact, so training can continue
            logger.warning("%s can't be removed: %s", old, error)


def load_extra_state(checkpoint: str | Path) -> dict[str, Tensor]:
    """The `extra_state` that `publish` was given."""
    # Copied: the tensors would keep the file mapped, and network file systems can't remove mapped files.
    return {name: tensor.clone() for name, tensor in load_file(Path(checkpoint) / STATE_FILE).items()}


@contextlib.contextmanager
def plain_data_only(checkpoint: str | None) -> Iterator[None]:
    """Say in one line that a checkpoint holds what its format does not allow."""
    try:
        yield
    except (pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"{checkpoint} holds more than plain data ({str(error).splitlines()[0]}); none of it was run; move the "
            "checkpoint out of the folder, and the run resumes from the one before"
        ) from error


def position(checkpoint: Path) -> tuple[int, int]:
    """Optimiser steps that a checkpoint was written after, and optimiser steps in an epoch."""
    return _step(checkpoint), int(load_extra_state(checkpoint)["steps_per_epoch"])


def state_of(parts: dict[str, Stateful]) -> dict[str, Tensor]:
    """Tensors of several parts, each under `part.name`; all ranks call this together."""
    states = {name: part.state_dict() for name, part in parts.items()}
    return {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}


def size_of(state: Any) -> int:
    """Bytes that the tensors of nested dicts and lists take; of sharded ones, those of the whole tensors."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(state) if isinstance(leaf, Tensor))


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose names begin with a prefix, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
