"""Frames and statistics of a study against numbers by hand; what is missing or diverged is never hidden."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from hf_icckd.study.parts import Comparison
from hf_icckd.study.report import frames, statistics
from hf_icckd.study.report.frames import TEACHER
from hf_icckd.study.run import ALONE
from tests.study.made_up_study import diverge, make_plan, make_records


@pytest.fixture(scope="module")
def plan():
    return make_plan()


@pytest.fixture(scope="module")
def records(plan):
    return make_records(plan)


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=[float(seed) for seed in range(len(values))])


# ---- frames


def test_figures_are_those_of_the_records(records):
    frame = frames.run_metrics(records).set_index("run")
    assert len(frame) == len(records)
    for name, record in records.items():
        row = frame.loc[name]
        assert row["test.top1"] == record["metrics"]["test"]["top1"]
        assert row["train.nc1"] == record["metrics"]["train"]["nc1"]
        assert row.student == (record["student"] or TEACHER) and row.seed == record["seed"]
        assert math.isnan(row.trial) if record["trial"] is None else row.trial == record["trial"]


def test_figures_of_nothing_have_all_columns():
    frame = frames.run_metrics({})
    assert frame.empty and {"pair", "seconds", "test.top1", "train.nc1", "fine_probe.chance"} <= set(frame.columns)
    assert statistics.summary(frame, "test.top1").empty and frames.curves({}).empty


def test_seconds_are_compared_within_one_machine_and_sitting(records):
    def changed(record, first_step, **environment):
        training = record["metrics"]["training"] | {"first_step_of_last_session": first_step}
        metrics = record["metrics"] | {"training": training}
        return record | {"metrics": metrics | {"environment": metrics["environment"] | environment}}

    *usual, interrupted, elsewhere, updated = list(records.values())[:6]
    changes = changed(interrupted, 8), changed(elsewhere, 0, device="GPU"), changed(updated, 0, torch="2.15.0")
    frame = frames.run_metrics({record["run"]: record for record in (*usual, *changes)})
    seconds = [record["metrics"]["training"]["seconds_of_last_session"] for record in usual]
    assert frame.training_seconds.dropna().tolist() == seconds
    assert frame.seconds.notna().all()


def test_trials_and_sweeps_stay_out_of_the_main_figures(plan, records):
    frame = frames.run_metrics(records)
    main = frames.main_runs(plan, frame)
    assert set(main.teacher) == {*plan.teachers, ALONE} and set(main.seed) == set(plan.seeds)
    assert main.trial.isna().all()
    assert len(main) == 5 * (5 * 3 + 1)  # seeds x (teachers with two students, and one without a teacher)
    swept = frames.sweep_runs(plan, plan.sweeps["weight"], frame)
    assert set(swept.seed) == {0, 1} and set(swept.student) == {TEACHER, "kd"}
    assert len(swept) == 2 * 5 * 2
    every = frames.all_runs(plan, frame)
    assert every.run.is_unique and set(main.run) | set(swept.run) <= set(every.run)


def test_curves_have_a_row_for_each_evaluation(records):
    points = frames.curves(records)
    assert len(points) == sum(len(record["curve"]) for record in records.values())
    assert {"run", "epoch", "loss", "eval_top1"} <= set(points.columns)


# ---- means and differences


def test_mean_interval_by_hand():
    # mean 2, sd 1, n 3: half width 4.302653 * 1 / sqrt(3)
    low, high = statistics.mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0]])
def test_no_interval_without_a_spread(values):
    assert all(math.isnan(end) for end in statistics.mean_interval(values))


def test_summary_counts_what_diverged(plan, records):
    name = "small/intra/seed-3/kd"
    frame = frames.run_metrics(records | {name: diverge(records[name])})
    found = statistics.summary(frames.main_runs(plan, frame), "test.top1").loc[("small", "intra", "kd")]
    kept = [records[f"small/intra/seed-{seed}/kd"]["metrics"]["test"]["top1"] for seed in (0, 1, 2, 4)]
    assert (found.n, found.diverged) == (4, 1)
    assert (found["mean"], found.sd) == pytest.approx((np.mean(kept), np.std(kept, ddof=1)))


def test_difference_by_hand():
    # differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641 with 2 degrees of freedom, p = 0.0742
    found = statistics.difference(series(11.0, 12.0, 13.0), series(10.0, 10.0, 10.0))
    assert (found["n"], found["mean"], found["sd"]) == (3, 2.0, 1.0)
    assert (found["low"], found["high"]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert found["p"] == pytest.approx(0.07418, abs=1e-5)


def test_difference_takes_common_seeds_only():
    treated = pd.Series({0.0: 5.0, 1.0: 7.0, 2.0: math.nan, 7.0: 100.0})
    control = pd.Series({0.0: 4.0, 1.0: 5.0, 2.0: 6.0, 8.0: -100.0})
    found = statistics.difference(treated, control)
    assert (found["n"], found["mean"]) == (2, 1.5)


@pytest.mark.parametrize(("size", "n"), [(0, 0), (1, 1)])
def test_fewer_than_two_pairs_have_no_interval(size, n):
    found = statistics.difference(series(*[2.0] * size), series(1.0, 1.0, 1.0))
    assert found["n"] == n and math.isnan(found["low"]) and math.isnan(found["p"])


def test_equal_differences_have_no_interval():
    found = statistics.difference(series(71.2, 72.2, 73.2), series(71.0, 72.0, 73.0))
    assert found["n"] == 3 and found["mean"] == pytest.approx(0.2)
    assert math.isnan(found["low"]) and math.isnan(statistics.seeds_needed(found["sd"], 0.5))


def test_the_primary_comparison_stands_first_and_alone(plan, records):
    found = statistics.differences(plan, frames.main_runs(plan, frames.run_metrics(records)))
    assert list(found.primary) == [True, *[False] * 7]  # four teachers but the control, two students
    first = found.iloc[0]
    assert (first.teacher, first.student) == ("intra", "kd")
    assert first.p < 1 and math.isnan(first.holm)


def test_holm_by_hand(plan, records):
    found = statistics.differences(plan, frames.main_runs(plan, frames.run_metrics(records)))
    for student, size in (("kd", 3), ("rkd", 4)):
        family = found[(found.student == student) & ~found.primary].sort_values("p")
        assert len(family) == size
        expected, largest = [], 0.0
        for rank, p in enumerate(family.p):
            largest = max(largest, min(1.0, p * (size - rank)))
            expected.append(largest)
        assert list(family.holm) == pytest.approx(expected)


def with_differences(records, differences: dict[str, list[float]]) -> dict[str, dict]:
    """The records of the control and of some teachers, whose students by KD differ by so much."""
    changed = {name: record for name, record in records.items() if record["teacher"] in ("ce", *differences)}
    for teacher, shifts in {"ce": [0.0] * 5, **differences}.items():
        for seed, shift in enumerate(shifts):
            record = changed[f"small/{teacher}/seed-{seed}/kd"]
            metrics = record["metrics"] | {"test": record["metrics"]["test"] | {"top1": 60.0 + shift}}
            changed[record["run"]] = record | {"metrics": metrics}
    return changed


def row_of(plan, records, teacher: str) -> pd.Series:
    found = statistics.differences(plan, frames.main_runs(plan, frames.run_metrics(records)))
    return found[(found.student == "kd") & (found.teacher == teacher)].iloc[0]


def test_what_correction_takes_away_is_not_decided(plan, records):
    """Differences of 0.4 ± 0.3 at five seeds: p = 0.04, which three comparisons turn into 0.12."""
    row = row_of(plan, with_differences(records, {"smooth": [0.0, 0.2, 0.4, 0.6, 0.8]}), "smooth")
    assert row.p < 0.05 < row.holm and row.low > 0
    assert row.verdict == "not decided: the interval leaves 0 out, but not after Holm's correction"


def test_what_correction_leaves_is_said(plan, records):
    """Differences of 0.1 ± 0.07: p = 0.03; intervals of three comparisons that hold together are within 0.5."""
    small = [0.01, 0.055, 0.1, 0.145, 0.19]
    row = row_of(plan, with_differences(records, {"smooth": small}), "smooth")
    assert row.p < 0.05 < row.holm
    assert row.verdict.startswith("no better and no worse than the control (equivalent")
    others = [name for name in plan.teachers if name not in ("ce", "smooth", plan.comparison.teacher)]
    clear = {name: [5.0, 5.1, 5.2, 5.3, 5.4] for name in others}
    row = row_of(plan, with_differences(records, {"smooth": small, **clear}), "smooth")
    assert row.holm == pytest.approx(row.p) and row.p < 0.05
    assert row.verdict == (
        f"better after Holm's correction, but by less than {plan.comparison.smallest_effect:.2f} points (equivalent "
        "within the smallest effect)"
    )


def test_holm_counts_comparisons_that_are_not_measured_yet(plan, records):
    some = {name: record for name, record in records.items() if record["teacher"] in ("ce", "intra", "smooth")}
    found = statistics.differences(plan, frames.main_runs(plan, frames.run_metrics(some)))
    row = found[(found.student == "kd") & (found.teacher == "smooth")].iloc[0]
    assert row.holm == pytest.approx(min(1.0, 3 * row.p))
    absent = found[(found.student == "kd") & (found.teacher == "early")].iloc[0]
    assert absent.n == 0 and math.isnan(absent.holm) and "no seed has both runs" in absent.verdict


def test_pairs_are_families_of_their_own(records):
    nets = {"teacher": "cifar_resnet20", "student": "cifar_resnet8"}
    plan = make_plan(pairs={"small": nets, "again": nets})
    both = make_records(plan)
    found = statistics.differences(plan, frames.main_runs(plan, frames.run_metrics(both)))
    alone = statistics.differences(make_plan(), frames.main_runs(make_plan(), frames.run_metrics(records)))
    assert list(found[found.pair == "small"].holm.dropna()) == pytest.approx(list(alone.holm.dropna()))


def test_a_diverged_teacher_is_counted_in_its_comparisons(plan, records):
    name = "small/intra/seed-3/teacher"
    some = {key: record for key, record in records.items() if not key.startswith("small/intra/seed-3/")}
    frame = frames.run_metrics(some | {name: diverge(records[name])})
    first = statistics.differences(plan, frames.main_runs(plan, frame)).iloc[0]
    assert (first.n, first.diverged) == (4, 1) and "planned seeds" not in first.verdict  # it has ended


def test_nothing_is_decided_before_all_planned_seeds_have_ended(plan, records):
    clear = {name: [5.0, 5.1, 5.2, 5.3, 5.4] for name in plan.teachers if name != "ce"}
    whole = with_differences(records, clear)
    found = [row_of(plan, whole, name) for name in clear]
    assert all(row.verdict.startswith("better by at least") for row in found)
    for absent in ("small/ce/seed-4/kd", "small/ce/seed-4/"):
        some = {name: record for name, record in whole.items() if not name.startswith(absent)}
        for row in (row_of(plan, some, name) for name in clear):
            assert row.n == 4 and row.low > 0
            assert row.verdict == "not decided: not all planned seeds have both runs yet"


# ---- words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.6, 0.9, "better by at least 0.60 points"),
        (0.1, 0.9, "better by at least 0.10 points; whether by 0.50 points or more is not decided"),
        (0.1, 0.4, "better, but by less than 0.50 points (equivalent within the smallest effect)"),
        (-0.2, 0.3, "no better and no worse than the control (equivalent within the smallest effect, 0.50 points)"),
        (-0.2, 0.7, "no worse by 0.50 points or more; whether it is better is not decided"),
        (-0.7, 0.2, "no better by 0.50 points or more; whether it is worse is not decided"),
        (-0.7, 0.7, "not decided: the interval holds both a gain and a loss of 0.50 points"),
        (-0.4, -0.1, "worse, but by less than 0.50 points (equivalent within the smallest effect)"),
        (-0.9, -0.1, "worse by at least 0.10 points; whether by 0.50 points or more is not decided"),
        (-0.9, -0.6, "worse by at least 0.60 points"),
    ],
)
def test_verdict(low, high, words):
    comparison = Comparison("intra", "ce", "kd", smallest_effect=0.5)
    assert statistics.verdict({"low": low, "high": high, "n": 5}, comparison) == words


def test_verdict_of_a_figure_that_should_be_small():
    comparison = Comparison("intra", "ce", "kd", metric="nll", smallest_effect=0.01)
    found = {"low": -0.05, "high": -0.02, "n": 5}
    assert statistics.verdict(found, comparison) == "better by at least 0.0200 nats"


def test_a_verdict_without_interval_says_why():
    comparison = Comparison("intra", "ce", "kd")
    for n, words in ((0, "no seed has both"), (1, "one seed has no interval"), (3, "all 3 differences are the same")):
        text = statistics.verdict({"low": math.nan, "high": math.nan, "n": n}, comparison)
        assert text.startswith("not decided") and words in text


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"comparison\.metric is 'top_1'.*top1"):
        frames.check_metric("top_1")


# ---- power and correlation


def test_seeds_needed_reach_the_power_and_one_less_does_not():
    from scipy import stats

    def power(n: int, effect: float) -> float:  # of the two-sided one-sample t-test, from its definition
        limit = stats.t.ppf(0.975, n - 1)
        shift = effect * math.sqrt(n)
        return stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)

    for sd in (0.3, 0.5, 1.0):
        n = statistics.seeds_needed(sd, 0.5)
        assert power(n, 0.5 / sd) >= 0.8 > power(n - 1, 0.5 / sd)
    assert statistics.seeds_needed(1.0, 0.5) == 34  # the figure that textbooks give for d = 0.5


def test_seeds_needed_at_the_ends():
    assert statistics.seeds_needed(0.001, 0.5) == 2
    assert math.isnan(statistics.seeds_needed(math.nan, 0.5)) and math.isnan(statistics.seeds_needed(0.0, 0.5))
    assert math.isnan(statistics.seeds_needed(0.3, 0.0))
    assert statistics.seeds_needed(100, 0.5) == 313_957  # (1.96 + 0.84)^2 / d^2, and two


@pytest.mark.parametrize(("effect", "n"), [(7, 3), (9.5, 3), (11.7, 2), (12, 2), (16, 2), (25, 2), (50, 2)])
def test_seeds_needed_for_large_effects(effect, n):
    """By integrating over the spread that is found: the distribution functions of t have gaps there."""
    from scipy import integrate, stats

    def power(n: int) -> float:
        def found(spread: float) -> float:
            limit = stats.t.isf(0.025, n - 1) * spread / math.sqrt(n - 1)
            return stats.chi.pdf(spread, n - 1) * stats.norm.sf(limit - effect * math.sqrt(n))

        return integrate.quad(found, 0, 10, points=[0.1, 1, 3])[0]

    assert statistics.seeds_needed(0.5, 0.5 * effect) == n
    assert power(n) >= 0.8 and (n == 2 or power(n - 1) < 0.8)


def test_rank_correlation_by_hand():
    # ranks of y: 2 1 4 3 5, squared rank differences sum to 4: rho = 1 - 6 * 4 / (5 * 24) = 0.8
    found = statistics.rank_correlation([1, 2, 3, 4, 50], [20, 10, 400, 30, 5000])
    width = 1.959964 / math.sqrt(2)  # Fisher, n - 3
    assert (found["n"], found["rho"]) == (5, pytest.approx(0.8))
    ends = [math.tanh(math.atanh(0.8) + sign * width) for sign in (-1, 1)]
    assert [found["low"], found["high"]] == pytest.approx(ends, abs=1e-5)


@pytest.mark.parametrize("y", [[1, 2, 3, 4], [9, 7, 5, 3]])
def test_the_same_order_of_a_few_points_is_no_certainty(y):
    found = statistics.rank_correlation([1, 2, 3, 4], y)
    assert abs(found["rho"]) == pytest.approx(1) and math.isnan(found["low"]) and math.isnan(found["high"])


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([], [])])
def test_no_correlation_from_too_little(x, y):
    assert math.isnan(statistics.rank_correlation(x, y)["rho"])


def test_partial_rank_correlation_is_that_of_the_textbook():
    x, y, given = [1, 2, 3, 4, 5, 6], [10, 30, 20, 60, 40, 50], [2, 1, 4, 3, 6, 5]
    xy, xz, yz = (statistics.rank_correlation(*pair)["rho"] for pair in ((x, y), (x, given), (y, given)))
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert statistics.partial_rank_correlation(x, y, given) == pytest.approx(expected)
    assert statistics.partial_rank_correlation([*x, math.nan], [*y, 1], [*given, 1]) == pytest.approx(expected)


@pytest.mark.parametrize("given", [[1, 2, 3, 4, 5], [3, 3, 3, 3, 3]])
def test_nothing_is_left_where_the_third_figure_says_all_or_nothing(given):
    assert math.isnan(statistics.partial_rank_correlation([1, 2, 3, 4, 5], [2, 1, 3, 5, 4], given))


def test_gains_are_against_the_same_seed(plan, records):
    points = statistics.gains(frames.all_runs(plan, frames.run_metrics(records)), "ce", "test.top1")
    assert (points[points.teacher == "ce"].gain == 0).all()
    row = points[(points.teacher == "smooth") & (points.student == "kd") & (points.seed == 2)].iloc[0]
    top1 = {name: records[f"small/{name}/seed-2/kd"]["metrics"]["test"]["top1"] for name in ("ce", "smooth")}
    assert row.gain == pytest.approx(top1["smooth"] - top1["ce"])
    of_teacher = records["small/smooth/seed-2/teacher"]["metrics"]["test"]
    assert row["teacher.test.soft_label_information_t4"] == of_teacher["soft_label_information_t4"]


def test_less_is_a_gain_where_less_is_better(plan, records):
    name = "small/smooth/seed-2/kd"
    metrics = records[name]["metrics"]
    less = metrics["test"] | {"nll": records["small/ce/seed-2/kd"]["metrics"]["test"]["nll"] - 0.25}
    changed = records | {name: records[name] | {"metrics": metrics | {"test": less}}}
    points = statistics.gains(frames.all_runs(plan, frames.run_metrics(changed)), "ce", "test.nll")
    row = points[(points.teacher == "smooth") & (points.student == "kd") & (points.seed == 2)].iloc[0]
    assert row.gain == pytest.approx(0.25)


def test_gain_is_unknown_without_the_control(plan, records):
    some = {name: record for name, record in records.items() if name != "small/ce/seed-2/kd"}
    points = statistics.gains(frames.main_runs(plan, frames.run_metrics(some)), "ce", "test.top1")
    assert points[(points.seed == 2) & (points.student == "kd")].gain.isna().all()
    assert points[(points.seed == 1) & (points.student == "kd")].gain.notna().all()


def test_students_of_one_teacher_are_compared_with_one_of_them():
    """Paired by seed; all but the primary one are a family, teacher by teacher."""
    students = make_plan().students
    students |= {"dkd": students["kd"], "dist": students["rkd"]}
    comparison = Comparison("ce", "ce", "rkd", control_student="kd")
    plan = make_plan(students=students, comparison=comparison, sweeps={})
    rows = frames.main_runs(plan, frames.run_metrics(make_records(plan)))
    found = statistics.differences(plan, rows)
    assert list(zip(found.teacher, found.student, strict=True))[:4] == [
        ("ce", "rkd"), ("ce", "dkd"), ("ce", "dist"), ("intra", "rkd"),
    ]  # fmt: skip
    assert found.primary.tolist() == [True] + [False] * (3 * 5 - 1)
    first = found.iloc[0]
    sides = [
        rows[(rows.teacher == "ce") & (rows.student == name)].set_index("seed")["test.top1"] for name in ("rkd", "kd")
    ]
    assert first["mean"] == pytest.approx((sides[0] - sides[1]).mean()) and math.isnan(first.holm)
    family = found[(found.teacher == "ce") & ~found.primary.astype(bool)]
    low, high = sorted(family.p)
    assert sorted(family.holm) == pytest.approx(sorted([min(1, 2 * low), max(min(1, 2 * low), high)]))
