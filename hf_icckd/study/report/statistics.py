"""Statistics of a study: means, paired differences from the control, correlations.

Pure functions of pandas frames over scipy and statsmodels. Nothing missing is hidden: n counts what was measured,
diverged runs are counted beside it, and there is no interval from fewer than two seeds.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from hf_icckd.study.parts import Comparison
from hf_icckd.study.plan import Plan
from hf_icckd.study.report.frames import COMPARED, TEACHER, arm, column_of, metric_in, smallest_effect
from hf_icckd.study.run import ALONE

CONFIDENCE, POWER = 0.95, 0.8
_DIFFERENCE = (
    *("pair", "teacher", "student", "primary"),
    *("n", "mean", "sd", "low", "high", "p", "holm", "diverged", "seeds_needed", "verdict"),
)


# ---- means


def mean_interval(values: Any) -> tuple[float, float]:
    """95 % confidence interval of the mean by Student's t.

    Args:
        values: (n,) independent values.

    Returns:
        Lower and upper end; NaN with fewer than two values, or if all are equal and so show no spread.
    """
    values = np.asarray(values, dtype=float)
    if not _spread(values):
        return math.nan, math.nan
    interval = stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def summary(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """n, mean, sd, 95 % interval and number of diverged runs.

    Args:
        frame: Rows of `run_metrics` selected by `main_runs` or `sweep_runs`.
        column: The metric, such as `test.top1`.

    Returns:
        Columns n, mean, sd (with n - 1), low, high, diverged (number of seeds at which the run or its teacher
        diverged), indexed by pair, teacher, student.
    """
    rows = {}
    for key, group in frame.groupby(["pair", "teacher", "student"], sort=False):
        values = group[column].dropna()
        low, high = mean_interval(values)
        rows[key] = (len(values), values.mean(), values.std(), low, high, len(_diverged(frame, *key)))
    index = pd.MultiIndex.from_tuples(rows, names=["pair", "teacher", "student"]) if rows else None
    return pd.DataFrame(list(rows.values()), index, ["n", "mean", "sd", "low", "high", "diverged"])


def _diverged(frame: pd.DataFrame, pair: str, teacher: str, student: str) -> set[float]:
    rows = frame[(frame.pair == pair) & (frame.teacher == teacher) & frame.student.isin([TEACHER, student])]
    return set(rows.seed[rows.status == "diverged"])


def _spread(values: np.ndarray) -> bool:
    return len(values) >= 2 and np.ptp(values) > 1e-9  # less is rounding


# ---- differences


def difference(treated: pd.Series, control: pd.Series, comparisons: int = 1) -> dict[str, float]:
    """Paired difference over the seeds that both have.

    Args:
        treated: Values by seed.
        control: Values by seed.
        comparisons: Size of the family; its intervals hold jointly with 95 % confidence (Bonferroni).

    Returns:
        n, mean, sd of the differences, low and high of the interval, p of the two-sided paired t-test; NaN where
        undefined, for example with fewer than two seeds.
    """
    both = pd.concat({"treated": treated, "control": control}, axis=1, join="inner").dropna()
    delta = both.treated - both.control
    found = {"n": len(delta), "mean": delta.mean()} | dict.fromkeys(("sd", "low", "high", "p"), math.nan)
    if _spread(delta.to_numpy()):
        test = stats.ttest_rel(both.treated, both.control)
        interval = test.confidence_interval(1 - (1 - CONFIDENCE) / comparisons)
        found |= {"sd": delta.std(), "low": interval.low, "high": interval.high, "p": test.pvalue}
    return {name: float(value) for name, value in found.items()} | {"n": len(delta)}


def differences(plan: Plan, frame: pd.DataFrame) -> pd.DataFrame:
    """Difference of every student from its control, the primary comparison first.

    The control is the student of that name of the control, or the control student of the same teacher. The primary
    comparison is not corrected. All others of the same student (or the same teacher) and pair are one family,
    corrected by Holm's method; those not measured yet count as p = 1, as in an unfinished study. Their
    verdicts follow from joint (Bonferroni) intervals, which are wider than the single 95 % intervals. There is no
    verdict until every planned seed has ended.

    Args:
        frame: Rows of `main_runs`.

    Returns:
        One row for each pair, student and teacher except controls: pair, teacher, student, primary, n, mean, sd,
        low, high, p, holm (NaN for the primary one), diverged (number of seeds at which a run of either side
        diverged), seeds_needed, verdict.
    """
    comparison, rows = plan.comparison, []
    column = column_of(comparison.metric)
    for pair in plan.pairs:
        of_pair = frame[frame.pair == pair]
        for side, control, family in sides(plan):
            treated, base = (arm(of_pair, *each, column) for each in (side, control))
            primary = side == (comparison.teacher, comparison.student)
            found = difference(treated, base)
            judged = found if primary else difference(treated, base, family)
            diverged = set.union(*(_diverged(frame, pair, *each) for each in (side, control)))
            rows.append(
                {"pair": pair, "teacher": side[0], "student": side[1]}
                | {"primary": primary}
                | found
                | {"holm": math.nan, "diverged": len(diverged)}
                | {"seeds_needed": seeds_needed(found["sd"], smallest_effect(comparison))}
                | {"verdict": verdict(judged, comparison)}
            )
    return _corrected(pd.DataFrame(rows, columns=_DIFFERENCE), plan)


def sides(plan: Plan) -> Iterator[tuple[tuple[str, str], tuple[str, str], int]]:
    """Teacher and student of both sides of each comparison, and how many are corrected together with it."""
    comparison = plan.comparison
    for first in family_names(plan):
        if comparison.control_student is None:
            others = [name for name in _first(plan.teachers, comparison.teacher) if name != comparison.control]
            family = len(others) - (first == comparison.student)
            for teacher in others:
                yield (teacher, first), (comparison.control, first), family
        else:
            others = [name for name in _first(plan.students, comparison.student) if name != comparison.control_student]
            family = len(others) - (first == comparison.teacher)
            for student in others:
                yield (first, student), (first, comparison.control_student), family


def family_names(plan: Plan) -> list[str]:
    """Names of the families of comparisons, that of the primary one first: students, or teachers of two students."""
    comparison = plan.comparison
    if comparison.of_students:
        return _first(plan.teachers, comparison.teacher)
    return _first(plan.students, comparison.student)


def family_column(plan: Plan) -> str:
    """Column of `differences` that tells families apart."""
    return "teacher" if plan.comparison.of_students else "student"


def _corrected(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The table of `differences` with Holm's p, and with verdicts that fit it and the runs that have ended."""
    comparison = plan.comparison
    for _, family in table[~table.primary.astype(bool)].groupby(["pair", family_column(plan)]):
        corrected = multipletests(family.p.fillna(1.0), method="holm")[1]
        table.loc[family.index, "holm"] = np.where(family.p.isna(), math.nan, corrected)
    # Holm's method can find a difference that the joint intervals do not show.
    only_holm = (table.holm < 1 - CONFIDENCE) & ~table.verdict.str.match("better|worse")
    better = (table["mean"] > 0) == COMPARED[comparison.metric].higher_is_better
    side = pd.Series(np.where(better, "better", "worse"), table.index)
    equivalent = table.verdict.str.contains("equivalent")  # which the joint intervals do show
    size = np.where(
        equivalent,
        f", but by less than {_amount(smallest_effect(comparison), comparison.metric)} (equivalent "
        "within the smallest effect)",
        "; by how much is not decided",
    )
    table.loc[only_holm, "verdict"] = (side + " after Holm's correction" + size)[only_holm]
    only_uncorrected = (table.p < 1 - CONFIDENCE) & (table.holm >= 1 - CONFIDENCE) & ~equivalent
    table.loc[only_uncorrected, "verdict"] = "not decided: the interval leaves 0 out, but not after Holm's correction"
    # Looking after every session and stopping at will would be wrong in more than 5 % of studies.
    unfinished = table.low.notna() & (table.n + table.diverged < len(plan.seeds))
    table.loc[unfinished, "verdict"] = "not decided: not all planned seeds have both runs yet"
    return table


