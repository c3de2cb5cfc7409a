"""Results of a study as Markdown tables; a cell holds mean ± sd, a single value, or a dash."""

from __future__ import annotations

import math

import pandas as pd

from hf_icckd.metrics.catalogue import INFORMATION, METRICS, PROBES
from hf_icckd.study.parts import Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.study.report.cells import (
    ABSENT,
    escape,
    interval,
    label,
    number,
    probability,
    signed,
    table,
    value_label,
)
from hf_icckd.study.report.frames import COMPARED, TEACHER, arm, column_of, sweep_runs
from hf_icckd.study.report.statistics import (
    difference,
    family_column,
    gains,
    partial_rank_correlation,
    rank_correlation,
    sides,
    summary,
)
from hf_icckd.study.run import ALONE

_ON_TRAINING_IMAGES = (
    *("nc1", "unread_variance", "unread_variance_graded"),
    *("soft_label_information", "soft_label_information_matched"),
)
_LATER = ("fine", "train.unread")  # begins columns that not all studies have
_SWEPT = ("test.distance_ratio", "train.unread_variance", "train.unread_variance_graded")  # in tables of sweeps
_TEACHER_METRICS = (
    ("test.top1", f"test {METRICS['top1'].title}", METRICS["top1"].decimals),
    ("train.top1", f"train {METRICS['top1'].title}", METRICS["top1"].decimals),
    *((f"train.{name}", f"{METRICS[name].name}, train", METRICS[name].decimals) for name in _ON_TRAINING_IMAGES),
    *(
        (f"test.{name}", METRICS[name].name, METRICS[name].decimals)
        for name in ("distance_ratio", *INFORMATION, "mean_entropy")
    ),
    *((name, metric.title, metric.decimals) for name, metric in PROBES.items()),
    ("training_seconds", "seconds", 0),
)


# ---- cells


def spread(found: pd.DataFrame, key: tuple[str, str, str], decimals: int, with_n: bool = True) -> str:
    """Mean ± sd (n, number diverged) of one row of `summary`."""
    if key not in found.index:
        return ABSENT
    row = found.loc[key]
    text = number(row["mean"], decimals) + ("" if math.isnan(row.sd) else f" ± {row.sd:.{decimals}f}")
    diverged = f"{row.diverged:.0f} diverged" if row.diverged else ""
    notes = [f"{row.n:.0f}", diverged] if with_n else []
    notes = [note for note in notes if note]
    return f"{text} ({', '.join(notes)})" if notes else text


# ---- tables


def students_table(plan: Plan, frame: pd.DataFrame, pair: str, name: str) -> str:
    """A metric: a row for each teacher, a column for each student; below, the networks trained without a teacher."""
    metric, found = COMPARED[name], summary(frame, column_of(name))
    header = [f"{metric.title}, test", *(label(plan, student) for student in plan.students)]
    rows = [
        [label(plan, teacher), *(spread(found, (pair, teacher, name), metric.decimals) for name in plan.students)]
        for teacher in plan.teachers
    ]
    text = table(header, rows)
    if plan.alone:
        alone = [[label(plan, name), spread(found, (pair, ALONE, name), metric.decimals)] for name in plan.alone]
        text += "\n\n" + table(["without a teacher", f"{metric.title}, test"], alone)
    return text


def further_metrics(plan: Plan, frame: pd.DataFrame) -> list[str]:
    """What is told of students beside the metric that is compared: accuracy, and probes for finer classes."""
    students = frame[frame.student != TEACHER]
    names = [name for name in ("top1", *PROBES) if name != plan.comparison.metric]
    return [name for name in names if students[column_of(name)].notna().any()]


def further_differences_table(plan: Plan, frame: pd.DataFrame, pair: str) -> str:
    """Paired differences of students in `further_metrics`, with uncorrected 95 % intervals."""
    of_pair, names = frame[frame.pair == pair], further_metrics(plan, frame)
    rows = []
    for side, control, _ in sides(plan):
        columns = [(column_of(name), COMPARED[name].decimals) for name in names]
        cells = [_paired(of_pair, side, control, *column) for column in columns]
        rows.append([label(plan, side[1]), label(plan, side[0]), *cells])
    return table(["student", "teacher", *(COMPARED[name].title for name in names)], rows, left=2)


def differences_table(plan: Plan, found: pd.DataFrame, pair: str, family: str) -> str:
    """Paired differences from the control, for one of `family_names`."""
    decimals = COMPARED[plan.comparison.metric].decimals
    column = family_column(plan)
    shown = "teacher" if column == "student" else "student"
    header = [shown, "what it says", "difference", "95 % interval", "pairs", "p", "Holm p", "seeds needed"]
    rows = []
    for row in found[(found.pair == pair) & (found[column] == family)].itertuples():
        diverged = f", {row.diverged} diverged" if row.diverged else ""
        name = label(plan, getattr(row, shown))
        rows.append(
            [
                f"**{name}** (primary)" if row.primary else name,
                row.verdict,
                signed(row.mean, decimals),
                interval(row.low, row.high, decimals),
                f"{row.n}{diverged}",
                probability(row.p),
                "not corrected" if row.primary else probability(row.holm),
                number(row.seeds_needed, 0),
            ]
        )
    return table(header, rows, left=2)


