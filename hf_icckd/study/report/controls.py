"""Controls of a study: which it has, and whether its control reached the terminal phase."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from hf_icckd.options.recipes import defaults
from hf_icckd.study.plan import Plan
from hf_icckd.study.report.cells import escape, label, number, table
from hf_icckd.study.report.frames import TEACHER, main_runs
from hf_icckd.study.run import taught_by

TERMINAL_TOP1 = 99.0  # top-1 on the training split (%) at which the terminal phase begins
MIN_SEEDS = 5
_DEFAULTS = defaults("student") | defaults("teacher")


def option(options: dict[str, Any], name: str) -> Any:
    """Value of an option, or its default."""
    return options.get(name, _DEFAULTS[name])


def teacher_options(plan: Plan, teacher: str) -> dict[str, Any]:
    """All options that a plan gives a teacher."""
    return plan.options_of_teacher(teacher)


def keeps_best(plan: Plan) -> bool:
    """Whether any run of a plan keeps the epoch that is best on the validation split."""
    students = [each for student in plan.students.values() for each in (student.options, *student.trials)]
    of_all = (plan.options, plan.teacher_options, plan.student_options)
    given = [*of_all, *plan.teacher_variants().values(), *students, *plan.alone.values()]
    return any(options.get("load_best_model_at_end") for options in given)


def gate_pairs(plan: Plan) -> list[tuple[str, str]]:
    """Pairs of teachers, with and without the gate, that differ in nothing else."""
    variants = {name: plan.resolved(options) for name, options in plan.teacher_variants().items()}
    found = []
    for name, options in variants.items():
        term = options["terms"].get("intra_class")
        if term and not term["gate"]:
            gated = options | {"terms": options["terms"] | {"intra_class": term | {"gate": True}}}
            same = [other for other in variants if variants[other] == gated]
            found += [(same[0], name)] if same else []
    return found


def controls_table(plan: Plan, frame: pd.DataFrame) -> str:
    """The controls without which a gain means nothing, and whether the study has them."""
    options = {name: plan.resolved(own) for name, own in plan.teachers.items() if taught_by(own) is None}
    claimed = plan.resolved(plan.teachers[plan.comparison.teacher])
    plain = {
        name: each
        for name, each in options.items()
        if not each["terms"] and not each["label_smoothing"] and not each["start_from"]
    }
    length = claimed["num_train_epochs"]
    of_teachers = {
        "cross-entropy on the same two views, same steps, same schedule": [
            name for name, each in plain.items() if each == claimed | {"terms": {}}
        ],
        "cross-entropy on one view for twice the epochs (the same compute)": [
            name for name, each in plain.items() if each["num_views"] == 1 and each["num_train_epochs"] == 2 * length
        ],
        "label smoothing": [
            name for name, each in options.items() if each["label_smoothing"] and "intra_class" not in each["terms"]
        ],
        "early-stopped cross-entropy teacher": [
            name for name, each in plain.items() if each["num_train_epochs"] < length
        ],
        "SFTN-style teacher": [name for name, each in options.items() if "sftn" in each["terms"]],
    }
    # Two students of one teacher share what these are about.
    found = {} if plan.comparison.of_students else of_teachers
    rows = [[what, _mark(names), _done(plan, frame, names)] for what, names in found.items()]
    trials = len(plan.students[plan.comparison.student].trials)
    validation = option(plan.options | plan.student_options, "validation_fraction")
    tuned = trials > 0 and validation > 0
    rows += [
        ["student tuned on a validation split", _mark(tuned), f"{trials} trials for each teacher" if tuned else ""],
        *([["control in the terminal phase", *_terminal(plan, frame)]] if found else []),
        [f"at least {MIN_SEEDS} seeds, paired", _mark(len(plan.seeds) >= MIN_SEEDS), f"{len(plan.seeds)} planned"],
        _which_epoch(plan),
    ]
    return table(["control", "in the study", "which"], rows, left=3)


def _which_epoch(plan: Plan) -> list[str]:
    if keeps_best(plan):
        return ["never the best epoch on test data", _mark(True), "the trainers choose on a validation split only"]
    return ["last epoch, never the best on test data", _mark(True), "the trainers keep no other"]


def _mark(found: Any) -> str:
    return "✓" if found else "not in this study"


def _done(plan: Plan, frame: pd.DataFrame, names: list[str]) -> str:
    rows = main_runs(plan, frame)
    rows = rows[(rows.student == TEACHER) & (rows.status == "finished")]
    planned = len(plan.seeds) * len(plan.pairs)
    return "; ".join(f"{label(plan, name)}, {(rows.teacher == name).sum()} of {planned} trained" for name in names)


def terminal_phase(plan: Plan, frame: pd.DataFrame, pair: str) -> tuple[float, float]:
    """Mean top-1 (%) and NC1 of the control on the training split; NaN if not measured."""
    rows = main_runs(plan, frame)
    rows = rows[(rows.pair == pair) & (rows.teacher == plan.comparison.control) & (rows.student == TEACHER)]
    return rows["train.top1"].mean(), rows["train.nc1"].mean()


def _terminal(plan: Plan, frame: pd.DataFrame) -> list[str]:
    found = {pair: terminal_phase(plan, frame, pair) for pair in plan.pairs}
    notes = [
        f"{escape(pair)}: train top-1 {number(top1, 2)} %, NC1 {number(nc1, 3)}"
        for pair, (top1, nc1) in found.items()
        if not math.isnan(top1)
    ]
    if len(notes) < len(found):
        return ["not measured yet", "; ".join(notes)]
    reached = all(top1 >= TERMINAL_TOP1 for top1, _ in found.values())
    return ["✓" if reached else "not reached", "; ".join(notes)]
