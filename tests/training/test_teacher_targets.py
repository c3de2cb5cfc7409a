"""Recorded teacher outputs: the same as the live teacher's, for any student; what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_icckd import Augmentation, ImagePipeline, StudentTrainer, TeacherTargets, load_image_data, student, teacher
from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import KeyedBatchSampler
from hf_icckd.evaluation.split import run_split
from hf_icckd.losses import KD, OBJECTIVES, WeightedObjectives, parse_objectives
from hf_icckd.options.command_line import UserError
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.training import teacher_targets
from hf_icckd.training.recorded_batches import Source, WithTargets
from hf_icckd.utils import atomic_files
from tests.training.test_trainers import assert_same_state, student_args

BOTH = ("logits", "embeddings")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Three blocks an epoch for 160 images."""
    monkeypatch.setattr(teacher_targets, "BLOCK_ROWS", 64)


def train_student(pipeline, model, teacher, folder, mode, targets_dir, resume=None, callbacks=None, **options):
    args = student_args(folder, **{"teacher_targets": mode, "num_train_epochs": 2, "max_steps": -1} | options)
    objectives = parse_objectives(args.objectives, OBJECTIVES)
    targets = None
    if mode != "live":
        outputs = objectives.teacher_outputs
        targets = TeacherTargets(targets_dir, teacher, pipeline, outputs, precision=args.precision)
    trainer = StudentTrainer(
        model,
        teacher,
        args,
        pipeline.dataset("train", training=True),
        objectives=objectives,
        callbacks=callbacks,
        targets=targets,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "learning_rate" in entry]


def record_all(targets, teacher, pipeline, epochs=1):
    trained_on = pipeline.dataset("train", training=True)
    for block in targets.missing(range(epochs)):
        targets.record(*block, Source(trained_on, lambda rows: run_split(teacher, rows, batch_size=50)))


