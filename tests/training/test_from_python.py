"""The trainers as people try them from Python: ordinary data sets, several evaluation sets, arguments of a Trainer."""

from __future__ import annotations

import datasets
import pytest
import torch
from torch.utils.data import TensorDataset
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_icckd import StudentTrainer, TeacherTargets, TeacherTrainer, create_classifier
from tests.training.test_trainers import assert_same_state, student_args, teacher_args

NAMES = tuple("abc")


class Noisy(torch.utils.data.Dataset):
    """Images that a random transform changes each time."""

    def __len__(self):
        return 48

    def __getitem__(self, row):
        return {"pixel_values": (torch.rand(3, 8, 8) * 200).byte() + row, "labels": row % 3}


def fixed(size=12):
    images = torch.randint(256, (size, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
    return TensorDataset(images, torch.arange(size) % 3)


def net(seed=0):
    torch.manual_seed(seed)
    return create_classifier("cifar_resnet8", NAMES, image_size=8)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


@pytest.mark.parametrize("train", [Noisy, fixed])
def test_both_trainers_take_an_ordinary_data_set(tmp_path, train):
    options = {"per_device_train_batch_size": 6, "eval_strategy": "epoch", "max_steps": 2}
    teacher = TeacherTrainer(net(), teacher_args(tmp_path / "t", **options), train(), fixed(5))
    teacher.train()
    assert teacher.state.global_step == 2 and teacher.evaluate()["eval_nll"] > 0
    student = StudentTrainer(net(1), teacher.classifier, student_args(tmp_path / "s", **options), train(), fixed(5))
    student.train()
    assert "eval_agreement" in student.evaluate()


def test_an_interrupted_run_on_an_ordinary_data_set_ends_with_the_same_weights_and_loss(tmp_path):
    options = {"per_device_train_batch_size": 8, "max_steps": 9, "save_strategy": "epoch", "logging_steps": 4}
    whole = TeacherTrainer(net(), teacher_args(tmp_path / "whole", **options), Noisy())
    expected = whole.train()
    assert expected.training_loss == expected.metrics["train_loss"] > 0.5
    parts = TeacherTrainer(net(), teacher_args(tmp_path / "parts", **options), Noisy(), callbacks=[StopAt(7)])
    parts.train()
    assert (tmp_path / "parts" / "checkpoint-7").is_dir()  # in the middle of an epoch
    resumed = TeacherTrainer(net(), teacher_args(tmp_path / "parts", **options), Noisy())
    found = resumed.train(resume_from_checkpoint=True)
    assert found.training_loss == found.metrics["train_loss"] == expected.training_loss
    assert_same_state(resumed.model, whole.model)


def test_several_evaluation_sets_are_measured_by_name(tmp_path, capsys):
    sets = {"val": fixed(5), "test": fixed(7)}
    args = teacher_args(tmp_path, eval_strategy="epoch", max_steps=2, per_device_train_batch_size=24, terms=[])
    trainer = TeacherTrainer(net(), args, Noisy(), sets)
    trainer.train()
    names = {name for entry in trainer.state.log_history for name in entry}
    assert {"eval_val_top1", "eval_test_top1"} <= names and "eval_top1" not in names
    printed = capsys.readouterr().out
    assert "  val  top-1 " in printed and "  test  top-1 " in printed
    both = trainer.evaluate()
    assert both["eval_test_nll"] == trainer.evaluate(sets["test"], metric_key_prefix="x")["x_nll"]
    assert both == trainer.evaluate(datasets.DatasetDict(val=as_columns(sets["val"]), test=as_columns(sets["test"])))
    assert trainer.evaluate("test")["eval_nll"] == both["eval_test_nll"]
    assert len(next(iter(trainer.get_eval_dataloader("val")))["labels"]) == 5
    with pytest.raises(ValueError, match="there is no data set to evaluate on"):
        trainer.evaluate({})
    with pytest.raises(ValueError, match=r"eval_dataset is 'tset', expected a data set .did you mean 'test'"):
        trainer.evaluate("tset")


def test_the_teacher_sees_each_of_several_evaluation_sets_once(tmp_path, monkeypatch):
    sets = {"val": fixed(5), "test": fixed(7)}
    trainer = StudentTrainer(net(1), net(), student_args(tmp_path), Noisy(), sets)
    seen, predict = [], trainer._predict
    monkeypatch.setattr(trainer, "_predict", lambda *args: seen.append(len(args[1])) or predict(*args))
    first = trainer.evaluate()
    assert trainer.evaluate() == first and seen == [5, 7]


def as_columns(rows):
    images = [image.permute(1, 2, 0).numpy() for image, _ in rows]
    columns = {"image": images, "label": [int(label) for _, label in rows]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    return datasets.Dataset.from_dict(columns, features=features)


def test_predict_returns_what_a_trainer_returns(tmp_path):
    trainer = TeacherTrainer(net(), teacher_args(tmp_path), Noisy(), fixed(7))
    predictions, labels, metrics = trainer.predict(fixed(7))
    assert predictions.shape == (7, 3) and labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert metrics["test_top1"] == pytest.approx(100 * (predictions.argmax(axis=1) == labels).mean())
    assert metrics["test_nll"] == pytest.approx(trainer.evaluate()["eval_nll"])
    [batch] = trainer.get_eval_dataloader()
    assert batch["pixel_values"].shape == (7, 1, 3, 8, 8) and batch["labels"].tolist() == labels.tolist()


def test_early_stopping_is_refused_at_once_and_a_callback_may_stop(tmp_path):
    with pytest.raises(ValueError, match=r"callbacks hold EarlyStoppingCallback, which needs metric_for_best_model"):
        TeacherTrainer(net(), teacher_args(tmp_path), Noisy(), fixed(), callbacks=[EarlyStoppingCallback()])
    trainer = TeacherTrainer(net(), teacher_args(tmp_path), Noisy(), callbacks=[StopAt(1)])
    for callback in (EarlyStoppingCallback, EarlyStoppingCallback(2)):
        with pytest.raises(ValueError, match=r"set num_train_epochs, with lr_schedule_epochs"):
            trainer.add_callback(callback)
    assert trainer.train().global_step == 1


def test_a_wrong_data_set_is_refused_before_training(tmp_path):
    wrong = TensorDataset(torch.zeros(4, 3, 8, 8), torch.full((4,), 3))
    with pytest.raises(ValueError, match=r"row 0 of the train data set: its label is 3, expected 0 to 2"):
        TeacherTrainer(net(), teacher_args(tmp_path), wrong)
    with pytest.raises(ValueError, match=r"row 0 of the val data set: its label is 3, expected 0 to 2"):
        TeacherTrainer(net(), teacher_args(tmp_path), Noisy(), {"test": fixed(), "val": wrong})


@pytest.mark.parametrize("name", ["compute_metrics", "data_collator", "processing_class", "model_init", "optimizers"])
def test_arguments_of_the_trainer_are_answered(tmp_path, name):
    with pytest.raises(TypeError, match=f"^TeacherTrainer takes no {name}: "):
        TeacherTrainer(net(), teacher_args(tmp_path), Noisy(), **{name: None})


def test_targets_belong_to_the_images_they_were_recorded_from(tmp_path, pipeline, tiny_classifier):
    teacher = tiny_classifier()
    args = student_args(tmp_path / "run", teacher_targets="auto")
    targets = TeacherTargets(tmp_path / "targets", teacher, pipeline)
    with pytest.raises(ValueError, match="train_dataset is a Noisy but there are recorded targets"):
        StudentTrainer(tiny_classifier(), teacher, args, Noisy(), targets=targets)