def teachers_table(plan: Plan, frame: pd.DataFrame, pair: str) -> str:
    """Accuracy, geometry and soft labels of each teacher."""
    columns = _teacher_columns(frame)
    found = {column: summary(frame, column) for column, _, _ in columns}
    rows = []
    for teacher in plan.teachers:
        key = (pair, teacher, TEACHER)
        runs = found["test.top1"]
        runs = runs.loc[key] if key in runs.index else {"n": 0, "diverged": 0}
        diverged = f", {runs['diverged']:.0f} diverged" if runs["diverged"] else ""
        cells = []
        for column, _, decimals in columns:
            fewer = runs["n"] > 0 and 0 < found[column].loc[key].n < runs["n"]
            cells.append(spread(found[column], key, decimals, with_n=fewer))
        rows.append([label(plan, teacher), f"{runs['n']:.0f}{diverged}", *cells])
    return table(["teacher", "n", *(title for _, title, _ in columns)], rows)


def _teacher_columns(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Column, title and decimals of what is shown of teachers; later metrics only where they were measured."""
    return [each for each in _TEACHER_METRICS if frame[each[0]].notna().any() or not each[0].startswith(_LATER)]


def teacher_differences_table(plan: Plan, frame: pd.DataFrame, pair: str) -> str:
    """Paired differences of each teacher from the control, with uncorrected 95 % intervals."""
    of_pair = frame[frame.pair == pair]
    columns = [each for each in _TEACHER_METRICS if of_pair[each[0]].notna().any() and each[0] != "training_seconds"]
    rows = []
    for teacher in (name for name in plan.teachers if name != plan.comparison.control):
        cells = []
        for column, _, decimals in columns:
            control = plan.comparison.control, TEACHER
            cells.append(_paired(of_pair, (teacher, TEACHER), control, column, decimals))
        rows.append([label(plan, teacher), *cells])
    return table(["teacher", *(title for _, title, _ in columns)], rows)


def _paired(of_pair: pd.DataFrame, side: tuple[str, str], control: tuple[str, str], column: str, decimals: int) -> str:
    """Difference of two arms, each a teacher and a student, with its interval where it has one."""
    found = difference(arm(of_pair, *side, column), arm(of_pair, *control, column))
    ends = "" if math.isnan(found["low"]) else f" ({interval(found['low'], found['high'], decimals)})"
    return f"{signed(found['mean'], decimals)}{ends}"


def sweep_table(plan: Plan, frame: pd.DataFrame, pair: str, sweep: Sweep) -> str:
    """Teacher and students at each value of a sweep."""
    rows = sweep_runs(plan, sweep, frame)
    top1, accuracy = summary(rows, "test.top1"), METRICS["top1"]
    geometry = [each for each in _teacher_columns(rows) if each[0] in _SWEPT]
    found = {column: summary(rows, column) for column, _, _ in geometry}
    header = [escape(sweep.title or sweep.option), f"teacher, {accuracy.title}", *(title for _, title, _ in geometry)]
    header += [f"{label(plan, student)}, {accuracy.title}" for student in sweep.students]
    lines = []
    for value, teacher in plan.sweep_teachers(sweep).items():
        key = (pair, teacher, TEACHER)
        of_teacher = [spread(found[column], key, decimals, with_n=False) for column, _, decimals in geometry]
        students = [spread(top1, (pair, teacher, student), accuracy.decimals) for student in sweep.students]
        lines.append([escape(value_label(value)), spread(top1, key, accuracy.decimals), *of_teacher, *students])
    return table(header, lines)


def correlations_table(plan: Plan, frame: pd.DataFrame, pair: str) -> str:
    """Spearman's correlation of a student's metric, and of its gain over the control, with its teacher's metrics.

    Information falls as accuracy rises, so each correlation has a partial one beside it, at equal accuracy.
    """
    metric = plan.comparison.metric
    points = gains(frame, plan.comparison.control, column_of(metric))
    points = points[points.pair == pair]
    rows = []
    for student in plan.students:
        of_student = points[points.student == student]
        for name in ("top1", *INFORMATION):
            cells = []
            of_teacher, accuracy = of_student[f"teacher.test.{name}"], of_student["teacher.test.top1"]
            for column in ("value", "gain"):
                found = rank_correlation(of_teacher, of_student[column])
                ends = f" ({found['low']:.2f} to {found['high']:.2f})" if not math.isnan(found["low"]) else ""
                partial = partial_rank_correlation(of_teacher, of_student[column], accuracy)
                cells += [f"{number(found['rho'], 2)}{ends}", number(partial, 2), str(found["n"])]
            rows.append([label(plan, student), METRICS[name].title, *cells])
    title = COMPARED[metric].title
    columns = [f"with the student's {title}", "partial", "n", "with its gain", "partial", "n"]
    return table(["student", "teacher's", *columns], rows, left=2)
