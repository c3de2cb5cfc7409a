"""What a study consists of: teachers x students x pairs x seeds, all named before the first run.

Runs follow from the plan and, where a student is tuned, from its trials: the best trial on the validation split
decides the options for the study's seeds. The test split decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hf_icckd.losses import set_term_argument
from hf_icckd.options.recipes import defaults
from hf_icckd.study.parts import Comparison, Student, Sweep
from hf_icckd.study.plan_checks import check_chains, check_folder_names, check_options, check_sweep_option, check_terms
from hf_icckd.study.run import ALONE, TARGETS, Run, taught_by
from hf_icckd.study.terms import as_specs, meaning_of
from hf_icckd.utils.text import suggest


@dataclass
class Plan:
    """A study as its YAML file describes it.

    Attributes:
        title: One line.
        text: What a reader should know: question, prediction, budget.
        seeds: Seeds of the study; every teacher and student runs with each of them.
        options: Options of all runs.
        teacher_options: Options of all teachers.
        student_options: Options of all students.
        pairs: For each pair, the architectures of its `teacher` and `student`.
        teachers: For each teacher, its options. With `teacher: "{teacher NAME}"` it is an assistant, which learns from
            another of them; its options are those of the student recipe, `model` among them.
        students: For each student, how it is distilled.
        alone: Networks of the student's architecture trained without a teacher: their options of the teacher recipe.
        comparison: The primary comparison.
        tuning_seeds: Seeds of the trials; none of them may be a seed of the study.
        trial_options: Options of all trials, such as fewer epochs; what a trial chooses is used without them.
        sweeps: For each sweep, what varies.
        labels: What the report calls a teacher or student.

    Raises:
        ValueError: If parts of the plan contradict each other or the recipes.
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
    trial_options: dict[str, Any] = field(default_factory=dict)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        _check_plan(self)

    # ---- variants

    def sweep_teachers(self, sweep: Sweep) -> dict[Any, str]:
        """Map each value of a sweep to its teacher: one of the study itself where the options are the same."""
        known = {name: self.resolved(options) for name, options in self.teachers.items()}
        names = {}
        for value in sweep.values:
            options = self.resolved(self.swept(sweep, value))
            same = [name for name, other in known.items() if other == options]
            names[value] = same[0] if same else f"{sweep.base},{sweep.option}={value}"
        return names

    def swept(self, sweep: Sweep, value: Any) -> dict[str, Any]:
        """Options of a sweep's teacher."""
        base = self.teachers[sweep.base]
        if "." not in sweep.option:
            return base | {sweep.option: value}
        inherited = defaults("teacher") | self.options | self.teacher_options | base
        return base | {"terms": set_term_argument(as_specs(inherited["terms"]), sweep.option, value)}

    def resolved(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a teacher as its recipe sees them, defaults included; `terms` by their meaning."""
        merged = defaults("teacher") | self.options | self.teacher_options | options
        return merged | {"terms": meaning_of(merged["terms"])}

    def teacher_variants(self) -> dict[str, dict[str, Any]]:
        """Options of all teachers by name, swept ones included."""
        swept = {
            name: self.swept(sweep, value)
            for sweep in self.sweeps.values()
            for value, name in self.sweep_teachers(sweep).items()
            if name not in self.teachers  # a sweep leaves the study's own teachers as they are
        }
        return self.teachers | swept

    def options_of_teacher(self, name: str) -> dict[str, Any]:
        """All options that a teacher is given; an assistant has those of students."""
        own = self.teacher_variants()[name]
        return self.options | (self.student_options if taught_by(own) else self.teacher_options) | own

    # ---- runs

    def teacher(self, pair: str, teacher: str, seed: int) -> Run:
        """Run of a teacher; `{student}` in an option becomes the architecture of the pair's student."""
        nets, options = self.pairs[pair], self.options_of_teacher(teacher)
        options = {"model": nets["teacher"], **_filled(options, nets["student"]), "seed": seed}
        return Run(pair, teacher, None, seed, None, options)

    def trials(self, pair: str, teacher: str, student: str) -> list[list[Run]]:
        """Runs of each trial of a student, one per tuning seed."""
        return [
            [
                self._student(pair, teacher, student, seed, number, self.trial_options | trial)
                for seed in self.tuning_seeds
            ]
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

        Falls back to the first trial if none can be chosen (see `best_trial`). A swept teacher takes the options
        chosen for the sweep's base.

        Args:
            records: Record of each run that ended, by its name.
        """
        if not self.students[student].trials:
            return {}
        if teacher not in self.teachers:
            teacher = next(s.base for s in self.sweeps.values() if teacher in self.sweep_teachers(s).values())
        scores = self.trial_scores(pair, teacher, student, records)
        if scores is None:
            return None
        return self.students[student].trials[best_trial(scores) or 0]

    def trial_scores(
        self, pair: str, teacher: str, student: str, records: dict[str, dict]
    ) -> list[list[float | None]] | None:
        """Top-1 on the validation split of each trial at each tuning seed, None where it diverged.

        Args:
            records: Record of each run that ended, by its name.

        Returns:
            A list per trial, with a value per tuning seed; None while trials are missing.
        """
        trials = self.trials(pair, teacher, student)
        if any(run.name not in records for runs in trials for run in runs):
            return None
        return [
            [records[run.name].get("metrics", {}).get("validation", {}).get("top1") for run in runs] for runs in trials
        ]

    def runs(self, records: dict[str, dict]) -> list[Run]:
        """All runs in the order to do them, each after its teacher.

        Trials come first, then the study seed by seed, so that an unfinished one has complete sets to compare, then
        sweeps.

        Args:
            records: Record of each run that ended, by its name.
        """
        found: dict[str, Run] = {}

        def add(*runs: Run) -> None:
            for run in runs:
                if run.student is None and run.needed_run is not None:
                    add(self.teacher(run.pair, run.needed_run.teacher, run.seed))
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
                    options = {"model": nets["student"], **_filled(self.options | chosen, nets["student"])}
                    add(Run(pair, ALONE, name, seed, None, options | {"seed": seed}))
                for teacher in self.teachers:
                    add_teacher(pair, teacher, seed, list(self.students))
        for sweep in self.sweeps.values():
            for seed in sweep.seeds:
                for pair in self.pairs:
                    for teacher in self.sweep_teachers(sweep).values():
                        add_teacher(pair, teacher, seed, sweep.students)
        return list(found.values())


def _filled(options: dict[str, Any], student: str) -> dict[str, Any]:
    """Options with `{student}` replaced by an architecture, and `terms` as a list."""

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(item) for item in value]
        return value.replace("{student}", student) if isinstance(value, str) else value

    listed = options | {"terms": as_specs(options["terms"])} if "terms" in options else options
    return {name: fill(value) for name, value in listed.items()}


def best_trial(scores: list[list[float | None]]) -> int | None:
    """Number of the trial with the best mean, or None if no trial is left.

    A trial that diverged at a seed is not chosen. A seed at which all trials diverged, for example because their
    teacher did, is ignored.

    Args:
        scores: What `Plan.trial_scores` returns.
    """
    told = [seed for seed in zip(*scores, strict=True) if any(score is not None for score in seed)]
    means = {number: sum(trial) for number, trial in enumerate(zip(*told, strict=True)) if None not in trial}
    return max(means, key=means.__getitem__, default=None)


# ---- checks


def _check_plan(plan: Plan) -> None:
    """Raise ValueError, with a one-line message, if parts of a plan contradict each other or the recipes."""
    _check_names(plan)
    _check_terms(plan)
    check_folder_names(plan.teacher_variants())  # sweep values become part of folder names
    check_chains(plan.teacher_variants(), plan.teachers)
    _check_options(plan)
    _check_seeds(plan)
    _check_trials(plan)


def _check_names(plan: Plan) -> None:
    if not plan.seeds or not plan.pairs or not plan.teachers or not plan.students:
        raise ValueError("a study needs seeds, pairs, teachers and students; one of them is empty")
    if ALONE in plan.teachers:
        raise ValueError(f"a teacher is called {ALONE!r}, which is reserved for students without one; rename it")
    for name in [*plan.students, *plan.alone]:
        if name == "teacher" or name.startswith(TARGETS) or "-trial-" in name:
            raise ValueError(f"a student is called {name!r}, which is reserved for other folders; rename it")
    check_folder_names([*plan.pairs, *plan.teachers, *plan.students, *plan.alone])
    for pair, nets in plan.pairs.items():
        if not isinstance(nets, dict) or nets.keys() != {"teacher", "student"}:
            raise ValueError(f"pair {pair!r} is {nets!r}, expected the architectures of teacher and student")
    comparison = plan.comparison
    asked: list[tuple[str, dict[str, Any]]] = [
        *((name, plan.teachers) for name in (comparison.teacher, comparison.control)),
        *((name, plan.students) for name in (comparison.student, comparison.control_student) if name is not None),
    ]
    for sweep in plan.sweeps.values():
        asked += [(sweep.base, plan.teachers), *((name, plan.students) for name in sweep.students)]
    for name, known in asked:
        if name not in known:
            raise ValueError(f"the study has no {name!r}{suggest(name, known)}; expected one of: {', '.join(known)}")


def _check_terms(plan: Plan) -> None:
    student = next(iter(plan.pairs.values()))["student"]
    groups = {"options": plan.options, "teacher_options": plan.teacher_options} | plan.teachers | plan.alone
    for where, options in groups.items():
        check_terms(where, options, student)
    for name, sweep in plan.sweeps.items():
        check_sweep_option(name, sweep.option)
        try:
            teachers = {teacher: plan.swept(sweep, value) for value, teacher in plan.sweep_teachers(sweep).items()}
        except ValueError as error:  # of an unknown term or argument, or a value that it does not take
            raise ValueError(f"sweep {name!r} is over {sweep.option!r}: {error}") from error
        for teacher, options in teachers.items():
            check_terms(teacher, options, student)


def _check_options(plan: Plan) -> None:
    for recipe in ("teacher", "student"):
        check_options(recipe, "options", plan.options)
    groups = {"teacher_options": plan.teacher_options} | plan.teacher_variants()
    for where, options in (*groups.items(), *plan.alone.items()):
        assistant = taught_by(options) is not None
        if assistant and where not in plan.teachers:
            raise ValueError(
                f"{where} has teacher {options['teacher']!r}, which only entries of teachers may have; assistants "
                "can't be swept: name each of them under teachers"
            )
        own = {name: value for name, value in options.items() if not (assistant and name == "teacher")}
        check_options("student" if assistant else "teacher", where, own)
    check_options("student", "student_options", plan.student_options)
    check_options("student", "trial_options", plan.trial_options)
    for name, student in plan.students.items():
        for options in (student.options, *student.trials):
            check_options("student", name, options)


def _check_seeds(plan: Plan) -> None:
    for name, seeds in (("seeds", plan.seeds), ("tuning_seeds", plan.tuning_seeds)):
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{name} holds one seed twice: {seeds}; expected different ones")
    reported = {*plan.seeds, *(seed for sweep in plan.sweeps.values() for seed in sweep.seeds)}
    both = set(plan.tuning_seeds) & reported
    if both:
        raise ValueError(f"seed {min(both)} is both for tuning and for the study; expected different ones")


def _check_trials(plan: Plan) -> None:
    tuned = {name: len(student.trials) for name, student in plan.students.items() if student.trials}
    if not tuned:
        if plan.trial_options:
            raise ValueError(f"trial_options are {plan.trial_options}, but no student has trials; leave them out")
        return
    first = next(iter(tuned))
    if not plan.tuning_seeds:
        raise ValueError(f"student {first!r} has trials but there are no tuning_seeds; name one or more")
    if not plan.options.get("validation_fraction"):
        raise ValueError(
            f"student {first!r} has trials but there is no validation split to choose by; set validation_fraction in "
            "options"
        )
    if len(set(tuned.values())) > 1:
        raise ValueError(f"students have different numbers of trials ({tuned}), expected the same budget for all")
