"""Frozen backbones, layer-wise rates, warm-up in epochs and stochastic depth, alone and at a resume."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from hf_icckd import (
    StudentTrainer,
    TeacherTrainer,
    TeacherTrainingArguments,
    WeightedObjectives,
    create_classifier,
)
from hf_icckd.losses.objective import DistillationObjective
from hf_icckd.models.freezing import backbone_parameters
from hf_icckd.training.optimisation import parameter_groups
from hf_icckd.training.rehearsal import rehearse
from tests.training.test_trainers import student_args, teacher_args, train_teacher

STEPS = 5  # in an epoch
CE = {"terms": ["none"], "save_strategy": "steps", "save_steps": 1, "save_total_limit": 30, "max_steps": 3 * STEPS}


def changed(before: dict, model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value.cpu(), before[name].cpu())}


def state_of(model: nn.Module) -> dict:
    return copy.deepcopy(model.state_dict())


def rates_of(log: list[dict]) -> list[float]:
    return [entry["learning_rate"] for entry in log if "loss" in entry]


HEAD = {"net.fc.weight", "net.fc.bias"}


# Freezing


@pytest.mark.parametrize("accumulation", [1, 2])
def test_frozen_weights_and_statistics_keep_their_bits(pipeline, tiny_classifier, tmp_path, accumulation):
    model = tiny_classifier()
    before, at_the_switch = state_of(model), {}

    def train(steps, **options):
        sizes = {"per_device_train_batch_size": 32 // accumulation, "gradient_accumulation_steps": accumulation}
        return train_teacher(pipeline, model, tmp_path, **CE | sizes | {"max_steps": steps} | options)

    train(2 * STEPS, freeze_epochs=2)
    assert changed(before, model) == HEAD
    at_the_switch = state_of(model)
    trainer = train(2 * STEPS + 1, freeze_epochs=2, resume=f"{tmp_path}/checkpoint-{2 * STEPS}")
    assert trainer.state.global_step == 2 * STEPS + 1
    assert changed(at_the_switch, model) == set(before)
    assert all(parameter.requires_grad for parameter in model.parameters()) and model.fixed == []


def test_a_linear_probe_trains_one_layer(pipeline, tiny_classifier, tmp_path):
    model = tiny_classifier()
    before = state_of(model)
    trainer = train_teacher(pipeline, model, tmp_path, **CE, freeze_backbone=True)
    assert changed(before, model) == HEAD
    assert [each.shape for group in trainer.optimizer.param_groups for each in group["params"]] == [(10, 64), (10,)]
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert not model.training or model.train()(images).embeddings.grad_fn is None


def test_momentum_of_thawed_layers_begins_with_zero(pipeline, tiny_classifier, tmp_path):
    """The first step after the switch is that of plain SGD for them; for the head it goes on."""
    model = tiny_classifier()
    options = CE | {"freeze_epochs": 1, "lr_scheduler_type": "constant", "weight_decay": 0.0, "learning_rate": 0.01}
    train_teacher(pipeline, model, tmp_path, **options | {"max_steps": STEPS})
    before = state_of(model)
    trainer = train_teacher(
        pipeline, model, tmp_path, resume=f"{tmp_path}/checkpoint-{STEPS}", **options | {"max_steps": STEPS + 1}
    )
    buffers = trainer.optimizer.state
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            before[name] - parameter.detach(), 0.01 * buffers[parameter]["momentum_buffer"], rtol=1e-4, atol=1e-7
        )
    optimizer = torch.load(tmp_path / f"checkpoint-{STEPS}" / "optimizer.pt", weights_only=True)
    assert len(optimizer["state"]) == 2 < len(optimizer["param_groups"][0]["params"])


@pytest.fixture(scope="module")
def uncut(pipeline, tiny_classifier, tmp_path_factory):
    """Runs that nothing happened to, with a checkpoint of every step."""
    made = {}

    def run(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            trainer = train_teacher(pipeline, make(name, pipeline, tiny_classifier), folder, **OPTIONS[name])
            made[name] = folder, state_of(trainer.model), trainer.state.log_history
        return made[name]

    return run


OPTIONS = {
    "frozen": CE | {"freeze_epochs": 2},
    "adamw": CE | {"freeze_epochs": 1, "layer_decay": 0.5, "optim": "adamw_torch", "learning_rate": 1e-3,
                   "warmup_epochs": 0.6, "decay_norm_and_bias": False, "weight_decay": 0.05},
    "sgd": CE | {"layer_decay": 0.5, "lr_milestones": [0.3, 0.6], "warmup_epochs": 1.0},
    "drop": CE | {},
    "average": CE | {"freeze_epochs": 1, "model_ema": True, "model_ema_decay": 0.9},
}  # fmt: skip


def make(name, pipeline, tiny_classifier):
    if name != "drop":
        return tiny_classifier()
    torch.manual_seed(0)
    names = pipeline.data.label_names
    drops = {"drop_path_rate": 0.3, "drop_rate": 0.2}
    return create_classifier("cifar_resnet8", names, image_size=8, drop_args=drops)


@pytest.mark.parametrize(
    ("name", "step"),
    [("frozen", 3), ("frozen", 9), ("frozen", 10), ("frozen", 13), ("adamw", 4), ("adamw", 5), ("adamw", 12),
     ("sgd", 3), ("sgd", 10), ("drop", 3), ("drop", 10), ("average", 4), ("average", 8)],
)  # fmt: skip
def test_a_resumed_run_has_the_same_bits(uncut, pipeline, tiny_classifier, tmp_path, name, step):
    """Within the frozen epochs, at their end and after it; with rates by layer; with stochastic depth and dropout."""
    folder, whole, log = uncut(name)
    resumed = train_teacher(
        pipeline,
        make(name, pipeline, tiny_classifier),
        tmp_path,
        resume=str(folder / f"checkpoint-{step}"),
        **OPTIONS[name],
    )
    assert changed(whole, resumed.model) == set()
    rates = [
        [each["learning_rate"] for each in entries if "loss" in each] for entries in (log, resumed.state.log_history)
    ]
    assert rates[0] == rates[1]


def test_dropout_was_there(uncut):
    assert any(not torch.equal(value, uncut("frozen")[1][name]) for name, value in uncut("drop")[1].items())


class Projected(DistillationObjective):
    """Objective with a layer of its own."""

    term_weights: ClassVar = {"projected": 1.0}
    teacher_outputs: ClassVar = ("logits",)

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 10)

    def forward(self, batch):
        return {"projected": (self.layer(batch.student.logits) - batch.teacher.logits).square().mean()}


def test_layers_of_an_objective_are_trained_all_the_same(pipeline, tiny_classifier, tmp_path):
    model, objectives = tiny_classifier(), WeightedObjectives([(Projected(), 1.0)])
    before, own = state_of(model), state_of(objectives)
    args = student_args(tmp_path, freeze_backbone=True, max_steps=3)
    data = pipeline.dataset("train", training=True)
    trainer = StudentTrainer(model, tiny_classifier(seed=1), args, data, objectives=objectives)
    rehearse(trainer)
    trainer.train()
    assert changed(before, model) == HEAD and len(changed(own, objectives)) == 2


@pytest.mark.parametrize(
    ("term", "fails"), [("intra_class:gate=false", True), ("intra_class:embedding=logits", False)]
)
def test_a_term_that_trains_nothing_is_refused(pipeline, tiny_classifier, tmp_path, term, fails):
    args = teacher_args(tmp_path, freeze_backbone=True, terms=[term], max_steps=1)
    trainer = TeacherTrainer(tiny_classifier(), args, pipeline.dataset("train", training=True, num_views=2))
    if not fails:
        rehearse(trainer)
        trainer.train()
        return
    for start in (rehearse, lambda each: each.train()):
        with pytest.raises(ValueError, match="freeze_backbone is true but intra_class reads nothing of the classifi"):
            start(trainer)


def test_the_rehearsal_tries_all_layers(pipeline, tiny_classifier, tmp_path):
    """What is frozen at first must work later."""
    model = tiny_classifier()
    before = state_of(model)
    args = teacher_args(tmp_path, freeze_epochs=1, terms=["none"])
    trainer = TeacherTrainer(model, args, pipeline.dataset("train", training=True, num_views=2))
    with torch.no_grad():
        model.net.conv1.weight[:] = torch.inf
    with pytest.raises(FloatingPointError):
        rehearse(trainer)
    with torch.no_grad():
        model.load_state_dict(before)
    rehearse(trainer)
    assert changed(before, model) == set() and len(backbone_parameters(model)) == 27


# Rates by layer


@pytest.mark.parametrize("architecture", ["test_vit", "cifar_resnet8", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("everything", [False, True])
def test_groups_and_scales_are_those_of_timm(tmp_path, architecture, everything):
    torch.manual_seed(0)
    model = create_classifier(architecture, ["a", "b"], image_size=32)
    args = TeacherTrainingArguments(tmp_path, layer_decay=0.7, weight_decay=0.05, decay_norm_and_bias=everything)
    theirs = param_groups_layer_decay(
        model.net,
        weight_decay=0.05,
        layer_decay=0.7,
        no_weight_decay_list=() if everything else getattr(model.net, "no_weight_decay", tuple)(),
        weight_decay_exclude_1d=not everything,
    )
    found = parameter_groups(model, model.net, args)
    names = {id(parameter): name for name, parameter in model.net.named_parameters()}

    def by_name(groups, rate):
        return {names[id(each)]: (rate(group), group["weight_decay"]) for group in groups for each in group["params"]}

    expected = by_name(theirs, lambda group: 0.05 * group["lr_scale"])
    assert {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()} == by_name(
        found, lambda group: group["lr"]
    )
    assert expected.keys() == set(names.values())
    members = [{frozenset(map(id, group["params"])) for group in groups} for groups in (theirs, found)]
    assert members[0] == members[1]
    assert found[0]["lr"] == 0.05  # that of the head, which is logged


def test_the_log_has_the_rate_of_the_last_layer(uncut):
    rates = rates_of(uncut("sgd")[2])
    ramp = [0.05 * step / STEPS for step in range(STEPS)]
    assert rates == pytest.approx([*ramp, *[0.005] * 4, *[0.0005] * 6])


def test_an_objective_learns_at_the_full_rate(pipeline, tiny_classifier, tmp_path):
    objectives = WeightedObjectives([(Projected(), 1.0)])
    args = student_args(tmp_path, layer_decay=0.5)
    data = pipeline.dataset("train", training=True)
    optimizer = StudentTrainer(
        tiny_classifier(), tiny_classifier(seed=1), args, data, objectives=objectives
    ).create_optimizer()
    rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    assert all(rates[id(each)] == 0.05 for each in objectives.parameters())
    assert min(rates.values()) < 0.01


def test_a_net_of_one_layer_has_no_rates_by_layer(pipeline, tiny_classifier, tmp_path):
    model = tiny_classifier()
    model.net.group_matcher = lambda coarse: lambda name: 0
    with pytest.raises(ValueError, match=r"layer_decay is 0\.5 but timm does not divide cifar_resnet8 into layers"):
        TeacherTrainer(model, teacher_args(tmp_path, layer_decay=0.5), pipeline.dataset("train", training=True))


# Warm-up


def test_warm_up_in_epochs(pipeline, tiny_classifier, tmp_path):
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, terms=["none"], max_steps=9, warmup_epochs=1.2)
    rates = rates_of(trainer.state.log_history)
    assert rates[:7] == pytest.approx([0.05 * step / 6 for step in range(7)]) and rates[7] < 0.05