def _first(names: dict[str, Any], first: str) -> list[str]:
    return [first, *(name for name in names if name != first)]


def seeds_needed(sd: float, effect: float) -> float:
    """Number of pairs of runs needed to find a difference with 80 % power (two-sided paired t-test at 5 %).

    Args:
        sd: Standard deviation of the differences.
        effect: The difference to find.

    Returns:
        A whole number, at least 2; NaN if the spread is not known.
    """
    if not (sd > 0 and effect > 0):
        return math.nan

    def found(n: int) -> float:
        # t squared is F; scipy's non-central F works for large effects, where its non-central t is NaN.
        critical = stats.f.isf(1 - CONFIDENCE, 1, n - 1)
        return stats.ncf.sf(critical, 1, n - 1, n * (effect / sd) ** 2)

    high = 2
    while found(high) < POWER:
        high *= 2
    return 2 + bisect.bisect_left(range(2, high), POWER, key=found)


def verdict(found: dict[str, float], comparison: Comparison) -> str:
    """An interval in words, given the smallest effect that matters.

    Args:
        found: What `difference` returns.
        comparison: Supplies the metric and the smallest effect.

    Returns:
        A phrase about the treated side, such as "better by at least 0.20 points".
    """
    metric, smallest = COMPARED[comparison.metric], smallest_effect(comparison)
    low, high, n = found["low"], found["high"], int(found["n"])
    if math.isnan(low):
        reasons = {0: "no seed has both runs yet", 1: "one seed has no interval"}
        return f"not decided: {reasons.get(n, f'all {n} differences are the same, which shows no spread')}"
    if not metric.higher_is_better:
        low, high = -high, -low

    def amount(value: float) -> str:
        return _amount(value, comparison.metric)

    if low > 0 or high < 0:
        word, least, most = ("better", low, high) if low > 0 else ("worse", -high, -low)
        if most < smallest:
            return f"{word}, but by less than {amount(smallest)} (equivalent within the smallest effect)"
        tail = "" if least >= smallest else f"; whether by {amount(smallest)} or more is not decided"
        return f"{word} by at least {amount(least)}{tail}"
    if -smallest < low and high < smallest:
        return f"no better and no worse than the control (equivalent within the smallest effect, {amount(smallest)})"
    if high < smallest:
        return f"no better by {amount(smallest)} or more; whether it is worse is not decided"
    if -smallest < low:
        return f"no worse by {amount(smallest)} or more; whether it is better is not decided"
    return f"not decided: the interval holds both a gain and a loss of {amount(smallest)}"


