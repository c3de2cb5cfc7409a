"""Every net of the literature: both trainers train it, and both stock libraries read it back."""

from __future__ import annotations

import pytest
import timm
import torch
from transformers import AutoModelForImageClassification

from hf_icckd import (
    StudentTrainer,
    StudentTrainingArguments,
    TeacherTrainer,
    TeacherTrainingArguments,
    save_pretrained,
)

NETS = sorted(timm.list_models("cifar_*"))
SHORT = {
    "max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True, "eval_strategy": "no",
    "save_strategy": "no", "num_threads": 1, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_it_teaches_learns_and_is_read_back(name, pipeline, tiny_classifier, tmp_path):
    folder = str(tmp_path)
    teacher = tiny_classifier(name)
    args = TeacherTrainingArguments(output_dir=folder, **SHORT)
    TeacherTrainer(teacher, args, pipeline.dataset("train", training=True, num_views=2)).train()
    student = tiny_classifier(name, seed=1)
    before = [each.clone() for each in student.net.parameters()]
    args = StudentTrainingArguments(output_dir=folder, accept_teacher=True, **SHORT)
    trainer = StudentTrainer(student, teacher, args, pipeline.dataset("train", training=True))
    trainer.train()
    net = student.net.cpu()
    assert all((now.cpu() != then.cpu()).any() for now, then in zip(net.parameters(), before, strict=True))
    save_pretrained(tmp_path / "net", student)
    images = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        expected = net.eval()(images)
        in_timm = timm.create_model(f"local-dir:{tmp_path}/net", pretrained=True).eval()(images)
        model = AutoModelForImageClassification.from_pretrained(tmp_path / "net").eval()
        in_transformers = model(pixel_values=images).logits
    for logits in (in_timm, in_transformers):
        assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