@pytest.mark.parametrize("objectives", [["kd"], ["kd", "rkd:weight=0.1"]])
def test_all_ways_give_one_student_and_nearly_the_live_one(
    deterministic, pipeline, tiny_classifier, tmp_path, objectives
):
    guide = tiny_classifier("cifar_resnet20", seed=1)
    runs = {
        mode: train_student(
            pipeline,
            tiny_classifier(),
            guide,
            tmp_path / mode,
            mode,
            tmp_path / folder,
            objectives=objectives,
            learning_rate=1e-3,  # so that rounding is not amplified from step to step
        )
        for mode, folder in (("live", ""), ("auto", "targets"), ("replay", "targets"), ("record", "recorded"))
    }
    for mode in ("replay", "record"):
        assert_same_state(runs[mode].classifier, runs["auto"].classifier)
    assert losses(runs["replay"]) == pytest.approx(losses(runs["live"]), rel=1e-3)
    files = sorted(path.name for path in (tmp_path / "targets").glob("*.safetensors"))
    assert files == [f"epoch{epoch:05d}-row{row:09d}.safetensors" for epoch in (0, 1) for row in (0, 64, 128)]
    for name in files:
        one, other = (load_file(tmp_path / folder / name) for folder in ("recorded", "targets"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_replay_never_runs_the_teacher(pipeline, tiny_classifier, tmp_path, monkeypatch):
    guide = tiny_classifier(seed=1)
    train_student(pipeline, tiny_classifier(), guide, tmp_path / "a", "auto", tmp_path / "targets")
    monkeypatch.setattr(guide, "forward", lambda *_, **__: pytest.fail("the teacher ran"))
    # Another student, seed, order, batch size and objective.
    trainer = train_student(
        pipeline, tiny_classifier("cifar_resnet20", seed=3), guide, tmp_path / "b", "replay", tmp_path / "targets",
        seed=7, per_device_train_batch_size=20, objectives=["kd:temperature=2"],
    )  # fmt: skip
    assert trainer.state.global_step == 16


@pytest.mark.parametrize("where", ["resident", "decoded"])
@pytest.mark.parametrize("augmentation", [Augmentation(), None])
def test_batches_bring_what_the_teacher_says_of_their_pixels(digits, tiny_classifier, tmp_path, where, augmentation):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = ImagePipeline(
        digits, device=device, resident_max_bytes=2**30 * (where == "resident"), augmentation=augmentation
    )
    guide = tiny_classifier(seed=1).eval().to(device)
    targets = TeacherTargets(tmp_path / "targets", guide, pipeline, BOTH)
    record_all(targets, guide, pipeline, epochs=3)
    assert len(list(targets.folder.glob("*.safetensors"))) == (9 if augmentation else 3)
    live = pipeline.dataset("train", training=True)
    sampler = KeyedBatchSampler(160, 48, seed=5)
    sampler.set_epoch(2)
    seen = 0
    for batch in make_loader(WithTargets(live, targets.read), sampler, num_workers=2):
        with torch.no_grad():
            expected = guide(batch["pixel_values"][:, 0].to(device))
        for name in BOTH:
            assert batch["teacher"][name].dtype == torch.float16
            torch.testing.assert_close(
                batch["teacher"][name].float(), getattr(expected, name).cpu(), rtol=2e-3, atol=2e-3
            )
        seen += len(batch["labels"])
    assert seen == 160


def test_an_interrupted_recording_goes_on(pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1).eval().to(pipeline.device)
    targets = TeacherTargets(tmp_path / "targets", guide, pipeline)
    recorded = []

    def interrupted(rows):
        if len(recorded) == 1:
            raise KeyboardInterrupt
        recorded.append(rows.rows.tolist())
        return run_split(guide, rows, batch_size=50)

    live = pipeline.dataset("train", training=True)
    with pytest.raises(KeyboardInterrupt):
        for block in targets.missing(range(1)):
            targets.record(*block, Source(live, interrupted))
    assert recorded == [list(range(64))]
    again = TeacherTargets(tmp_path / "targets", guide, pipeline)
    assert again.missing(range(1)) == [(0, 64), (0, 128)]
    record_all(again, guide, pipeline)
    whole = TeacherTargets(tmp_path / "whole", guide, pipeline)
    record_all(whole, guide, pipeline)
    ids = torch.randperm(160)
    assert torch.equal(again.read(0, ids)["logits"], whole.read(0, ids)["logits"])


def test_what_another_run_has_recorded_meanwhile_is_taken(pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1).eval().to(pipeline.device)
    one, other = (TeacherTargets(tmp_path / "targets", guide, pipeline) for _ in range(2))
    due = one.missing(range(1))
    record_all(other, guide, pipeline)
    for block in due:
        one.record(
            *block, Source(pipeline.dataset("train", training=True), lambda rows: pytest.fail("recorded twice"))
        )


def test_a_run_that_goes_on_equals_one_that_was_never_cut(deterministic, pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1)
    options = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 5}
    whole = train_student(pipeline, tiny_classifier(), guide, tmp_path / "a", "auto", tmp_path / "targets", **options)
    # From the middle of the first epoch, with nothing recorded yet.
    first = checkpoints(tmp_path / "a")[0]
    assert first.name == "checkpoint-3"
    resumed = train_student(
        pipeline, tiny_classifier(seed=5), guide, tmp_path / "b", "auto", tmp_path / "anew", str(first)
    )
    assert_same_state(resumed.classifier, whole.classifier)


def test_replay_needs_every_epoch(pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1)
    train_student(pipeline, tiny_classifier(), guide, tmp_path / "a", "auto", tmp_path / "t", num_train_epochs=1)
    with pytest.raises(ValueError, match=r"lacks 3 block\(s\) that this run needs, the first of epoch 1, rows 0"):
        train_student(pipeline, tiny_classifier(), guide, tmp_path / "b", "replay", tmp_path / "t")


def test_the_trainer_wants_targets_with_the_modes_that_use_them(pipeline, tiny_classifier, tmp_path):
    for mode, targets in (("live", TeacherTargets(tmp_path / "t", tiny_classifier(), pipeline)), ("auto", None)):
        args = student_args(tmp_path, teacher_targets=mode)
        with pytest.raises(ValueError, match=f"teacher_targets is '{mode}' but the trainer was given"):
            StudentTrainer(tiny_classifier(), tiny_classifier(), args, pipeline.dataset("train"), targets=targets)


class ComparesMaps(KD):
    teacher_outputs = ("logits", "feature_maps")

    def forward(self, batch):
        assert len(batch.teacher.feature_maps) == len(batch.student.feature_maps) > 1
        return super().forward(batch)


def test_feature_maps_need_the_live_teacher(pipeline, tiny_classifier, tmp_path):
    objectives = WeightedObjectives([(ComparesMaps(), 1.0)])
    with pytest.raises(ValueError, match=r"compares feature_maps, which are too large to record .* live"):
        TeacherTargets(tmp_path / "t", tiny_classifier(), pipeline, objectives.teacher_outputs)
    assert not (tmp_path / "t").exists()
    args = student_args(tmp_path, max_steps=1)
    trainer = StudentTrainer(
        tiny_classifier(), tiny_classifier(seed=1), args, pipeline.dataset("train", training=True), None, objectives
    )
    trainer.train()
    assert losses(trainer)[0] > 0


def test_outputs_must_be_finite_in_half_precision(pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1).eval().to(pipeline.device)
    with torch.no_grad():
        guide.net.get_classifier().bias[3] = 1e6
    targets = TeacherTargets(tmp_path / "t", guide, pipeline)
    with pytest.raises(ValueError, match="teacher's logits are not finite in half precision in epoch 0"):
        record_all(targets, guide, pipeline)
    assert not list(targets.folder.glob("*.safetensors"))


def test_a_full_disk_is_noticed_before_recording(pipeline, tiny_classifier, tmp_path, monkeypatch):
    targets = TeacherTargets(tmp_path / "t", tiny_classifier(), pipeline, BOTH)
    missing = targets.missing(range(4))
    assert targets.check_space(missing) == 4 * 160 * (10 + 64) * 2
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"take 0\.1 MB, .* has 0\.0 MB free; choose another folder"):
        targets.check_space(missing)


