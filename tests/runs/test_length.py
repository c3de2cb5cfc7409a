"""A run may become longer or shorter as long as no step that was done would have been another."""

from __future__ import annotations

import pytest
import torch

from hf_icckd import TeacherTrainingArguments
from hf_icckd.runs.checkpoints import publish, staging_folder
from hf_icckd.runs.length import check_length


def run_of(folder, step: int):
    """A folder with a checkpoint after some steps, five in an epoch."""
    (staging_folder(folder) / f"checkpoint-{step}").mkdir(parents=True)
    publish(folder, step, {"steps_per_epoch": torch.tensor(5)})
    return folder


def check(folder, scheduled=None, before=None, **options):
    args = TeacherTrainingArguments(folder, use_cpu=True, num_threads=1, **options)
    before = {"num_train_epochs": 2.0, "max_steps": -1} | (before or {})
    check_length(folder, before, args, scheduled, "do this instead")


@pytest.mark.parametrize(
    "options",
    [
        {"lr_scheduler_type": "constant"},
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3},
        {"lr_milestones": [0.9]},  # after 9 and 18 steps; 8 have been done
        {"warmup_steps": 9},  # the cosine has not begun
    ],
)
def test_a_run_may_become_longer_if_no_learning_rate_changes(tmp_path, options):
    check(run_of(tmp_path, 8), num_train_epochs=4, **options)
    check(tmp_path, max_steps=20, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"learning rate from step 2 on \(at step 8: 0.0103.*, with the new length 0.0363"),
        ({"lr_milestones": [0.5]}, r"from step 6 on \(at step 8: 0.005, with the new length 0.05\)"),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.5}, "from step 2 on"),
    ],
)
def test_otherwise_the_error_says_what_changes(tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        check(run_of(tmp_path, 8), num_train_epochs=4, **options)
    assert "was begun with num_train_epochs 2, and num_train_epochs 4 would have" in str(refused.value)
    assert str(refused.value).endswith("do this instead")


def test_an_objective_that_follows_the_progress_keeps_its_length(tmp_path):
    with pytest.raises(ValueError, match="steps: Ramp may depend on the share of the run that is done"):
        check(run_of(tmp_path, 8), scheduled="Ramp", num_train_epochs=4, lr_scheduler_type="constant")


def test_a_run_may_become_shorter_down_to_what_it_has_done(tmp_path):
    constant = {"lr_scheduler_type": "constant", "before": {"num_train_epochs": 4.0}}
    check(run_of(tmp_path, 8), num_train_epochs=2, **constant)
    check(tmp_path, num_train_epochs=1.6, **constant)
    with pytest.raises(ValueError, match="num_train_epochs 1 is already over: it has done 8 steps, 5 in an epoch"):
        check(tmp_path, num_train_epochs=1, **constant)


def test_a_run_without_a_checkpoint_may_have_any_length(tmp_path):
    check(tmp_path, num_train_epochs=4)


def test_a_run_that_keeps_its_best_weights_has_the_evaluations_of_its_length(tmp_path):
    """One that ended within an epoch was evaluated there, and a longer one would not have been."""
    options = {"lr_scheduler_type": "constant", "load_best_model_at_end": True, "before": {"max_steps": 8}}
    with pytest.raises(ValueError, match="max_steps 12 would have chosen among other evaluations"):
        check(run_of(tmp_path / "8", 8), max_steps=12, **options)
    check(run_of(tmp_path / "7", 7), max_steps=12, **options)
    options["before"] = {"max_steps": 10}
    check(run_of(tmp_path / "10", 10), max_steps=15, **options)


def test_evaluations_by_steps_fall_elsewhere_at_the_end_and_by_shares(tmp_path):
    options = {"lr_scheduler_type": "constant", "load_best_model_at_end": True, "before": {"max_steps": 8}}
    options |= {"eval_strategy": "steps", "save_strategy": "steps"}
    check(run_of(tmp_path / "8", 8), max_steps=12, eval_steps=4, **options)
    check(run_of(tmp_path / "7", 7), max_steps=12, eval_steps=3, **options)
    # One was evaluated at its end, the other after every second step.
    for folder, eval_steps in (
        (tmp_path / "8", 3),
        (tmp_path / "7", 0.25),
    ):
        with pytest.raises(ValueError, match="would have chosen among other evaluations than"):
            check(folder, max_steps=12, eval_steps=eval_steps, **options)
