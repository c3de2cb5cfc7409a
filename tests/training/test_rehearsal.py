"""The rehearsal: what can't work is one error before the first step, and what can is not changed by a bit."""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from hf_icckd import (
    ImagePipeline,
    StudentTrainer,
    TeacherTargets,
    TeacherTrainer,
    create_classifier,
    load_image_data,
    teacher,
)
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.losses import TeacherTerm, WeightedTerms
from hf_icckd.models.architectures import default_cfg
from hf_icckd.models.cifar_resnet import NARROW, CifarResNet
from hf_icckd.runs.checkpoints import clear_staging
from hf_icckd.training import rehearsal
from hf_icckd.training.rehearsal import FirstImages, rehearse
from tests.data.test_streamed import write
from tests.training.test_trainers import assert_same_state, student_args, teacher_args

_CFG = default_cfg("cifar_resnet8").to_dict()
default_cfgs = generate_default_cfgs({"pretrained_resnet": _CFG})


@register_model
def pretrained_resnet(pretrained: bool = False, **options) -> nn.Module:
    """A net that is another one when weights are loaded into it."""
    net = build_model_with_cfg(
        CifarResNet, "pretrained_resnet", pretrained, layers=(1, 1, 1), widths=NARROW, **options
    )
    if not pretrained:
        net.act1 = nn.SiLU()
    return net


@pytest.fixture
def make(pipeline, tiny_classifier, tmp_path):
    """Makes a trainer of a teacher."""

    def make(classifier=None, terms=None, data=pipeline, **options) -> TeacherTrainer:
        args = teacher_args(tmp_path / "run", **options)
        images = data.dataset("train", training=True, num_views=args.num_views)
        model = classifier or tiny_classifier()
        return TeacherTrainer(model, args, images, data.dataset("test"), terms=terms)

    return make


@pytest.fixture
def only(monkeypatch):
    """Leaves one part of the rehearsal."""

    def only(part: str) -> None:
        monkeypatch.setattr(rehearsal, "_PARTS", {part: rehearsal._PARTS[part]})

    return only


def generators() -> list:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def without_times(history: list[dict]) -> list[dict]:
    times = ("images_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second")
    return [{name: value for name, value in entry.items() if name not in times} for entry in history]


def test_a_run_has_the_same_bits_with_and_without(deterministic, make, tiny_classifier, caplog):
    caplog.set_level(logging.INFO, "hf_icckd")
    plain, rehearsed = (make(tiny_classifier(), eval_strategy="epoch") for _ in range(2))
    before = generators()
    rehearse(rehearsed)
    assert generators() == before
    assert rehearsed.optimizer is None and rehearsed.averages.sums is None
    assert all(parameter.grad is None for parameter in rehearsed.model.parameters())
    assert any(record.message.startswith("rehearsal: ") for record in caplog.records)
    assert not list(Path(rehearsed.args.output_dir).iterdir())
    plain.train()
    rehearsed.train()
    assert_same_state(rehearsed.model, plain.model)
    assert_same_state(rehearsed.terms, plain.terms)
    assert without_times(rehearsed.state.log_history) == without_times(plain.state.log_history)


@pytest.fixture
def make_student(pipeline, tiny_classifier, tmp_path):
    """Makes a trainer of a student, whose targets, if there are any, are its own."""

    def make_student(name: str = "run", teacher_targets: str = "auto", **options) -> StudentTrainer:
        guide, targets = tiny_classifier(seed=1), None
        if teacher_targets != "live":
            targets = TeacherTargets(tmp_path / f"{name}-targets", guide, pipeline, ("logits", "embeddings"))
        args = student_args(
            tmp_path / name, objectives=["kd", "rkd"], teacher_targets=teacher_targets, max_steps=2, **options
        )
        data = pipeline.dataset("train", training=True), pipeline.dataset("test")
        return StudentTrainer(tiny_classifier(), guide, args, *data, targets=targets)

    return make_student


def test_a_student_has_the_same_bits_and_nothing_is_recorded(deterministic, make_student):
    plain, rehearsed = make_student("plain"), make_student("rehearsed")
    recorded = sorted(rehearsed.targets.folder.rglob("*"))
    rehearse(rehearsed)
    assert sorted(rehearsed.targets.folder.rglob("*")) == recorded
    plain.train()
    rehearsed.train()
    assert_same_state(rehearsed.model, plain.model)