def _edit(folder, **values):
    file = folder / "targets.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


OTHERS = {
    "seed": ({"augmentation": Augmentation(seed=1)}, {}, "differs in: augmentation .*'seed': 0.* -> .*'seed': 1"),
    "augmentation": ({"augmentation": Augmentation(random_erasing=0.5)}, {}, "differs in: augmentation"),
    "none": ({"augmentation": None}, {}, "differs in: augmentation .* -> None"),
    "size": ({}, {"size": 6}, "differs in: image_size 8 -> 6; teacher_image_size 8 -> 6"),
    "teacher": ({}, {"teacher": 2}, "differs in: teacher '"),
    "precision": ({}, {"precision": "bf16"}, "precision 'float32' -> 'bf16'"),
    "outputs": ({}, {"outputs": BOTH}, "hold logits, but the objectives need embeddings too"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_refused_with_the_reason(digits, pipeline, tiny_classifier, tmp_path, name):
    TeacherTargets(tmp_path / "t", tiny_classifier(seed=1), pipeline)
    pipeline_options, options, message = OTHERS[name]
    guide = tiny_classifier(seed=options.get("teacher", 1))
    guide.spec = dataclasses.replace(guide.spec, image_size=options.get("size", 8))
    options = {key: value for key, value in options.items() if key not in ("teacher", "size")}
    with pytest.raises(ValueError, match=message):
        TeacherTargets(tmp_path / "t", guide, ImagePipeline(digits, **pipeline_options), **options)


def test_students_of_any_size_share_what_a_teacher_says_of_its_own_pixels(digits, pipeline, tiny_classifier, tmp_path):
    before = TeacherTargets(tmp_path / "t", tiny_classifier(), pipeline)
    identity = json.loads((before.folder / "targets.json").read_text())["identity"]
    # Names and order, of which a digest is made, are those of versions that gave the teacher the student's pixels.
    assert list(identity)[-6:] == [
        "training_images", "image_size", "crop_pct", "interpolation", "precision", "augmentation",
    ]  # fmt: skip
    assert (identity["image_size"], identity["augmentation"]["crop_padding"]) == (8, 1)
    TeacherTargets(tmp_path / "t", tiny_classifier(), ImagePipeline(digits, image_size=12))


@pytest.mark.parametrize("where", ["resident", "decoded"])
def test_a_teacher_of_another_size_is_recorded_and_replayed_from_its_own_pixels(
    deterministic, digits, tiny_classifier, tmp_path, where
):
    guide, bytes_ = tiny_classifier("cifar_resnet20", seed=1), 2**30 * (where == "resident")
    pipeline = ImagePipeline(digits, image_size=5, teacher=guide.spec, resident_max_bytes=bytes_)
    seen, forward = [], guide.forward
    guide.forward = lambda images, *rest: seen.append(images.shape[-1]) or forward(images, *rest)
    runs = {
        mode: train_student(
            pipeline, tiny_classifier(), guide, tmp_path / mode, mode, tmp_path / "t",
            objectives=["kd", "rkd:weight=0.1"], learning_rate=1e-3, num_train_epochs=1,
        )
        for mode in ("live", "auto", "replay")
    }  # fmt: skip
    assert set(seen) == {8} and pipeline.resident == (where == "resident")
    assert_same_state(runs["replay"].classifier, runs["auto"].classifier)
    assert losses(runs["replay"]) == pytest.approx(losses(runs["live"]), rel=1e-3)


def test_other_images_are_refused(pipeline, tiny_classifier, tmp_path):
    TeacherTargets(tmp_path / "t", tiny_classifier(), pipeline)
    others = ImagePipeline(load_image_data("digits", max_train_samples=150, max_eval_samples=80))
    with pytest.raises(ValueError, match="differs in: training_images"):
        TeacherTargets(tmp_path / "t", tiny_classifier(), others)
    # Other test images don't matter.
    same = ImagePipeline(load_image_data("digits", max_train_samples=160, max_eval_samples=20))
    TeacherTargets(tmp_path / "t", tiny_classifier(), same)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "targets.json").write_text("{"), "targets.json is damaged"),
        (lambda f: _edit(f, format=99), "has format 99, expected at most 1; use a later hf_icckd"),
        (lambda f: (f / "targets.json").unlink(), "is not empty and holds no teacher targets"),
    ],
)
def test_damaged_folders(pipeline, tiny_classifier, tmp_path, spoil, message):
    guide = tiny_classifier().eval().to(pipeline.device)
    record_all(TeacherTargets(tmp_path / "t", guide, pipeline), guide, pipeline)
    spoil(tmp_path / "t")
    with pytest.raises(ValueError, match=message):
        TeacherTargets(tmp_path / "t", guide, pipeline)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f, g: os.truncate(f, 500), "is damaged .*; move it away, and --teacher_targets auto records it again"),
        (lambda f, g: f.write_bytes(b""), "is damaged .*; move it away, and --teacher_targets auto records it again"),
        (lambda f, g: shutil.copy(g, f), "belongs to other targets; move it away"),
        (lambda f, g: f.unlink(), "is missing: nothing is recorded of epoch 0, rows 64 on"),
    ],
)
def test_damaged_blocks(pipeline, tiny_classifier, tmp_path, spoil, message):
    guide = tiny_classifier().eval().to(pipeline.device)
    targets = TeacherTargets(tmp_path / "t", guide, pipeline)
    record_all(targets, guide, pipeline)
    first, second = sorted(targets.folder.glob("*.safetensors"))[:2]
    spoil(second, first)
    assert targets.read(0, torch.tensor([0, 63, 128]))["logits"].shape == (3, 10)
    for look in (lambda: targets.read(0, torch.tensor([0, 64])), lambda: targets.open_epoch(0)):
        with pytest.raises(ValueError, match=message):
            look()


