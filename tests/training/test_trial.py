"""A trial of some steps: what it says of checkpoints and memory, and that all processes take the same steps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from hf_icckd import ImagePipeline, TeacherTrainer, create_classifier, load_image_data, plan
from hf_icckd.data.pixel_reading import PixelReading
from hf_icckd.training import trial
from tests.training.test_trainers import teacher_args


@pytest.fixture
def make(tmp_path):
    """Makes a trainer that chooses among its evaluations on a validation split."""
    data = load_image_data("digits", max_train_samples=64, max_eval_samples=32, validation_fraction=0.5)
    pipeline = ImagePipeline(data)

    def make(**options) -> TeacherTrainer:
        options = {"max_steps": 1, "eval_strategy": "epoch", "save_strategy": "epoch"} | options
        args = teacher_args(tmp_path / "run", terms=["none"], load_best_model_at_end=True, **options)
        model = create_classifier("cifar_resnet8", data.label_names, image_size=8)
        images = pipeline.dataset("train", training=True, num_views=args.num_views)
        return TeacherTrainer(model, args, images, pipeline.dataset("validation"))

    return make


@pytest.mark.parametrize("model_ema", [False, True])
def test_a_checkpoint_takes_what_the_trial_says(make, tmp_path, model_ema):
    trainer = make(model_ema=model_ema)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    told = trial.try_steps(trainer)
    assert trainer.best.weights == {} and trainer.optimizer is None
    assert all((value == before[name]).all() for name, value in trainer.model.state_dict().items())
    trainer.train()
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    written = sum(file.stat().st_size for file in checkpoint.iterdir())
    assert told.checkpoint == pytest.approx(written, rel=0.1)  # names and records are not counted
    assert told.memory > told.checkpoint


def test_the_plan_counts_checkpoints_as_they_are_written(make, tmp_path):
    folder = SimpleNamespace(path=tmp_path / "run", values={"pretrained": False})
    counts = []
    for options in (
        {"save_strategy": "no"},
        {"save_strategy": "epoch", "num_train_epochs": 1, "max_steps": -1},
        {"save_strategy": "epoch", "num_train_epochs": 9, "max_steps": -1},
        {"save_strategy": "steps", "save_steps": 2, "save_total_limit": None, "max_steps": 10},
    ):
        trainer = make(**options)
        images = trainer.eval_dataset
        pipeline = SimpleNamespace(data=SimpleNamespace(splits=lambda n=images: {"validation": n}), resident=True)
        pipeline.reading = PixelReading(1, widths=(9, 9, 9), heights=(9, 9, 9))
        pipeline.evaluation_split, pipeline.image_cache = "validation", None
        planned = plan.plan_of(trainer, pipeline, folder)
        counts.append(planned.peak_bytes / trial.try_steps(trainer).checkpoint)
    assert counts == [0, 1, 3, 5]


def test_processes_take_steps_until_the_slowest_has_had_its_time(make, monkeypatch):
    steps: list[nn.Module] = []
    answers = iter([True, False])
    monkeypatch.setattr(trial, "_SECONDS", 0)
    monkeypatch.setattr(trial, "_step", lambda trainer, optimizer, batch: steps.append(trainer.model) or 0.0)
    monkeypatch.setattr(trial.distributed, "any_rank", lambda flag: next(answers))
    trial.try_steps(make())
    assert len(steps) == 4  # the first is one of few images


def test_a_slow_first_step_is_not_the_time_of_a_step(make, monkeypatch):
    times = iter([1.0, 30.0, 3.0])
    monkeypatch.setattr(trial, "_step", lambda trainer, optimizer, batch: next(times))
    assert trial.try_steps(make()).step == 3


def test_a_step_that_takes_more_than_is_free_is_told_before_it(make, monkeypatch, caplog):
    told = trial.try_steps(make())
    assert not caplog.text
    steps = []
    step = trial._step
    monkeypatch.setattr(trial, "_step", lambda *args: steps.append(caplog.text) or step(*args))
    monkeypatch.setattr(trial, "free_memory", lambda: told.memory // 4)
    trial.try_steps(make())
    assert "a step of 32 images takes about" in steps[1] and steps[0] == ""
    assert (
        "take a smaller --image_size, or --per_device_train_batch_size 16 and --gradient_accumulation_steps 2"
        in steps[1]
    )