def test_nothing_is_compiled(make_student, monkeypatch):
    monkeypatch.setattr(rehearsal, "check_reload", lambda classifier: None)
    torch._dynamo.utils.counters.clear()
    rehearse(make_student(teacher_targets="live", torch_compile=True))
    assert torch._dynamo.utils.counters["frames"]["total"] == 0


def test_it_can_be_left_out(make, monkeypatch):
    monkeypatch.setattr(rehearsal, "_PARTS", {"nothing": lambda trainer: pytest.fail("it was not left out")})
    rehearse(make(rehearsal=False))


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext", "test_efficientnet"])
def test_nets_that_work_pass(make, pipeline, architecture, caplog):
    trainer = make(create_classifier(architecture, pipeline.data.label_names), terms=WeightedTerms({}))
    rehearse(trainer)
    assert "gradient" not in caplog.text


def test_a_parameter_that_only_the_nets_own_forward_reads(make, tiny_classifier):
    model = tiny_classifier()
    net = model.net
    net.gain = nn.Parameter(torch.ones(()))
    net.forward = lambda images: type(net).forward(net, images) * net.gain
    with pytest.raises(ValueError, match=r"net\.gain would never be trained.*cifar_resnet8.*--rehearsal false"):
        rehearse(make(model))


def test_a_parameter_that_nothing_reads(make, tiny_classifier, caplog, monkeypatch, only):
    model = tiny_classifier()
    model.net.never_read = nn.Parameter(torch.zeros(1))
    trainer = make(model)
    only("a training step")
    rehearse(trainer)
    assert "net.never_read gets no gradient and keeps its first value" in caplog.text
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    with pytest.raises(ValueError, match="DDP would wait for it; give --ddp_find_unused_parameters true"):
        rehearse(trainer)
    trainer.args.ddp_find_unused_parameters = True
    rehearse(trainer)


def test_a_net_that_is_read_back_as_another_one(make, tiny_classifier):
    with pytest.raises(
        ValueError,
        match="pretrained_resnet is read by this package as another net",
    ):
        rehearse(make(tiny_classifier("pretrained_resnet")))


class Constant(TeacherTerm):
    """A term of one value, given for batches of at most some images."""

    default_weight, term_weights = 1.0, {"constant": 1.0}

    def __init__(self, value: float, largest: int = 1000):
        super().__init__()
        self.value, self.largest, self.seen = value, largest, []

    def forward(self, batch):
        self.seen.append(len(batch.labels))
        return {"constant": batch.logits.sum() * 0 + (self.value if len(batch.labels) <= self.largest else 0)}


def test_a_loss_that_is_not_finite(make):
    term = Constant(float("nan"))
    with pytest.raises(FloatingPointError, match="loss/constant is not finite for the first 32 images"):
        rehearse(make(terms=WeightedTerms({"constant": (term, 1.0)})))
    assert term.seen == [2, 32]


def test_what_fails_with_two_images_only_is_no_fault(make):
    rehearse(make(terms=WeightedTerms({"constant": (Constant(float("nan"), largest=2), 1.0)})))


def test_a_gradient_that_is_not_finite(make, only):
    class Root(TeacherTerm):
        default_weight, term_weights = 1.0, {"root": 1.0}

        def forward(self, batch):
            return {"root": (batch.logits.sum() * 0).abs().sqrt()}

    only("a training step")
    with pytest.raises(FloatingPointError, match=r"the gradient of \S+ is not finite"):
        rehearse(make(terms=WeightedTerms({"root": (Root(), 1.0)})))


def test_batchnorm_with_one_image(make, tiny_classifier, only):
    only("a training step")
    with pytest.raises(ValueError, match=r"a training step would fail: a step has 1 image .*BatchNorm needs two"):
        rehearse(make(tiny_classifier("test_byobnet"), WeightedTerms({}), per_device_train_batch_size=1, num_views=1))


def test_the_smallest_batch_of_an_epoch_is_what_is_tried(make):
    assert rehearsal._smallest_batch(make(per_device_train_batch_size=79, max_steps=-1)) == 2
    assert rehearsal._smallest_batch(make(per_device_train_batch_size=79, max_steps=3)) == 2
    assert rehearsal._smallest_batch(make(per_device_train_batch_size=79, max_steps=2)) == 79
    assert rehearsal._smallest_batch(make(per_device_train_batch_size=53, max_steps=-1)) == 53  # one image is left out
    assert rehearsal._smallest_batch(make(per_device_train_batch_size=1000)) == 160


