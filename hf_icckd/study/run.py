"""One training of a study: its name, what it needs, and the command line that does it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_icckd.losses import parse_objectives
from hf_icckd.options.command_line import option_words

TARGETS = "teacher-targets"  # how the folders with a teacher's recorded outputs begin
ALONE = "alone"  # stands where a teacher's name would, for students without one
_START = re.compile(r"\{teacher (.+)\}")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        pair: Name of the pair of nets.
        teacher: Name of the teacher, or `alone`.
        student: Name of the student; None for the teacher itself.
        seed: Its seed.
        trial: Number of the trial in tuning; None for a run of the study itself.
        options: All options for the recipe but for the output folder; None while trials that decide about them are
            missing.
    """

    pair: str
    teacher: str
    student: str | None
    seed: int
    trial: int | None = None
    options: dict[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Run:
        """The run that a record is of."""
        return cls(*(record[name] for name in ("pair", "teacher", "student", "seed", "trial", "options")))

    @property
    def name(self) -> str:
        """Where its folder is, below that of the study."""
        what = "teacher" if self.student is None else self.student
        return f"{self.pair}/{self.teacher}/seed-{self.seed}/{what}" + (
            "" if self.trial is None else f"-trial-{self.trial}"
        )

    @property
    def recipe(self) -> str:
        """Which recipe trains it; one for nets without a teacher, one for those with."""
        return "teacher" if self.student is None or self.teacher == ALONE else "student"

    @property
    def teacher_run(self) -> Run | None:
        """The run of a student's teacher."""
        return None if self.recipe == "teacher" else Run(self.pair, self.teacher, None, self.seed)

    @property
    def start_run(self) -> Run | None:
        """The run of the teacher that this teacher goes on from."""
        teacher = started_from(self.options or {})
        return None if teacher is None else Run(self.pair, teacher, None, self.seed)

    @property
    def needed_run(self) -> Run | None:
        """The run that has to be there first."""
        return self.teacher_run or self.start_run

    def words(self, runs: str | Path, here: dict[str, Any] | None = None) -> list[str]:
        """Words behind `python -m` that do it.

        Args:
            runs: Folder that holds the folders of all runs.
            here: Options that only say where or how fast it is done on this machine.
        """
        options = self.options | (here or {}) | {"output_dir": str(Path(runs, self.name))}
        if self.start_run is not None:
            options["start_from"] = str(Path(runs, self.start_run.name))
        if self.teacher_run is not None:
            options["teacher"] = str(Path(runs, self.teacher_run.name))
            if options.get("teacher_targets", "live") != "live":
                options["teacher_targets_dir"] = str(self.targets_folder(runs))
        return [f"hf_icckd.{self.recipe}", *option_words(options)]

    def targets_folder(self, runs: str | Path) -> Path:
        """Where its teacher's outputs are recorded, for all students that need the same of it."""
        needed = parse_objectives(self.options.get("objectives", ["kd"])).teacher_outputs
        return Path(runs, self.teacher_run.name).with_name("-".join([TARGETS, *needed]))


def started_from(options: dict[str, Any]) -> str | None:
    """Name of the study's teacher that a teacher goes on from: what `start_from: "{teacher NAME}"` says."""
    found = _START.fullmatch(str(options.get("start_from") or ""))
    return found and found[1]
