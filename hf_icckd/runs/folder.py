"""The output folder of a run: which run it belongs to, what is in it, and a lock for whoever writes to it."""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from hf_icckd.options.checks import changed_options
from hf_icckd.options.command_line import argument_values
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.nets import StudentModelArguments, TeacherModelArguments
from hf_icckd.options.renamed import with_terms
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.runs import checkpoints
from hf_icckd.runs.identity import DATA, Change, Comparison, compare, matters, moved_data
from hf_icckd.runs.images import Removed
from hf_icckd.runs.layout import ARGS_FILE, METRICS_FILE
from hf_icckd.runs.length import check_length
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import write_text

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 10


class RunFolder:
    """The output folder of one run: new, begun or finished.

    Args:
        recipe: `teacher` or `student`.
        args: Options of the trainer, with the folder.
        data_args: Options of the data.
        model_args: Options of the model.
        scheduled: Name of an objective or term that may depend on the share of the run that is done, if there is one.
        **identity: Further values that tell this run from others.

    Attributes:
        values: All options, as all_args.yaml holds them.
        changed: Options that differ from their defaults, without the folder.
        removed: Images that have gone since the run was begun, if it resumes without them.
        starts_over: Whether the run, which has no checkpoint, starts over with the remaining images.
        moved_data: Options of the data that say another place, or another way to read it, than those of the run.

    Raises:
        ValueError: If the folder holds another run, or files of something else.
    """

    def __init__(
        self,
        recipe: str,
        args: DistillationTrainingArguments,
        data_args: TrainingDataArguments,
        model_args: TeacherModelArguments | StudentModelArguments,
        scheduled: str | None = None,
        **identity: Any,
    ):
        self.path, self.args, self.scheduled = Path(args.output_dir), args, scheduled
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"output folder {str(self.path)!r} is a file; choose another with --output_dir")
        values = {"recipe": recipe} | argument_values(data_args, model_args, args) | identity
        values["global_batch_size"] = (
            values["per_device_train_batch_size"] * values["gradient_accumulation_steps"] * args.world_size
        )
        self.values = _as_in_a_file(values)
        changed = args.changed | changed_options(data_args) | changed_options(model_args)
        named = {name: value for name, value in changed.items() if "token" not in name and name != "output_dir"}
        self.changed = _as_in_a_file(named)
        self.removed: Removed | None = None
        self.starts_over = False
        self.moved_data: list[Change] = []
        self.recorded = self.path / ARGS_FILE
        if self.recorded.is_file():
            if args.resume == "never":
                raise ValueError(
                    f"output folder {str(self.path)!r} holds a run and resume is 'never'; choose another with "
                    "--output_dir, or resume with --resume auto"
                )
            self.moved_data = moved_data(self._check_same())
        elif self.path.exists() and any(not file.name.startswith(".") for file in self.path.iterdir()):
            raise ValueError(
                f"output folder {str(self.path)!r} is not empty and holds no run of this package; choose another with "
                "--output_dir"
            )

    @property
    def finished(self) -> bool:
        """Whether the run has ended: its metrics are in metrics.json."""
        return (self.path / METRICS_FILE).is_file()

    @property
    def recorded_data(self) -> str | None:
        """Fingerprint of the data set that the run in the folder was begun with; None if it has not been begun."""
        try:
            return (yaml.safe_load(self.recorded.read_text(encoding="utf-8")) or {}).get(DATA)
        except FileNotFoundError:
            return None

    def resume_without(self, removed: Removed, has_checkpoint: bool) -> None:
        """Let the run resume although images were removed; to be called before it is `owned`.

        Args:
            removed: What has gone.
            has_checkpoint: Whether there is something to resume. If not, the run starts over as a new one.
        """
        self.starts_over = not has_checkpoint
        self.removed = removed if has_checkpoint else None

    def note_data(self, fingerprint: str) -> None:
        """Make the content of the data set part of what the run is."""
        # A run that resumes without removed images keeps the fingerprint that it was begun with.
        self.values[DATA] = fingerprint if self.removed is None else self.recorded_data

    def clear_checkpoints(self) -> None:
        """Remove the checkpoints of a finished run, which then holds no pickle."""
        for checkpoint in checkpoints.checkpoints(self.path):
            shutil.rmtree(checkpoint)

    def check_data(self, fingerprint: Callable[[], str]) -> None:
        """Compare the data set of a finished run, which is only read if its options have changed.

        Raises:
            ValueError: If the run had other data.
        """
        if self.moved_data:
            self.values[DATA] = fingerprint()
            self._check_same()

    def _check_same(self) -> Comparison:
        """Compare the run with the recorded one. Raises ValueError if it is another one."""
        try:
            before = yaml.safe_load(self.recorded.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            before = None
        before = with_terms(before)
        if not isinstance(before, dict):
            raise ValueError(f"{self.recorded} is damaged; restore it, or choose another folder with --output_dir")
        changes = compare(before, self.values, any_data=self.starts_over)
        if changes.differing:
            unknown = moved_data(changes) if DATA not in self.values else []
            differing = sorted([*changes.differing, *changes.length, *unknown], key=lambda each: each.name)
            raise ValueError(
                f"output folder {str(self.path)!r} holds another run; it differs in: "
                f"{'; '.join(map(str, differing))}. Choose another folder with --output_dir"
            )
        if changes.length and self.finished:
            raise ValueError(
                f"the run in {str(self.path)!r} is finished ({'; '.join(map(str, changes.length))}); {self._more}"
            )
        if changes.length:
            check_length(self.path, before, self.args, self.scheduled, self._more)
        return changes

    @property
    def _more(self) -> str:
        """How to train for another length, if this run can't."""
        if self.values["recipe"] == "teacher":
            when = "" if self.finished else "once it is finished, "
            return f"{when}train on with --start_from {self.path} and another --output_dir"
        return "a student of another length is another run: choose another --output_dir"

    @contextlib.contextmanager
    def owned(self, data_fingerprint: str) -> Iterator[str | None]:
        """Context in which no other process writes to the folder; it yields the checkpoint to resume from, or None.

        Args:
            data_fingerprint: Fingerprint of the data set. Other images under the same name make another run.

        Raises:
            ValueError: If processes differ in options or data, another process holds the folder, or the run in it
                had other data.
        """
        self.note_data(data_fingerprint)
        distributed.check_equal({name: value for name, value in self.values.items() if matters(name)})
        lock = FileLock(self.path / ".lock")
        try:
            checkpoint = distributed.on_first_rank(lambda: self._begin(lock))
            if checkpoint is not None and not Path(checkpoint).is_dir():
                raise ValueError(
                    f"{checkpoint} is there for process 0 but not for process {distributed.rank()} on "
                    f"{platform.node()}; give an --output_dir that all machines share"
                )
            yield checkpoint
            if distributed.rank() == 0:
                (self.path / ".lock").unlink(missing_ok=True)
        finally:
            lock.release()

    def _begin(self, lock: FileLock) -> str | None:
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            # Loading workers of a killed run take some seconds to notice, and hold the lock until then.
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise ValueError(
                f"another process is writing to output folder {str(self.path)!r}; wait for it to end, stop it, or "
                "choose another folder with --output_dir"
            ) from None
        if self.finished:
            raise ValueError(f"the run in {str(self.path)!r} has just been finished by another process")
        if self.recorded.is_file():
            changes = self._check_same()
            for each in changes.moved:
                logger.info("%s: the content is the same, so the run goes on", each)
            for each in changes.length:
                logger.info("%s: no step done so far depends on it, so the run goes on", each)
        checkpoints.clear_staging(self.path)
        checkpoint = checkpoints.newest_intact(self.path)
        write_text(self.recorded, yaml.safe_dump(self.values, sort_keys=True))
        return None if checkpoint is None else str(checkpoint)


@contextlib.contextmanager
def no_empty_folders(*folders: Path) -> Iterator[None]:
    """Context that removes folders that were made in it and are empty at its end, with those above them.

    The Trainer makes the output folder when it is built, and a run may be refused after that.
    """
    new = [each for folder in folders for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        for folder in new if distributed.rank() == 0 else ():
            with contextlib.suppress(OSError):  # it was not made, or is not empty
                folder.rmdir()


def _as_in_a_file(values: dict[str, Any]) -> dict[str, Any]:
    """The values as YAML gives them back, to be compared with values read from a file."""
    return yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(values, default=str))))