def test_a_damaged_block_is_found_before_its_epoch_begins(digits, tiny_classifier, tmp_path):
    """By the process that trains, whose errors are one line; loading workers would add their own."""
    pipeline = ImagePipeline(digits, resident_max_bytes=0)
    guide = tiny_classifier(seed=1)
    train_student(pipeline, tiny_classifier(), guide, tmp_path / "a", "auto", tmp_path / "t", use_cpu=True)
    os.truncate(tmp_path / "t" / "epoch00001-row000000064.safetensors", 500)
    with pytest.raises(ValueError, match=r"epoch00001-row000000064\.safetensors is damaged") as caught:
        train_student(
            pipeline, tiny_classifier(), guide, tmp_path / "b", "replay", tmp_path / "t", use_cpu=True,
            dataloader_num_workers=2,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_a_place_for_targets(pipeline, tiny_classifier, tmp_path, monkeypatch):
    guide = tiny_classifier(seed=1).eval().to(pipeline.device)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"can't be written to .*file.*another folder with --teacher_targets_dir"):
        TeacherTargets(tmp_path / "file", guide, pipeline)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    TeacherTargets("~/targets", guide, pipeline)
    assert (tmp_path / "targets" / "targets.json").is_file() and not (tmp_path / "~").exists()


def test_a_disk_that_fills_up_while_recording(pipeline, tiny_classifier, tmp_path, monkeypatch):
    guide = tiny_classifier(seed=1).eval().to(pipeline.device)
    targets = TeacherTargets(tmp_path / "t", guide, pipeline)
    write, written = atomic_files.save_file, []

    def full_after_one(state, path, **options):
        if written:
            raise SafetensorError("Error while serializing: No space left on device (os error 28)")
        written.append(path)
        write(state, path, **options)

    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match=r"can't be written to .*t': .*No space left.*; the blocks in it are intact"),
    ):
        patch.setattr(atomic_files, "save_file", full_after_one)
        train_student(pipeline, tiny_classifier(), guide, tmp_path / "run", "record", tmp_path / "t")
    assert targets.missing(range(1)) == [(0, 64), (0, 128)]
    train_student(pipeline, tiny_classifier(), guide, tmp_path / "run", "record", tmp_path / "t")