def _amount(value: float, metric: str) -> str:
    return f"{value:.{COMPARED[metric].decimals}f} {COMPARED[metric].difference_unit}".rstrip()


# ---- information


def gains(frame: pd.DataFrame, control: str, column: str) -> pd.DataFrame:
    """Every student with its teacher's metrics and its gain over the control's student of the same seed.

    Args:
        frame: Rows of `all_runs`.
        control: Name of the control.
        column: The student's metric, such as `test.top1`.

    Returns:
        pair, teacher, student, seed, value (the student's metric), gain (how much better than the control's student;
        NaN if that is missing) and all metrics of its teacher as `teacher.<column>`.
    """
    keys = ["pair", "teacher", "student", "seed"]
    students = frame[(frame.student != TEACHER) & (frame.teacher != ALONE)][[*keys, column]].dropna()
    students = students.rename(columns={column: "value"})
    base = students[students.teacher == control].drop(columns="teacher").rename(columns={"value": "control"})
    teachers = frame[frame.student == TEACHER].drop(columns="student")
    names = {name: f"teacher.{name}" for name in teachers.columns if "." in name}
    teachers = teachers[["pair", "teacher", "seed", *names]].rename(columns=names)
    merged = students.merge(base, how="left", on=["pair", "student", "seed"]).merge(
        teachers, how="left", on=["pair", "teacher", "seed"]
    )
    sign = 1 if metric_in(column).higher_is_better else -1
    return merged.assign(gain=sign * (merged.value - merged.control))


def rank_correlation(x: Any, y: Any) -> dict[str, float]:
    """Spearman's correlation, with a 95 % interval by Fisher's transformation of the ranks' correlation.

    Points of one teacher are not independent of each other, so the interval is narrower than it should be.

    Args:
        x: (n,) values; pairs with a NaN are left out.
        y: (n,) values.

    Returns:
        n, rho, low, high; NaN with fewer than four points or if one side is constant. There is no interval for
        rho = 1 or -1: Fisher's would have no width, however few points there are.
    """
    points = pd.DataFrame({"x": np.asarray(x, float), "y": np.asarray(y, float)}).dropna()
    found = {"n": len(points), "rho": math.nan, "low": math.nan, "high": math.nan}
    if len(points) >= 4 and (points.nunique() > 1).all():
        result = stats.pearsonr(stats.rankdata(points.x), stats.rankdata(points.y))
        found["rho"] = float(result.statistic)
        if abs(found["rho"]) < 1 - 1e-9:
            interval = result.confidence_interval(CONFIDENCE)
            found |= {"low": float(interval.low), "high": float(interval.high)}
    return found


def partial_rank_correlation(x: Any, y: Any, given: Any) -> float:
    """Spearman's partial correlation of x and y, controlling for a third variable.

    Args:
        x: (n,) values; points with a NaN are left out.
        y: (n,) values.
        given: (n,) values of the third variable.

    Returns:
        Pearson's correlation of the residuals of the ranks of x and y, regressed on the ranks of `given`; NaN with
        fewer than five points, or if a variable is constant or determined by the third.
    """
    points = pd.DataFrame({"x": np.asarray(x, float), "y": np.asarray(y, float), "given": np.asarray(given, float)})
    ranks = points.dropna().rank()
    if len(ranks) < 5 or not (ranks.nunique() > 1).all():
        return math.nan
    left = []
    for each in (ranks.x, ranks.y):
        line = stats.linregress(ranks.given, each)
        left.append(each - line.intercept - line.slope * ranks.given)
    if any(np.allclose(each, 0) for each in left):
        return math.nan
    return float(stats.pearsonr(*left).statistic)
