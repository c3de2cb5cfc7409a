"""Runs on classes of very different sizes: what a step computes, resume, recorded targets, refusals."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
import yaml

from hf_icckd import (
    Augmentation,
    ImageData,
    ImagePipeline,
    Sampling,
    StudentTrainer,
    load_image_data,
    student,
    teacher,
)
from hf_icckd.data.loading import make_loader
from hf_icckd.data.plain import as_training_batches
from hf_icckd.losses import ClassBalance, cross_entropy, inverse_weights, knowledge_distillation_loss, prior_offsets
from hf_icckd.options.command_line import UserError
from hf_icckd.options.imbalance import class_weight_words
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.training import teacher_targets
from hf_icckd.training.rehearsal import rehearse
from tests.training.test_teacher_targets import losses, train_student
from tests.training.test_trainers import assert_same_state, student_args, teacher_args, train_teacher

SAMPLED = Sampling("balanced", seed=2)


def uneven_digits(ratio: int = 10) -> ImageData:
    """Digits with all images of 0 to 4 and one in `ratio` of the others."""
    digits = load_image_data("digits", max_train_samples=400, max_eval_samples=40)
    labels, seen, rows = digits.labels("train").tolist(), [0] * 10, []
    for row, label in enumerate(labels):
        if label < 5 or seen[label] % ratio == 0:
            rows.append(row)
        seen[label] += 1
    return dataclasses.replace(digits, train=digits.train.select(rows))


def made(data: ImageData, augmentation: Augmentation | None = None, **options) -> ImagePipeline:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ImagePipeline(data, augmentation or Augmentation(), device=device, **options)


@pytest.fixture(scope="module")
def uneven() -> ImagePipeline:
    return made(uneven_digits())


@pytest.fixture(scope="module")
def sampled() -> ImagePipeline:
    return made(uneven_digits(), Augmentation(mixup=0.4), sampling=SAMPLED)


def counts(pipeline: ImagePipeline) -> list[int]:
    return torch.from_numpy(pipeline.data.labels("train")).bincount(minlength=10).tolist()


def balance(options: dict, images: list[int]) -> ClassBalance:
    if "logit_adjustment" in options:
        return ClassBalance(offsets=torch.tensor(prior_offsets(images, options["logit_adjustment"])))
    powers = {"balanced": 1, "square_root": 0.5}
    return ClassBalance(torch.tensor(inverse_weights(images, powers[options["class_weights"]])))


OPTIONS = [{"class_weights": "balanced"}, {"class_weights": "square_root"}, {"logit_adjustment": 1.5}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_teacher_computes_the_balanced_cross_entropy(uneven, tiny_classifier, tmp_path, options):
    model = tiny_classifier()
    plain = copy.deepcopy(model).to(uneven.device).to(memory_format=torch.channels_last).train()
    more = {"terms": ["none"], "num_views": 2, "max_steps": 1, "label_smoothing": 0.1}
    trainer = train_teacher(uneven, model, tmp_path, **more, **options)
    images = uneven.dataset("train", training=True, num_views=2)
    batch = next(iter(make_loader(images, images.batch_sampler(32, 0))))
    logits = plain(batch["pixel_values"].flatten(0, 1)).logits.cpu()
    labels = batch["labels"].cpu().repeat_interleave(2)
    expected = cross_entropy(logits, labels, 0.1, balance(options, counts(uneven))).item()
    assert trainer.state.log_history[0]["loss/ce"] == pytest.approx(expected, rel=1e-5)
    assert abs(expected - cross_entropy(logits, labels, 0.1).item()) > 1e-2


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_student_copies_its_teacher_as_without(uneven, tiny_classifier, tmp_path, options):
    guide, model = tiny_classifier("cifar_resnet20", seed=1).eval(), tiny_classifier()
    plain = copy.deepcopy(model).to(uneven.device).train()
    args = student_args(tmp_path, objectives=["kd"], max_steps=1, **options)
    trainer = StudentTrainer(model, guide, args, uneven.dataset("train", training=True))
    rehearse(trainer)
    trainer.train()
    images = uneven.dataset("train", training=True)
    batch = images.__getitems__(next(iter(images.batch_sampler(32, 0))))
    pixels = batch["pixel_values"][:, 0]
    with torch.no_grad():
        own, theirs = plain(pixels).logits.cpu(), guide(pixels).logits.cpu()
    first = trainer.state.log_history[0]
    assert first["loss/kd"] == pytest.approx(knowledge_distillation_loss(own, theirs, 4.0).item(), rel=1e-4)
    expected = cross_entropy(own, batch["labels"].cpu(), balance=balance(options, counts(uneven))).item()
    assert first["loss/ce"] == pytest.approx(expected, rel=1e-4)


def test_numbers_are_scaled_to_the_mean_of_one(uneven, tiny_classifier, tmp_path):
    images = counts(uneven)
    runs = [
        train_teacher(uneven, tiny_classifier(), tmp_path, terms=["none"], max_steps=2, class_weights=weights)
        for weights in ([1 / count for count in images], ["balanced"], [5 / count for count in images])
    ]
    for each in (runs[0], runs[2]):
        assert losses(each) == pytest.approx(losses(runs[1]), rel=1e-5)
    assert class_weight_words([2, 0.5]) == ["2.0", "0.5"]


@pytest.mark.parametrize("where", ["resident", "decoded"])
@pytest.mark.parametrize("weights", ["balanced", None])
def test_resume_equals_uninterrupted(deterministic, tiny_classifier, tmp_path, where, weights):
    """With class weights, or else with balanced epochs."""
    sampling = SAMPLED if weights is None else None
    pipeline = made(uneven_digits(), sampling=sampling, resident_max_bytes=2**30 * (where == "resident"))
    options = {"class_weights": weights, "max_steps": 14, "save_strategy": "steps", "save_steps": 9}
    whole = train_teacher(pipeline, tiny_classifier(), tmp_path, **options)
    middle = checkpoints(tmp_path)[0]
    assert middle.name == "checkpoint-9" and whole.steps_per_epoch == 7
    workers = {} if where == "resident" else {"dataloader_num_workers": 2}
    resumed = train_teacher(pipeline, tiny_classifier(seed=5), tmp_path, resume=str(middle), **options | workers)
    assert_same_state(whole.model, resumed.model)
    assert_same_state(whole.terms, resumed.terms)  # with the class cache


@pytest.mark.parametrize("augmented", [True, False])
def test_recorded_targets_are_those_of_the_places(deterministic, tiny_classifier, tmp_path, monkeypatch, augmented):
    monkeypatch.setattr(teacher_targets, "BLOCK_ROWS", 64)
    data, device = uneven_digits(), "cuda" if torch.cuda.is_available() else "cpu"
    augmentation = Augmentation(mixup=0.4) if augmented else None
    pipeline = ImagePipeline(data, augmentation, sampling=SAMPLED, device=device)
    guide = tiny_classifier("cifar_resnet20", seed=1)
    runs = {
        mode: train_student(
            pipeline, tiny_classifier(), guide, tmp_path / mode, mode, tmp_path / folder, learning_rate=1e-3
        )
        for mode, folder in (("live", ""), ("auto", "targets"), ("replay", "targets"), ("record", "recorded"))
    }
    for mode in ("replay", "record"):
        assert_same_state(runs[mode].classifier, runs["auto"].classifier)
    assert losses(runs["replay"]) == pytest.approx(losses(runs["live"]), rel=1e-3)
    other = train_student(
        pipeline, tiny_classifier(seed=3), guide, tmp_path / "b", "replay", tmp_path / "targets", seed=7,
        per_device_train_batch_size=21,
    )  # fmt: skip
    assert other.state.epoch == 2
    for sampling in (None, Sampling("square_root", 2), Sampling("balanced", 3)):
        changed = ImagePipeline(data, augmentation, sampling=sampling, device=device)
        with pytest.raises(ValueError, match="holds the targets of something else; it differs in: sampling"):
            train_student(changed, tiny_classifier(), guide, tmp_path / "c", "replay", tmp_path / "targets")


def test_the_progress_line_shows_what_becomes_of_classes_where_they_differ(
    pipeline, uneven, sampled, tiny_classifier, tmp_path, capsys
):
    for images, shown in ((pipeline, False), (uneven, True), (sampled, True)):
        args = teacher_args(tmp_path, eval_strategy="epoch", max_steps=2, terms=["none"])
        trainer = teacher.TeacherTrainer(
            tiny_classifier(), args, images.dataset("train", training=True, num_views=2), images.dataset("test")
        )
        trainer.train()
        out = capsys.readouterr().out
        assert "top-1 " in out and ("  balanced accuracy " in out) == ("  lowest recall " in out) == shown
    plain = torch.utils.data.TensorDataset(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8))
    trainer = teacher.TeacherTrainer(
        tiny_classifier(), teacher_args(tmp_path, eval_strategy="epoch", max_steps=1, terms=["none"]), plain, plain
    )
    trainer.train()
    assert "balanced accuracy" not in capsys.readouterr().out


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": ["even"]}, "class_weights is 'even', expected balanced, square_root, or a number above 0"),
        ({"class_weights": ["balanced", "1"]}, "class_weights is 'balanced 1', expected"),
        ({"class_weights": [1, 0]}, "class_weights is '1 0', expected"),
        ({"class_weights": ["nan"]}, "class_weights is 'nan', expected"),
        ({"class_weights": []}, "class_weights is '', expected"),
        ({"logit_adjustment": -0.1}, "logit_adjustment is -0.1, expected 0, for none, or a number above 0"),
        ({"logit_adjustment": float("inf")}, "logit_adjustment is inf, expected"),
        (
            {"class_weights": "balanced", "logit_adjustment": 1.0},
            r"class_weights balanced and logit_adjustment 1\.0 are given, expected one of class_weights",
        ),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        teacher_args(tmp_path, **options)


def test_a_cross_entropy_without_weight_is_not_balanced(tmp_path):
    for options, name in (({"class_weights": "balanced"}, "class_weights"), ({"logit_adjustment": 1.0}, "logit_adj")):
        with pytest.raises(ValueError, match=f"{name}.* is given but ce_weight is 0, and it changes nothing but"):
            student_args(tmp_path, ce_weight=0.0, **options)


def test_weights_must_fit_the_classes(uneven, sampled, tiny_classifier, tmp_path):
    with pytest.raises(
        ValueError, match=r"class_weights holds 3 numbers, expected one for each of the 10 classes, in th"
    ):
        train_teacher(uneven, tiny_classifier(), tmp_path, terms=["none"], class_weights=[1, 2, 3])
    with pytest.raises(
        ValueError, match=r"class_weights balanced and sampling by the data set are given, expected one"
    ):
        train_teacher(sampled, tiny_classifier(), tmp_path, terms=["none"], class_weights="balanced")
    without = uneven.data.train.filter(lambda row: row["label"] not in (6, 8))
    missing = made(dataclasses.replace(uneven.data, train=without))
    names = [uneven.data.label_names[label] for label in (6, 8)]
    with pytest.raises(
        ValueError, match=f"there is no training image of {names[0]}, {names[1]}, expected one of every"
    ):
        train_teacher(missing, tiny_classifier(), tmp_path, terms=["none"], logit_adjustment=1.0)
    train_teacher(missing, tiny_classifier(), tmp_path, terms=["none"], class_weights="balanced", max_steps=1)


def test_classes_must_be_known(tiny_classifier, tmp_path):
    plain = torch.utils.data.TensorDataset(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8))
    images = as_training_batches(plain, tiny_classifier().spec.label_names, 0)
    for options in OPTIONS:
        with pytest.raises(ValueError, match=f"{next(iter(options))} is given but the classes of the training images"):
            teacher.TeacherTrainer(tiny_classifier(), teacher_args(tmp_path, terms=["none"], **options), images)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--sampling", "balanced", "--logit_adjustment", "1"],
            r"logit_adjustment 1\.0 and sampling balanced are given",
        ),
        (
            ["--sampling", "balanced", "--class_weights", "1", "2"],
            r"class_weights 1\.0 2\.0 and sampling balanced are",
        ),
        (
            ["--class_weights", "-1", "2"],
            "class_weights is '-1 2', expected balanced, square_root, or a number above 0",
        ),
        (["--sampling", "even"], "invalid choice: 'even'"),
        (["--class_weight", "balanced"], "unknown option --class_weight: here it is --class_weights"),
        (["--tau", "1"], "here it is --terms intra_class:temperature=VALUE or --logit_adjustment"),
    ],
)
def test_one_line_before_anything_is_loaded(tmp_path, words, message, monkeypatch):
    monkeypatch.setattr(teacher, "load_pipeline", lambda *_, **__: pytest.fail("data was loaded"))
    with pytest.raises(UserError, match=message):
        teacher.main([*words, "--output_dir", f"{tmp_path}/run"])
    assert not (tmp_path / "run").exists()


# As a user runs it


def test_commands_train_on_uneven_classes(tmp_path):
    words = ["--model", "cifar_resnet8", "--max_steps", "3", "--disable_tqdm", "true", "--num_threads", "1",
             "--use_cpu", "true", "--max_train_samples", "90", "--max_eval_samples", "40"]  # fmt: skip
    teacher.main([*words, "--class_weights", "square_root", "--output_dir", f"{tmp_path}/teacher"])
    student.main(
        [*words, "--teacher", f"{tmp_path}/teacher", "--teacher_targets", "auto", "--teacher_targets_dir",
         f"{tmp_path}/targets", "--sampling", "balanced", "--accept_teacher", "true", "--allow_leakage", "true",
         "--output_dir", f"{tmp_path}/student"]
    )  # fmt: skip
    card = (tmp_path / "student" / "README.md").read_text()
    assert "`kd`, balanced sampling" in card and ", two views, class weights square_root" in card
    assert "| sampling | balanced: an epoch of 90 images shows '" in card
    measured = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert measured["history"][-1]["eval_balanced_accuracy"] == pytest.approx(measured["test"]["balanced_accuracy"])
    with pytest.raises(UserError, match=r"holds another run; it differs in: class_weights \['square_root'\] -> None"):
        teacher.main([*words, "--output_dir", f"{tmp_path}/teacher"])


def test_a_run_of_an_earlier_version_is_still_the_same(tmp_path, capsys):
    words = ["--model", "cifar_resnet8", "--max_steps", "1", "--disable_tqdm", "true", "--num_threads", "1",
             "--use_cpu", "true", "--max_train_samples", "90", "--max_eval_samples", "40", "--terms", "none",
             "--output_dir", f"{tmp_path}/run"]  # fmt: skip
    teacher.main(words)
    record = tmp_path / "run" / "all_args.yaml"
    values = yaml.safe_load(record.read_text())
    for name in ("class_weights", "logit_adjustment", "sampling"):
        del values[name]
    record.write_text(yaml.safe_dump(values))
    capsys.readouterr()
    teacher.main(words)
    assert "is finished" in capsys.readouterr().out
