"""Training computes what it always did: loss curves in float64 against the committed ones."""

from __future__ import annotations

import pytest

from tests.invariants.__main__ import rewrite
from tests.invariants.curves import STEPS, TOLERANCE, TRAININGS, differences, read_curves


@pytest.mark.parametrize("name", TRAININGS)
def test_training_computes_what_it_always_did(name, tmp_path):
    changed = differences(read_curves()[name], TRAININGS[name](tmp_path))
    assert not changed, f"{'; '.join(changed)}; if that is on purpose, run `python -m tests.invariants`"


def test_the_committed_curves_cover_every_term_of_the_loss():
    curves = read_curves()
    assert curves.keys() == TRAININGS.keys()
    assert "loss/kd" in curves["student on digits"]
    for name in ("teacher on digits", "teacher on decoded images"):
        # The gate lets some images through and not all, or its margin would not be seen.
        assert sum(0 < fraction < 1 for fraction in curves[name]["gated_fraction"]) > STEPS / 2
        assert curves[name]["loss/intra_class"][-1] > 0
    for curve in curves.values():
        assert {"loss", "loss/ce", "learning_rate"} < curve.keys()
        assert {len(values) for values in curve.values()} == {STEPS}


def test_what_differs_is_named():
    before = {"loss": [1.0, 2.0, 3.0], "loss/ce": [1.0, 2.0, 3.0]}
    assert differences(before, {"loss": [1.0, 2.0, 3.0], "loss/ce": [1.0, 2.0 + TOLERANCE / 2, 3.0]}) == []
    assert differences(before, {"loss": [1.0, 2.5, 3.5], "loss/kd": [1.0, 2.0, 3.0]}) == [
        "loss differs from step 2: 2.0 -> 2.5",
        "loss/ce is gone",
        "loss/kd is new",
    ]
    assert differences({"loss": [1.0]}, {"loss": [1.0, 2.0]}) == ["loss has 2 steps, it had 1"]
    assert differences({"loss": [1.0]}, {"loss": [float("nan")]}) == ["loss differs from step 1: 1.0 -> nan"]


def test_rewriting_says_what_changed(tmp_path):
    path = tmp_path / "curves.json"
    assert rewrite(path, {"a": {"loss": [1.0]}}) == ["a: loss is new"]
    assert rewrite(path, {"a": {"loss": [1.0 + TOLERANCE / 2]}}) == []
    assert read_curves(path) == {"a": {"loss": [1.0]}}  # the last digits of another machine are no change
    assert rewrite(path, {"b": {"loss": [1.0]}}) == ["a: gone", "b: loss is new"]
    assert read_curves(path) == {"b": {"loss": [1.0]}}
