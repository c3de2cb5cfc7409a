"""Every objective with nets of all kinds: it trains the student and its adapters, or says before that why not."""

from __future__ import annotations

import pytest
import torch

from hf_icckd import OBJECTIVES, StudentTrainer, StudentTrainingArguments, create_classifier
from hf_icckd.losses import parse_objectives

PAIRS = {
    "ResNets": ("cifar_resnet32x4", "cifar_resnet8x4", 8),
    "of two kinds": ("cifar_resnet32x4", "cifar_shufflenetv2", 8),
    "a ViT from a ResNet": ("resnet18", "test_vit", 32),
    "a ResNet from a ConvNeXt": ("test_convnext", "resnet18", 32),
}


@pytest.fixture(scope="module")
def nets(pipeline):
    """Makes the teacher and a fresh student of a pair."""
    names = pipeline.data.label_names

    def make(pair):
        torch.manual_seed(0)
        *both, size = PAIRS[pair]
        return [create_classifier(each, names, image_size=size, mean=(0.3,) * 3, std=(0.3,) * 3) for each in both]

    return make


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_every_pair(name, pair, nets, pipeline, tmp_path):
    teacher, student = nets(pair)
    args = StudentTrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, disable_tqdm=True, eval_strategy="no",
        save_strategy="no", logging_steps=1, num_threads=1, learning_rate=1e-4, accept_teacher=True, ce_weight=0,
    )  # fmt: skip
    objectives = parse_objectives([name])
    trainer = StudentTrainer(
        student, teacher, args, pipeline.dataset("train", training=True), objectives=objectives,
        labeled_dataset=pipeline.dataset("train"),
    )  # fmt: skip
    trained = {key: value.clone() for key, value in student.net.named_parameters()}
    adapters = [each.clone() for each in objectives.parameters()]
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2 and all(entry[f"loss/{term}"] >= 0 or term == "vid" for entry in logged
                                    for term in objectives.term_weights)  # fmt: skip
    moved = [key for key, value in student.net.named_parameters() if (value.cpu() != trained[key].cpu()).any()]
    assert moved
    assert all((now.cpu() != then.cpu()).any() for now, then in zip(objectives.parameters(), adapters, strict=True))
