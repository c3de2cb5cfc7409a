"""What must hold on a GPU and can't be seen on a CPU; other tests run there too through the `device` fixture."""

from __future__ import annotations

import copy

import pytest
import torch

from hf_icckd import Augmentation, ImagePipeline
from hf_icckd.data.augment import augment
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.utils import keyed_random
from tests.training.test_teacher_targets import train_student
from tests.training.test_trainers import train_teacher

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_keyed_numbers_are_the_same_bits():
    ids = torch.arange(10_000)
    for view, stream in ((0, 0), (1, 2)):
        words = keyed_random.random_words(2**40 + 7, 3, ids, view, stream)
        assert torch.equal(keyed_random.random_words(2**40 + 7, 3, ids.cuda(), view, stream).cpu(), words)


def test_augmented_pixels_are_the_same_bits():
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    augmentation = Augmentation(crop_padding=4, min_crop_scale=None, horizontal_flip=True, seed=1)
    ids = torch.arange(64)
    expected = augment(images, augmentation, 2, ids, 1)
    assert torch.equal(augment(images.cuda(), augmentation, 2, ids, 1).cpu(), expected)


def test_resume_equals_uninterrupted_in_bf16(deterministic, pipeline, tiny_classifier, tmp_path):
    options = {
        "max_steps": 8, "save_strategy": "steps", "save_steps": 3, "terms": ["intra_class:gate=false"], "bf16": True,
        "save_total_limit": 5,
    }  # fmt: skip
    whole = train_teacher(pipeline, tiny_classifier(), tmp_path, **options)
    end = copy.deepcopy(whole.model.state_dict()), copy.deepcopy(whole.terms["intra_class"].cache.state_dict())
    first = checkpoints(tmp_path)[0]
    resumed = train_teacher(pipeline, tiny_classifier(seed=5), tmp_path, resume=str(first), **options)
    for state, module in zip(end, (resumed.model, resumed.terms["intra_class"].cache), strict=True):
        for name, value in state.items():
            assert torch.equal(value, module.state_dict()[name]), name


@pytest.mark.parametrize("where", ["resident", "decoded"])
def test_a_step_never_waits_for_the_device(digits, tiny_classifier, tmp_path, where):
    """Nor does augmentation on the device; loading workers pin what they decode."""
    more = {"trivial_augment": True, "color_jitter": 0.3, "random_erasing": 0.5}
    pipeline = ImagePipeline(
        digits, Augmentation(**more), device="cuda", resident_max_bytes=2**30 * (where == "resident")
    )
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, max_steps=3, terms=["intra_class:gate=false"])
    batches = iter(trainer.get_train_dataloader())
    if where == "decoded":
        batches = iter([next(batches), next(batches)])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.training_step(trainer.model_wrapped, next(batches))
            trainer.optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiled_step_computes_the_same(pipeline, tiny_classifier, tmp_path):
    options = {"max_steps": 3, "terms": ["intra_class:gate=false"]}
    plain = train_teacher(pipeline, tiny_classifier(), tmp_path, **options)
    compiled = train_teacher(pipeline, tiny_classifier(), tmp_path, torch_compile=True, **options)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=1e-2, atol=1e-3, msg=name)


def test_student_in_cuda_graphs_computes_the_same(pipeline, tiny_classifier, tmp_path):
    """Teacher and student are graphs of their own, which share memory: the one must not write over the other's."""
    models = {}
    for options in ({}, {"torch_compile": True, "torch_compile_mode": "reduce-overhead"}):
        teacher, student = tiny_classifier(seed=1), tiny_classifier()
        objectives = ["kd"]
        train_student(
            pipeline, student, teacher, tmp_path, "live", None, objectives=objectives, max_steps=4, **options
        )
        models[bool(options)] = student
    for name, value in models[False].state_dict().items():
        torch.testing.assert_close(models[True].state_dict()[name], value, rtol=1e-2, atol=1e-3, msg=name)
