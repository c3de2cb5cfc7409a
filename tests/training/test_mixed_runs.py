"""Runs on mixed images: what a step computes, resume, recorded targets, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from hf_icckd import Augmentation, ImagePipeline, StudentTrainer, load_image_data, student, teacher
from hf_icckd.data.loading import make_loader
from hf_icckd.losses import cross_entropy, knowledge_distillation_loss, mixed_targets
from hf_icckd.options.command_line import UserError
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.training import teacher_targets
from hf_icckd.training.rehearsal import rehearse
from tests.training.test_teacher_targets import losses, train_student
from tests.training.test_trainers import assert_same_state, student_args, train_teacher

MIXED = Augmentation(mixup=0.4, cutmix=1.0, aa="rand-m9-mstd0.5-inc1")


def mixed_pipeline(augmentation: Augmentation = MIXED, images: int = 151, **options) -> ImagePipeline:
    """An odd number of digits: the last row of an epoch is alone."""
    data = load_image_data("digits", max_train_samples=images, max_eval_samples=40)
    return ImagePipeline(data, augmentation, device="cuda" if torch.cuda.is_available() else "cpu", **options)


@pytest.fixture(scope="module")
def mixed() -> ImagePipeline:
    return mixed_pipeline()


@pytest.mark.parametrize("views", [1, 2])
def test_a_teacher_learns_both_labels(mixed, tiny_classifier, tmp_path, views):
    model = tiny_classifier()
    plain = copy.deepcopy(model).to(mixed.device).to(memory_format=torch.channels_last).train()
    trainer = train_teacher(mixed, model, tmp_path, terms=["none"], num_views=views, max_steps=1, label_smoothing=0.1)
    images = mixed.dataset("train", training=True, num_views=views)
    batch = next(iter(make_loader(images, images.batch_sampler(32, 0))))
    logits = plain(batch["pixel_values"].flatten(0, 1)).logits
    targets = mixed_targets(batch["labels"], batch["mixed_labels"], batch["mix"], 10).repeat_interleave(views, dim=0)
    expected = cross_entropy(logits, targets, 0.1).item()
    assert (batch["mix"] < 1).float().mean() > 0.7
    assert trainer.state.log_history[0]["loss/ce"] == pytest.approx(expected, rel=1e-6)


def test_a_student_copies_what_its_teacher_says_of_the_mix(mixed, tiny_classifier, tmp_path):
    guide, model = tiny_classifier("cifar_resnet20", seed=1).eval(), tiny_classifier()
    plain = copy.deepcopy(model).to(mixed.device).train()
    args = student_args(tmp_path, objectives=["kd"], ce_weight=0.0, max_steps=1)
    trainer = StudentTrainer(model, guide, args, mixed.dataset("train", training=True))
    rehearse(trainer)
    trainer.train()
    images = mixed.dataset("train", training=True)
    pixels = images.__getitems__(next(iter(images.batch_sampler(32, 0))))["pixel_values"][:, 0]
    with torch.no_grad():
        expected = knowledge_distillation_loss(plain(pixels).logits, guide(pixels).logits, 4.0).item()
    first = trainer.state.log_history[0]
    assert first["loss/kd"] == pytest.approx(expected, rel=1e-4)
    assert first["loss"] == pytest.approx(first["loss/kd"], rel=1e-6) and first["loss/ce"] > 0


@pytest.mark.parametrize("where", ["resident", "decoded"])
def test_resume_equals_uninterrupted(deterministic, tiny_classifier, tmp_path, where):
    pipeline = mixed_pipeline(resident_max_bytes=2**30 * (where == "resident"))
    options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 5, "terms": ["none"]}
    whole = train_teacher(pipeline, tiny_classifier(), tmp_path, **options)
    middle = checkpoints(tmp_path)[0]
    assert middle.name == "checkpoint-3"
    workers = {} if where == "resident" else {"dataloader_num_workers": 2}
    resumed = train_teacher(pipeline, tiny_classifier(seed=5), tmp_path, resume=str(middle), **options | workers)
    assert_same_state(whole.model, resumed.model)


def test_recorded_targets_are_those_of_the_mixes(deterministic, mixed, tiny_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_targets, "BLOCK_ROWS", 64)  # pairs stand in different blocks
    guide = tiny_classifier("cifar_resnet20", seed=1)
    runs = {
        mode: train_student(
            mixed, tiny_classifier(), guide, tmp_path / mode, mode, tmp_path / folder, learning_rate=1e-3
        )
        for mode, folder in (("live", ""), ("auto", "targets"), ("replay", "targets"), ("record", "recorded"))
    }
    for mode in ("replay", "record"):
        assert_same_state(runs[mode].classifier, runs["auto"].classifier)
    assert losses(runs["replay"]) == pytest.approx(losses(runs["live"]), rel=1e-3)
    # Another order, batch size and student: the pairs are those of the augmentation's seed.
    other = train_student(
        mixed, tiny_classifier(seed=3), guide, tmp_path / "b", "replay", tmp_path / "targets",
        seed=7, per_device_train_batch_size=21,
    )  # fmt: skip
    assert other.state.global_step == 16
    for changed in (Augmentation(mixup=0.5, cutmix=1.0, aa=MIXED.aa), Augmentation(aa=MIXED.aa), Augmentation()):
        with pytest.raises(ValueError, match="holds the targets of something else; it differs in: augmentation"):
            train_student(
                mixed_pipeline(changed), tiny_classifier(), guide, tmp_path / "c", "replay", tmp_path / "targets"
            )


def test_what_compares_single_images_is_refused(mixed, tiny_classifier, tmp_path):
    with pytest.raises(ValueError, match=r"mixup or CutMix mixes the training images, but terms name intra_class"):
        train_teacher(mixed, tiny_classifier(), tmp_path, terms=["intra_class"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mixup", "0.2", "--terms", "intra_class"], "terms name intra_class, which needs the one label"),
        (["--mixup", "-1"], "mixup is -1.0, expected 0, for none"),
        (["--aa", "rand-x9"], "aa is 'rand-x9': its section 'x9' is not one of"),
        (["--mixup_mode", "batch"], "unknown option --mixup_mode: images are mixed in pairs"),
        (["--cutmix_alpha", "1"], "unknown option --cutmix_alpha: here it is --cutmix"),
    ],
)
def test_one_line_before_anything_is_loaded(tmp_path, words, message, monkeypatch):
    monkeypatch.setattr(teacher, "load_pipeline", lambda *_, **__: pytest.fail("data was loaded"))
    with pytest.raises(UserError, match=message):
        teacher.main([*words, "--output_dir", f"{tmp_path}/run"])
    assert not (tmp_path / "run").exists()


def test_a_stream_is_refused(monkeypatch):
    data = load_image_data("digits", max_train_samples=20, max_eval_samples=20)
    monkeypatch.setattr(type(data), "streamed", property(lambda self: True))
    with pytest.raises(ValueError, match=r"mixup is 0\.4 and cutmix 1\.0, expected 0 with streaming"):
        ImagePipeline(data, MIXED)


def test_commands_train_teacher_and_student_on_mixes(tmp_path):
    words = ["--model", "cifar_resnet8", "--max_steps", "3", "--disable_tqdm", "true", "--num_threads", "1",
             "--use_cpu", "true", "--max_train_samples", "90", "--max_eval_samples", "40", "--mixup", "0.2",
             "--cutmix", "1", "--aa", "original-mstd0.5"]  # fmt: skip
    teacher.main([*words, "--terms", "none", "--output_dir", f"{tmp_path}/teacher"])
    student.main(
        [*words, "--teacher", f"{tmp_path}/teacher", "--teacher_targets", "auto", "--teacher_targets_dir",
         f"{tmp_path}/targets", "--ce_weight", "0", "--accept_teacher", "true", "--allow_leakage", "true",
         "--output_dir", f"{tmp_path}/student"]
    )  # fmt: skip
    card = (tmp_path / "student" / "README.md").read_text()
    assert "mixup: 0.2" in card and "aa: original-mstd0.5" in card
    with pytest.raises(UserError, match=r"holds another run; it differs in: mixup 0\.2 -> 0\.3"):
        teacher.main([*words, "--mixup", "0.3", "--terms", "none", "--output_dir", f"{tmp_path}/teacher"])
