"""Records of a study as pandas frames: a row for each run, a column for each metric.

Nothing missing is hidden: metrics that were not measured, and all metrics of runs that diverged, are NaN.
"""

from __future__ import annotations

import pandas as pd

from hf_icckd.metrics.catalogue import METRICS, PROBES, Metric
from hf_icckd.runs.records import machine_of
from hf_icckd.study.parts import Comparison, Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.study.run import ALONE
from hf_icckd.utils.text import suggest

TEACHER = ""  # value of the column `student` for a teacher's own run
_KEYS = ("run", "pair", "teacher", "student", "seed", "trial", "status", "message", "seconds")
_TEXTS = ("run", "pair", "teacher", "student", "status", "message", "machine")
_KNOWN = (
    *(f"{split}.{name}" for split in ("test", "validation", "train") for name in METRICS),
    *(*PROBES, "fine_probe.chance"),
)
COMPARED = METRICS | PROBES  # what a comparison may be about


def column_of(metric: str) -> str:
    """Column of a compared metric."""
    return metric if metric in PROBES else f"test.{metric}"


def metric_in(column: str) -> Metric:
    """What a column of metrics holds, on whichever split."""
    return COMPARED[column if column in PROBES else column.partition(".")[2]]


def check_metric(name: str) -> Metric:
    """The metric of a comparison.

    Raises:
        ValueError: If there is no metric of that name.
    """
    if name not in COMPARED:
        raise ValueError(
            f"comparison.metric is {name!r}{suggest(name, COMPARED)}; expected one of: {', '.join(COMPARED)}"
        )
    return COMPARED[name]


def check_comparison(comparison: Comparison) -> None:
    """Raise ValueError if a comparison's metric is unknown or its smallest effect is missing."""
    check_metric(comparison.metric)
    smallest_effect(comparison)


def smallest_effect(comparison: Comparison) -> float:
    """Smallest difference that matters, in the units of the metric.

    Raises:
        ValueError: If the comparison names none.
    """
    if comparison.smallest_effect is None:
        raise ValueError(
            f"the comparison has no smallest_effect, expected the difference in {comparison.metric} that would "
            "matter; only that in top1 has a default"
        )
    return comparison.smallest_effect


def run_metrics(records: dict[str, dict]) -> pd.DataFrame:
    """One row for each run that ended; metrics of diverged runs are NaN.

    Args:
        records: Record of each run, by its name.

    Returns:
        Columns run, pair, teacher, student (empty for teachers), seed, trial, status, message, seconds, machine (what
        times depend on; None if not recorded), training_seconds, and `<split>.<metric>` for every metric.
        training_seconds is NaN where it can't be compared: for runs on another machine than most, and for resumed
        runs, which only know the seconds of their last session.
    """
    rows = []
    for record in records.values():
        metrics = record.get("metrics") or {}
        values = {
            f"{split}.{name}": value
            for split in ("test", "validation", "train", "fine_probe")
            for name, value in (metrics.get(split) or {}).items()
        }
        row = {key: record.get(key) for key in _KEYS} | {"student": record.get("student") or TEACHER} | values
        environment, training = metrics.get("environment"), metrics.get("training") or {}
        row["machine"] = ", ".join(map(str, machine_of(environment).values())) if environment else None
        if training.get("first_step_of_last_session") == 0:
            row["training_seconds"] = training["seconds_of_last_session"]
        rows.append(row)
    frame = pd.DataFrame(rows)
    known = (*_KEYS, "machine", "training_seconds", *_KNOWN)
    frame = frame.reindex(columns=list(dict.fromkeys([*known, *frame.columns])))
    frame = frame.astype({name: float for name in frame.columns if name not in _TEXTS})
    frame.loc[~frame.machine.isin(frame.machine.mode()[:1]), "training_seconds"] = float("nan")
    return frame


def curves(records: dict[str, dict]) -> pd.DataFrame:
    """One row per evaluation of each run: run, pair, teacher, student, seed, trial, status, epoch and metrics."""
    keys = ("run", "pair", "teacher", "student", "seed", "trial", "status")
    rows = [
        {key: record.get(key) for key in keys} | {"student": record.get("student") or TEACHER} | point
        for record in records.values()
        for point in record.get("curve") or ()
    ]
    return pd.DataFrame(rows, columns=None if rows else [*keys, "epoch"])


def main_runs(plan: Plan, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the study proper: no trials, no tuning seeds, no teachers that belong to a sweep only."""
    alone = (frame.teacher == ALONE) & frame.student.isin(plan.alone)
    taught = frame.teacher.isin(plan.teachers) & frame.student.isin([TEACHER, *plan.students])
    return frame[(alone | taught) & frame.seed.isin(plan.seeds) & _known_pairs(plan, frame)]


def sweep_runs(plan: Plan, sweep: Sweep, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a sweep: its teachers with its seeds, and their students."""
    teachers = frame.teacher.isin(plan.sweep_teachers(sweep).values())
    students = frame.student.isin([TEACHER, *sweep.students])
    return frame[teachers & students & frame.seed.isin(sweep.seeds) & _known_pairs(plan, frame)]


def all_runs(plan: Plan, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the study proper and of its sweeps, without duplicates."""
    parts = [main_runs(plan, frame), *(sweep_runs(plan, sweep, frame) for sweep in plan.sweeps.values())]
    return frame.loc[sorted(set().union(*(part.index for part in parts)))]


def _known_pairs(plan: Plan, frame: pd.DataFrame) -> pd.Series:
    return frame.trial.isna() & frame.pair.isin(plan.pairs)


def arm(frame: pd.DataFrame, teacher: str, student: str, column: str) -> pd.Series:
    """Values of one column by seed, without NaN; the frame must hold a single pair."""
    rows = frame[(frame.teacher == teacher) & (frame.student == student)]
    return rows.set_index("seed")[column].dropna().sort_index()