def test_cost_that_can_not_be_measured(make, monkeypatch):
    def fail(model, repeats):
        raise RuntimeError("no rule for this operation\n" * 50)

    monkeypatch.setattr(rehearsal, "cost_metrics", fail)
    with pytest.raises(ValueError, match="the measurement of the cost would fail: RuntimeError: no rule") as caught:
        rehearse(make())
    text = str(caught.value)
    assert len(text) <= 400 and "\n" not in text and text.endswith("; --rehearsal false leaves the rehearsal out")


def test_state_that_a_checkpoint_can_not_hold(make):
    trainer = make(save_strategy="epoch")
    trainer.stateful["own"] = SimpleNamespace(state_dict=lambda: {"step": 3})
    with pytest.raises(ValueError, match="writing and reading a checkpoint would fail"):
        rehearse(trainer)


def test_a_disk_without_room(make, monkeypatch, only, caplog):
    only("writing and reading a checkpoint")
    trainer = make(save_strategy="epoch")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"has 0.0 MB free, and a checkpoint takes 0\.\d MB"):
        rehearse(trainer)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=800_000))
    rehearse(trainer)
    assert "too little for 3 checkpoints" in caplog.text
    monkeypatch.setattr(rehearsal, "OPTIMIZER_FILE", "no/such/folder")  # without checkpoints, only weights are tried
    rehearse(make(save_strategy="no"))


def test_a_run_that_can_not_work_leaves_no_folder(pipeline, tmp_path, monkeypatch):
    def fail(model, repeats):
        raise RuntimeError("no rule")

    monkeypatch.setattr(rehearsal, "cost_metrics", fail)
    words = ["--model", "cifar_resnet8", "--max_train_samples", "64", "--max_eval_samples", "20", "--num_threads", "1",
             "--max_steps", "1", "--disable_tqdm", "true", "--output_dir", f"{tmp_path}/run"]  # fmt: skip
    with pytest.raises(SystemExit, match="error: the measurement of the cost would fail"):
        teacher.main(words)
    assert not (tmp_path / "run").exists()


def test_first_images_of_large_images_too(tmp_path, digits):
    pipeline = ImagePipeline(digits, image_size=16, resident_max_bytes=0)
    first = FirstImages(pipeline.dataset("train", training=True), 3)
    [key] = first.batch_sampler(32, 0)
    whole = next(iter(first.dataset.batch_sampler(32, 0)))
    assert key.indices.tolist() == whole.indices[:3].tolist() and key.global_rows == 3
    assert len(first) == 3 and first.__getitems__(key)["pixel_values"].shape == (3, 1, 3, 16, 16)


@pytest.mark.parametrize("teacher_size", [8, 12])
def test_a_stream_is_read_in_order(tmp_path, monkeypatch, teacher_size):
    write(tmp_path / "data", 45)
    write(tmp_path / "data", 12, "test", files=1)
    pipeline = ImagePipeline(load_image_data(str(tmp_path / "data"), streaming=True))
    names, read, seeds = pipeline.data.label_names, StreamedSplit.read, []
    monkeypatch.setattr(StreamedSplit, "read", lambda *given: seeds.append(given[1]) or read(*given))
    guide, student = (create_classifier("cifar_resnet8", names, image_size=size) for size in (teacher_size, 12))
    images = pipeline.dataset("train", training=True)
    trainer = StudentTrainer(student, guide, student_args(tmp_path / "run", eval_strategy="no"), images)
    rehearsal._try_step(trainer, 2)
    assert seeds == [None]  # shuffling would read thousands of images ahead


def test_what_a_killed_rehearsal_left_is_removed(make, monkeypatch, only):
    trainer = make()
    folder = Path(trainer.args.output_dir)
    only("writing and reading a checkpoint")
    with monkeypatch.context() as killed:
        killed.setattr(tempfile.TemporaryDirectory, "cleanup", lambda self: self._finalizer.detach())
        rehearse(trainer)
    assert [each.suffix for each in folder.glob("*/*")]
    clear_staging(folder)
    assert not list(folder.iterdir())
