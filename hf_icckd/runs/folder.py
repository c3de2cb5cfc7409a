"""The output folder of a run: which run it belongs to, what is in it, and a lock for whoever writes to it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from transformers import TrainingArguments

from hf_icckd.options.checks import changed_options, default_of
from hf_icckd.options.command_line import argument_values
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.recipes import StudentModelArguments, TeacherModelArguments
from hf_icckd.options.renamed import with_terms
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.runs import checkpoints
from hf_icckd.runs.images import Removed
from hf_icckd.runs.layout import ARGS_FILE, METRICS_FILE
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import user_path, write_text

_LOCK_SECONDS = 10
# Options that don't change what a run computes: a resume may change them.
_FREE_OPTIONS = {
    "accept_teacher",
    "allow_leakage",
    "bad_images",  # the images are compared instead
    "control",
    "disable_tqdm",
    "license",
    "local_rank",
    "num_threads",
    "output_dir",
    "per_device_eval_batch_size",
    "per_device_train_batch_size",  # the global batch size is compared instead
    "project",
    "push_to_hub",
    "rehearsal",
    "report_to",
    "resident_max_bytes",
    "resume",
    "resume_from_checkpoint",
    "run_name",
    "teacher_targets",  # whether they were recorded is compared instead
    "teacher_targets_dir",
    "use_cpu",
}
_FOLDERS = {"dataset", "labels", "label_groups"}  # whose path may be spelled in another way
_FREE_PREFIXES = ("accelerator_", "dataloader_", "ddp_", "eval_", "hub_", "log_", "logging_", "save_", "trackio_")


class RunFolder:
    """The output folder of one run: new, begun or finished.

    Args:
        recipe: `teacher` or `student`.
        args: Options of the trainer, with the folder.
        data_args: Options of the data.
        model_args: Options of the model.
        **identity: Further values that tell this run from others.

    Attributes:
        values: All options, as all_args.yaml holds them.
        changed: Options that differ from their defaults, without the folder.
        removed: Images that have gone since the run was begun, if it resumes without them.
        starts_over: Whether the run, which has no checkpoint, starts over with the remaining images.

    Raises:
        ValueError: If the folder holds another run, or files of something else.
    """

    def __init__(
        self,
        recipe: str,
        args: DistillationTrainingArguments,
        data_args: TrainingDataArguments,
        model_args: TeacherModelArguments | StudentModelArguments,
        **identity: Any,
    ):
        self.path = Path(args.output_dir)
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
        self.recorded = self.path / ARGS_FILE
        if self.recorded.is_file():
            if args.resume == "never":
                raise ValueError(
                    f"output folder {str(self.path)!r} holds a run and resume is 'never'; choose another with "
                    "--output_dir, delete this one, or resume with --resume auto"
                )
            self._check_same()
        elif self.path.exists() and any(not file.name.startswith(".") for file in self.path.iterdir()):
            raise ValueError(
                f"output folder {str(self.path)!r} is not empty and holds no run of this package; choose another with "
                "--output_dir, or empty it"
            )

    @property
    def finished(self) -> bool:
        """Whether the run has ended: its metrics are in metrics.json."""
        return (self.path / METRICS_FILE).is_file()

    @property
    def recorded_data(self) -> str | None:
        """Fingerprint of the data set that the run in the folder was begun with; None if it has not been begun."""
        try:
            return (yaml.safe_load(self.recorded.read_text(encoding="utf-8")) or {}).get("data_fingerprint")
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

    def clear_checkpoints(self) -> None:
        """Remove the checkpoints of a finished run, which then holds no pickle."""
        for checkpoint in checkpoints.checkpoints(self.path):
            shutil.rmtree(checkpoint)

    def _check_same(self) -> None:
        try:
            before = yaml.safe_load(self.recorded.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            before = None
        before = with_terms(before)
        if not isinstance(before, dict):
            raise ValueError(f"{self.recorded} is damaged; delete the folder, or choose another with --output_dir")
        # Another version of transformers may have other options: those are no difference.
        theirs = {each.name for each in dataclasses.fields(TrainingArguments)}
        names = sorted(filter(_matters, (before.keys() & self.values.keys()) | (self.values.keys() - theirs)))
        # An option of the data that an earlier version did not have was at its default.
        known = {each.name: default_of(each) for each in dataclasses.fields(TrainingDataArguments)} | before
        differing = [
            f"{name} {known.get(name)!r} -> {self.values.get(name)!r}"
            for name in names
            if known.get(name) != self.values.get(name)
            and not (name == "data_fingerprint" and self.starts_over)
            and not (name in _FOLDERS and _same_place(known.get(name), self.values.get(name)))
        ]
        if differing:
            raise ValueError(
                f"output folder {str(self.path)!r} holds another run; it differs in: {'; '.join(differing)}. Choose "
                "another folder with --output_dir, or delete this one"
            )

    @contextlib.contextmanager
    def owned(self, data_fingerprint: str) -> Iterator[str | None]:
        """Context in which no other process writes to the folder; it yields the checkpoint to resume from, or None.

        Args:
            data_fingerprint: Fingerprint of the data set. Other images under the same name make another run.

        Raises:
            ValueError: If processes differ in options or data, another process holds the folder, or the run in it
                had other data.
        """
        # A run that resumes without removed images keeps the fingerprint that it was begun with.
        self.values["data_fingerprint"] = data_fingerprint if self.removed is None else self.recorded_data
        distributed.check_equal({name: value for name, value in self.values.items() if _matters(name)})
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
            self._check_same()
        checkpoints.clear_staging(self.path)
        checkpoint = checkpoints.newest_intact(self.path)
        write_text(self.recorded, yaml.safe_dump(self.values, sort_keys=True))
        return None if checkpoint is None else str(checkpoint)


def _as_in_a_file(values: dict[str, Any]) -> dict[str, Any]:
    """The values as YAML gives them back, to be compared with values read from a file."""
    return yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(values, default=str))))


def _same_place(first: Any, second: Any) -> bool:
    """Whether two paths name one file or folder, as a relative and an absolute one may."""
    if not isinstance(first, str) or not isinstance(second, str):
        return False
    one, other = user_path(first), user_path(second)
    return one.exists() and other.exists() and one.samefile(other)


def _matters(name: str) -> bool:
    return name not in _FREE_OPTIONS and not name.startswith(_FREE_PREFIXES)