@pytest.mark.parametrize("save_strategy", ["epoch", "steps", "no"])
def test_a_stop_while_recording(deterministic, pipeline, tiny_classifier, tmp_path, monkeypatch, save_strategy):
    """It waits for the block, not for the epoch; what was trained is kept, and the run that goes on is the same."""
    guide = tiny_classifier(seed=1)
    options = {"num_train_epochs": 3, "save_strategy": save_strategy}
    options |= {"save_steps": 50} if save_strategy == "steps" else {}
    whole = train_student(pipeline, tiny_classifier(), guide, tmp_path / "a", "auto", tmp_path / "ta", **options)
    record, recorded = TeacherTargets.record, []

    def stop_in_the_second_epoch(targets, epoch, start, *rest):
        recorded.append((epoch, start))
        if (epoch, start) == (1, 64):
            trainers[0].request_stop()
        record(targets, epoch, start, *rest)

    trainers = []
    begin = StudentTrainer.begin_epoch
    with monkeypatch.context() as patch:
        patch.setattr(StudentTrainer, "begin_epoch", lambda self, epoch: trainers.append(self) or begin(self, epoch))
        patch.setattr(TeacherTargets, "record", stop_in_the_second_epoch)
        cut = train_student(pipeline, tiny_classifier(), guide, tmp_path / "b", "auto", tmp_path / "tb", **options)
    assert cut.state.global_step == 5 and recorded[-1] == (1, 64)
    (found,) = checkpoints(tmp_path / "b")
    assert found.name == "checkpoint-5"
    model = tiny_classifier(seed=5)
    resumed = train_student(pipeline, model, guide, tmp_path / "b", "auto", tmp_path / "tb", str(found), **options)
    assert_same_state(resumed.classifier, whole.classifier)


