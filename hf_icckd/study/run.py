"""One run of a study: its name, the run it depends on, and its command line."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_icckd.losses import parse_objectives
from hf_icckd.options.command_line import option_words
from hf_icckd.options.recipes import defaults

TARGETS = "teacher-targets"  # prefix of the folders with a teacher's recorded outputs
ALONE = "alone"  # takes the place of a teacher's name for students without one
_OPTIMISER = defaults("teacher")["optim"]
_TEACHER = re.compile(r"\{teacher (.+)\}")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        pair: Name of the pair of networks.
        teacher: Name of the teacher, or `alone`.
        student: Name of the student; None for the teacher itself.
        trial: Number of the tuning trial; None for a run of the study itself.
        options: All options of the recipe except the output folder; None while the trials that decide them are
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
        """The run that a record describes."""
        return cls(*(record[name] for name in ("pair", "teacher", "student", "seed", "trial", "options")))

    @property
    def name(self) -> str:
        """Path of its folder below the folder of all runs."""
        what = "teacher" if self.student is None else self.student
        return f"{self.pair}/{self.teacher}/seed-{self.seed}/{what}" + (
            "" if self.trial is None else f"-trial-{self.trial}"
        )

    @property
    def recipe(self) -> str:
        """Recipe that trains it: `teacher` without a teacher, `student` with one, as an assistant has, too."""
        return "teacher" if self.teacher_run is None else "student"

    @property
    def teacher_run(self) -> Run | None:
        """Run of the teacher of a student, or of an assistant."""
        if self.student is None:
            above = taught_by(self.options or {})
            return None if above is None else Run(self.pair, above, None, self.seed)
        return None if self.teacher == ALONE else Run(self.pair, self.teacher, None, self.seed)

    @property
    def start_run(self) -> Run | None:
        """Run of the teacher that this teacher starts from."""
        teacher = started_from(self.options or {})
        return None if teacher is None else Run(self.pair, teacher, None, self.seed)

    @property
    def needed_run(self) -> Run | None:
        """Run that must be finished first."""
        return self.teacher_run or self.start_run

    def words(self, runs: str | Path, here: dict[str, Any] | None = None) -> list[str]:
        """Arguments of `python -m` that do this run.

        Args:
            runs: Folder that holds the folders of all runs.
            here: Options that only say where things are on this machine, or how fast to go.

        Raises:
            ValueError: If its options are not decided yet.
        """
        if self.options is None:
            raise ValueError(f"run {self.name} has no options yet, expected its trials to have ended; run them first")
        # The optimiser is given by name: otherwise a recipe may choose it by the net, and the plan alone is to decide.
        options = {**self.options, "optim": self.options.get("optim", _OPTIMISER)}
        options |= (here or {}) | {"output_dir": str(Path(runs, self.name))}
        if self.start_run is not None:
            options["start_from"] = str(Path(runs, self.start_run.name))
        if self.teacher_run is not None:
            folder = Path(runs, self.teacher_run.name)
            options["teacher"] = str(folder)
            if options.get("teacher_targets", "live") != "live":
                options["teacher_targets_dir"] = str(_targets_folder(folder, options))
        return [f"hf_icckd.{self.recipe}", *option_words(options)]


def _targets_folder(teacher: Path, options: dict[str, Any]) -> Path:
    """Folder of a teacher's recorded outputs, shared by all students that need the same ones."""
    needed = list(parse_objectives(options.get("objectives", ["kd"])).teacher_outputs)
    if options.get("ensemble_with"):
        others = json.dumps([options["ensemble_with"], options.get("ensemble_weights")])
        needed.append(hashlib.sha256(others.encode()).hexdigest()[:8])
    return teacher.with_name("-".join([TARGETS, *needed]))


def started_from(options: dict[str, Any]) -> str | None:
    """Name of the teacher that `start_from: "{teacher NAME}"` refers to, or None."""
    return _named(options.get("start_from"))


def taught_by(options: dict[str, Any]) -> str | None:
    """Name of the teacher that an assistant learns from, `teacher: "{teacher NAME}"`; None for any other teacher."""
    return _named(options.get("teacher"))


def _named(value: Any) -> str | None:
    found = _TEACHER.fullmatch(str(value or ""))
    return None if found is None else found[1]
