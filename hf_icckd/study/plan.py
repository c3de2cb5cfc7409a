"""What a study consists of: teachers x students x pairs x seeds, named before anything is run.

Runs are derived from the plan and, where a student is tuned, from the figures of the trials: the best trial on the
validation split decides the options that the seeds of the study use. The test split decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hf_icckd.options.data import DataArguments
from hf_icckd.options.recipes import defaults
from hf_icckd.study.run import ALONE, TARGETS, Run, started_from
from hf_icckd.utils.text import suggest

_DATA_OPTIONS = {each.name for each in dataclasses.fields(DataArguments)}
_OF_THE_STUDY = {"seed", "output_dir", "teacher", "teacher_targets_dir", "num_threads", "disable_tqdm"}


@dataclass
class Student:
    """A way to distil.

    Attributes:
        options: Options of the student recipe.
        trials: Options to choose from on the validation split, added to those; empty if nothing is tuned.
    """

    options: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Sweep:
    """Teachers that differ in one option.

    Attributes:
        base: Teacher whose options the others are.
        option: The option.
        values: Its values; of an option that takes lists, teachers are named under `teachers` instead.
        seeds: Seeds of these teachers and their students.
        students: Names of the students each of them gets.
        title: What the option is called in the report.
    """

    base: str
    option: str
    values: list[str | float | bool]
    seeds: list[int]
    students: list[str]
    title: str | None = None


@dataclass
class Comparison:
    """The one comparison that was named beforehand; p of all others is corrected for their number.

    Attributes:
        teacher: Name of the teacher that is claimed to be better.
        control: Name of the teacher it is compared with.
        student: Name of the student whose figure counts.
        metric: The figure, on the test split.
        smallest_effect: Difference below which nobody should care, in the figure's units; 0.5 points of top-1 if left
            out.
    """

    teacher: str
    control: str
    student: str
    metric: str = "top1"
    smallest_effect: float | None = None

    def __post_init__(self):
        if self.smallest_effect is None and self.metric == "top1":
            self.smallest_effect = 0.5


@dataclass
class Plan:
    """A study, as its YAML file says.

    Attributes:
        title: One line.
        text: What a reader should know: question, prediction, budget.
        seeds: Seeds of the study; every teacher and student runs with each of them.
        options: Options of all runs.
        teacher_options: Options of all teachers.
        student_options: Options of all students.
        pairs: Name of a pair to the architectures of its `teacher` and `student`.
        teachers: Name of a teacher to its options.
        students: Name of a student to what it is.
        alone: Name to options of the teacher recipe: nets of the student's architecture that have no teacher.
        comparison: The primary comparison.
        tuning_seeds: Seeds of the trials, none of them a seed of the study.
        sweeps: Name to sweep.
        labels: Name of a teacher or student to what it is called in the report.
    """

    title: str
    seeds: list[int]
    pairs: dict[str, dict[str, str]]
    teachers: dict[str, dict[str, Any]]
    students: dict[str, Student]
    comparison: Comparison
    text: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    teacher_options: dict[str, Any] = field(default_factory=dict)
    student_options: dict[str, Any] = field(default_factory=dict)
    alone: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuning_seeds: list[int] = field(default_factory=list)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self._check_names()
        self._check_options()
        for name, seeds in (("seeds", self.seeds), ("tuning_seeds", self.tuning_seeds)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{name} holds one seed twice: {seeds}; expected different ones")
        tuned = [name for name, student in self.students.items() if student.trials]
        if tuned and not self.tuning_seeds:
            raise ValueError(f"student {tuned[0]!r} has trials but there are no tuning_seeds; name one or more")
        if tuned and not self.options.get("validation_fraction"):
            raise ValueError(
                f"student {tuned[0]!r} has trials but there is no validation split to choose by; set "
                "validation_fraction in options"
            )
        reported = {*self.seeds, *(seed for sweep in self.sweeps.values() for seed in sweep.seeds)}
        both = set(self.tuning_seeds) & reported
        if both:
            raise ValueError(f"seed {min(both)} is both for tuning and for the study; expected different ones")
        lengths = {name: len(self.students[name].trials) for name in tuned}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"students have different numbers of trials ({lengths}), expected the same budget for all"
            )

    def _check_names(self) -> None:
        if not self.seeds or not self.pairs or not self.teachers or not self.students:
            raise ValueError("a study needs seeds, pairs, teachers and students; one of them is empty")
        if ALONE in self.teachers:
            raise ValueError(f"a teacher is called {ALONE!r}, which is kept for students without one; rename it")
        for name in [*self.students, *self.alone]:
            if name == "teacher" or name.startswith(TARGETS) or "-trial-" in name:
                raise ValueError(f"a student is called {name!r}, which is kept for other folders; rename it")
        _check_folder_names([*self.pairs, *self.teachers, *self.students, *self.alone])
        for pair, nets in self.pairs.items():
            if not isinstance(nets, dict) or nets.keys() != {"teacher", "student"}:
                raise ValueError(f"pair {pair!r} is {nets!r}, expected the architectures of teacher and student")
        asked = [(self.comparison.teacher, self.teachers), (self.comparison.control, self.teachers)]
        asked += [(self.comparison.student, self.students)]
        for sweep in self.sweeps.values():
            asked += [(sweep.base, self.teachers), *((name, self.students) for name in sweep.students)]
        for name, known in asked:
            if name not in known:
                raise ValueError(
                    f"the study has no {name!r}{suggest(name, known)}; expected one of: {', '.join(known)}"
                )
        for name, options in self.teacher_variants().items():
            start = started_from(options)
            if start is not None and (start not in self.teachers or started_from(self.teachers[start])):
                raise ValueError(
                    f"teacher {name!r} goes on from {start!r}{suggest(start, self.teachers)}, expected one of the "
                    "study's teachers that does not go on from another"
                )
        if self.comparison.teacher == self.comparison.control:
            raise ValueError(f"the comparison is of {self.comparison.control!r} with itself; expected two teachers")
        if self.comparison.smallest_effect is not None and not self.comparison.smallest_effect > 0:
            raise ValueError(
                f"smallest_effect is {self.comparison.smallest_effect}, expected a number above 0: a difference that "
                "would matter"
            )
        _check_folder_names(self.teacher_variants())  # a sweep's are made of its values

    def _check_options(self) -> None:
        """Options are those of the recipes, and those of the data the same for all: else splits would differ."""
        teachers = [("teacher_options", self.teacher_options), *self.teacher_variants().items(), *self.alone.items()]
        students = [("student_options", self.student_options)]
        for name, student in self.students.items():
            students += [(name, options) for options in (student.options, *student.trials)]
        for recipe, groups in (("teacher", teachers), ("student", students)):
            known = defaults(recipe)
            for where, options in [("options", self.options), *groups]:
                for name in options:
                    if name not in known:
                        close = suggest(name, known)
                        raise ValueError(f"{where} has {name!r}{close}, which is no option of the {recipe} recipe")
                    if name in _OF_THE_STUDY:
                        raise ValueError(f"{where} has {name!r}, which the study itself sets; leave it out")
                    if isinstance(options[name], str) and isinstance(known[name], (int, float)):  # or bool
                        raise ValueError(
                            f"{where} has {name} {options[name]!r}, which is text, expected a value such as "
                            f"{known[name]}, without quotes"
                        )
                    if name in _DATA_OPTIONS and where != "options":
                        raise ValueError(f"{where} has {name!r}, which must be the same for all; put it into options")

    # ---- variants

    def sweep_teachers(self, sweep: Sweep) -> dict[Any, str]:
        """Value of the option to the name of the teacher; one of the study itself where the options are the same."""
        names = {}
        for value in sweep.values:
            options = self._resolved(self.teachers[sweep.base] | {sweep.option: value})
            same = [name for name, other in self.teachers.items() if self._resolved(other) == options]
            names[value] = same[0] if same else f"{sweep.base},{sweep.option}={value}"
        return names

    def _resolved(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a teacher as its recipe sees them, defaults too."""
        return defaults("teacher") | self.options | self.teacher_options | options

    def teacher_variants(self) -> dict[str, dict[str, Any]]:
        """Options of all teachers by name, those of the sweeps too."""
        swept = {
            name: self.teachers[sweep.base] | {sweep.option: value}
            for sweep in self.sweeps.values()
            for value, name in self.sweep_teachers(sweep).items()
            if name not in self.teachers  # whose options a sweep must not touch
        }
        return self.teachers | swept

    # ---- runs

    def teacher(self, pair: str, teacher: str, seed: int) -> Run:
        """The run of a teacher; `{student}` in an option stands for the architecture of the pair's student."""
        nets = self.pairs[pair]
        options = self.options | self.teacher_options | self.teacher_variants()[teacher]
        options = {name: nets["student"] if value == "{student}" else value for name, value in options.items()}
        return Run(pair, teacher, None, seed, None, {"model": nets["teacher"], **options, "seed": seed})

    def trials(self, pair: str, teacher: str, student: str) -> list[list[Run]]:
        """Runs of each trial of a student, one for each tuning seed."""
        return [
            [self._student(pair, teacher, student, seed, number, trial) for seed in self.tuning_seeds]
            for number, trial in enumerate(self.students[student].trials)
        ]

    def _student(
        self, pair: str, teacher: str, student: str, seed: int, trial: int | None, chosen: dict[str, Any] | None
    ) -> Run:
        options = None
        if chosen is not None:
            options = {"model": self.pairs[pair]["student"], **self.options, **self.student_options}
            options |= self.students[student].options | chosen | {"seed": seed}
        return Run(pair, teacher, student, seed, trial, options)

    def chosen(self, pair: str, teacher: str, student: str, records: dict[str, dict]) -> dict[str, Any] | None:
        """Options of the best trial by mean top-1 on the validation split; None while trials are missing.

        The first trial's where none could be chosen (`best_trial`). A teacher that is in a sweep only takes those of
        the sweep's base.

        Args:
            pair: Name of the pair.
            teacher: Name of the teacher.
            student: Name of the student.
            records: Record of each run that ended, by its name.
        """
        if not self.students[student].trials:
            return {}
        if teacher not in self.teachers:
            teacher = next(s.base for s in self.sweeps.values() if teacher in self.sweep_teachers(s).values())
        figures = self.trial_figures(pair, teacher, student, records)
        if figures is None:
            return None
        return self.students[student].trials[best_trial(figures) or 0]

    def trial_figures(
        self, pair: str, teacher: str, student: str, records: dict[str, dict]
    ) -> list[list[float | None]] | None:
        """Top-1 on the validation split of each trial at each tuning seed, None where it diverged.

        Arguments as of `chosen`; None while trials are missing.
        """
        trials = self.trials(pair, teacher, student)
        if any(run.name not in records for runs in trials for run in runs):
            return None
        return [
            [records[run.name].get("metrics", {}).get("validation", {}).get("top1") for run in runs] for runs in trials
        ]

    def runs(self, records: dict[str, dict]) -> list[Run]:
        """All runs in the order in which they should be done, each after its teacher.

        Trials come first; then seed by seed, so that an unfinished study has whole sets to compare; then sweeps.

        Args:
            records: Record of each run that ended, by its name.
        """
        found: dict[str, Run] = {}

        def add(*runs: Run) -> None:
            for run in runs:
                if run.start_run is not None:
                    add(self.teacher(run.pair, run.start_run.teacher, run.seed))
                found.setdefault(run.name, run)

        def add_teacher(pair: str, teacher: str, seed: int, students: list[str]) -> None:
            add(self.teacher(pair, teacher, seed))
            for student in students:
                chosen = self.chosen(pair, teacher, student, records)
                add(self._student(pair, teacher, student, seed, None, chosen))

        tuned = [name for name, student in self.students.items() if student.trials]
        for pair in self.pairs:
            for teacher in self.teachers if tuned else ():
                for seed in self.tuning_seeds:
                    add(self.teacher(pair, teacher, seed))
                for student in tuned:
                    add(*(run for runs in self.trials(pair, teacher, student) for run in runs))
        for seed in self.seeds:
            for pair, nets in self.pairs.items():
                for name, chosen in self.alone.items():
                    options = {"model": nets["student"], **self.options, **chosen}
                    add(Run(pair, ALONE, name, seed, None, options | {"seed": seed}))
                for teacher in self.teachers:
                    add_teacher(pair, teacher, seed, list(self.students))
        for sweep in self.sweeps.values():
            for seed in sweep.seeds:
                for pair in self.pairs:
                    for teacher in self.sweep_teachers(sweep).values():
                        add_teacher(pair, teacher, seed, sweep.students)
        return list(found.values())


def best_trial(figures: list[list[float | None]]) -> int | None:
    """Number of the trial with the best mean.

    A trial that diverged at a seed is not chosen; a seed at which all did, as where their teacher did, says nothing.

    Args:
        figures: What `Plan.trial_figures` returns.

    Returns:
        Its number, or None where no trial is left.
    """
    told = [seed for seed in zip(*figures, strict=True) if any(figure is not None for figure in seed)]
    means = {number: sum(trial) for number, trial in enumerate(zip(*told, strict=True)) if None not in trial}
    return max(means, key=means.get, default=None)


def _check_folder_names(names: Iterable[str]) -> None:
    for name in names:
        if not name or name.startswith(".") or "/" in name:
            raise ValueError(f"name {name!r} can't be that of a folder; choose one without / and leading dots")