def test_runs_that_record_at_once_take_turns(pipeline, tiny_classifier, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(teacher_targets, "_LOCK_SECONDS", 0.05)
    guide = tiny_classifier(seed=1).eval().to(pipeline.device)
    one, other = (TeacherTargets(tmp_path / "t", guide, pipeline) for _ in range(2))
    live = pipeline.dataset("train", training=True)
    order = []

    def slow(rows):
        order.append("first begins")
        thread.start()
        time.sleep(0.3)
        yield from run_split(guide, rows)
        order.append("first ends")

    def second():
        other.record(0, 0, Source(live, lambda rows: pytest.fail("recorded twice")))
        order.append("second")

    thread = threading.Thread(target=second)
    with caplog.at_level("INFO"):
        one.record(0, 0, Source(live, slow))
        thread.join()
    assert order == ["first begins", "first ends", "second"]
    assert "another run records into" in caplog.text


def test_precision_must_be_that_of_the_run(pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1)
    targets = TeacherTargets(tmp_path / "t", guide, pipeline)
    args = student_args(tmp_path / "run", teacher_targets="auto", bf16=True)
    with pytest.raises(ValueError, match="of a teacher in float32, the arguments say bf16"):
        StudentTrainer(tiny_classifier(), guide, args, pipeline.dataset("train", training=True), targets=targets)


def test_a_teacher_in_half_precision_is_recorded_in_several_batches(pipeline, tiny_classifier, tmp_path):
    guide = tiny_classifier(seed=1)
    runs = [
        train_student(
            pipeline, tiny_classifier(), guide, tmp_path / mode, mode, tmp_path / "targets",
            bf16=True, per_device_eval_batch_size=20, learning_rate=1e-3,
        )
        for mode in ("live", "auto")
    ]  # fmt: skip
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=2e-2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "teacher"
    teacher.main([*QUICK, "--output_dir", str(folder)])
    return folder


QUICK = ["--model", "cifar_resnet8", "--num_train_epochs", "2", "--disable_tqdm", "true", "--num_threads", "1",
         "--max_train_samples", "96", "--max_eval_samples", "40", "--eval_strategy", "no"]  # fmt: skip


def test_as_a_user_types_it(trained, tmp_path):
    words = [
        *QUICK,
        "--teacher",
        str(trained),
        "--accept_teacher",
        "true",
        "--teacher_targets_dir",
        f"{tmp_path}/targets",
    ]

    def run(name, *more):
        student.main([*words, "--output_dir", f"{tmp_path}/{name}", *more])
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        return metrics["test"], (tmp_path / name / "model.safetensors").read_bytes()

    with pytest.raises(UserError, match=r"teacher_targets_dir is .* but teacher_targets is 'live'"):
        run("live")
    with pytest.raises(UserError, match=r"there are no teacher targets in .*targets'; check --teacher_targets_dir"):
        run("replay", "--teacher_targets", "replay")
    auto = run("auto", "--teacher_targets", "auto")
    assert (tmp_path / "targets" / "epoch00001-row000000000.safetensors").stat().st_mode & 0o044
    assert run("replay", "--teacher_targets", "replay") == auto
    # The mode is free to change, but not whether targets are recorded.
    student.main([*words, "--output_dir", f"{tmp_path}/auto", "--teacher_targets", "replay"])
    with pytest.raises(UserError, match="holds another run; it differs in: recorded_targets True -> False"):
        student.main([*words[:-2], "--output_dir", f"{tmp_path}/auto"])
    with pytest.raises(UserError, match=r"differs in: augmentation .*\(--augmentation_seed 0 keeps its pixels"):
        run("other", "--teacher_targets", "auto", "--seed", "1")
    assert not (tmp_path / "other").exists()
    run("seed1", "--teacher_targets", "replay", "--seed", "1", "--augmentation_seed", "0")
