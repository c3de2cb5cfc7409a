"""Teachers that are trained with the branches of a student: wiring, terms, what is exported, resume, refusals."""

from __future__ import annotations

import json
import math

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from hf_icckd import TeacherTrainer, create_classifier, from_pretrained, teacher
from hf_icckd.losses import parse_terms
from hf_icckd.losses.sftn import SFTN, student_branch_terms
from hf_icckd.models.student_branches import StudentBranches, student_branches
from hf_icckd.options.command_line import UserError
from hf_icckd.options.training import TeacherTrainingArguments
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.training.teacher_trainer import TeacherWithParts, check_terms
from tests.training.test_trainers import assert_same_state, teacher_args, train_teacher

NAMES = tuple("abcde")
BRANCHES = {"terms": ["sftn:student=cifar_resnet8"]}


def classifier(architecture, size=16, seed=0, **model_args):
    """With statistics and weights of its own in every BatchNorm, so that no mistake hides behind ones and zeros."""
    torch.manual_seed(seed)
    made = create_classifier(architecture, NAMES, image_size=size, model_args=model_args)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.1)
    return made


class Wrapped(TeacherWithParts):
    """A teacher and its branches as they are trained, with the branches' logits alone beside the teacher's output."""

    def __init__(self, teacher, branches):
        super().__init__(teacher, {"sftn": branches})

    @property
    def branches(self):
        return self.parts["sftn"]

    def forward(self, images):
        output, parts = super().forward(images)
        return output, parts["sftn"]


def with_branches(teacher, student):
    return Wrapped(teacher, StudentBranches(teacher, student))


def with_student_branches(teacher, architecture, seed):
    return Wrapped(teacher, student_branches(teacher, architecture, seed))


def pixels(size=16, count=4):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# Wiring


@pytest.mark.parametrize(
    ("big", "small", "size", "channels"),
    [
        ("cifar_resnet20", "cifar_resnet8", 16, [(16, 16), (32, 32)]),
        ("cifar_resnet32x4", "cifar_resnet8x4", 16, [(64, 64), (128, 128)]),
        ("cifar_wrn_40_2", "cifar_wrn_16_2", 16, [(32, 32), (64, 64)]),
        ("cifar_resnet8x4", "cifar_wrn_16_2", 16, [(64, 32), (128, 64)]),
        ("cifar_vgg13", "cifar_vgg8", 16, [(128, 128), (256, 256), (512, 512)]),
        ("cifar_vgg13", "cifar_vgg8", 18, [(128, 128), (256, 256), (512, 512)]),  # halves are rounded down
        ("cifar_resnet32x4", "cifar_shufflenetv2", 16, [(64, 116), (128, 232)]),
        ("resnet34", "resnet18", 64, [(64, 64), (128, 128), (256, 256)]),
        ("test_resnet", "resnet18", 64, [(32, 64), (48, 128), (192, 256)]),
        ("test_efficientnet", "test_efficientnet", 64, [(24, 24), (32, 32), (48, 48)]),
        ("test_convnext", "test_efficientnet", 64, [(24, 24), (32, 32), (48, 48)]),
    ],
)
def test_a_branch_behind_each_stage_but_the_last(big, small, size, channels):
    student = classifier(small, size, seed=1)
    wrapped = with_branches(classifier(big, size), student).train()
    assert len(wrapped.branches) == len(channels)
    seen = {}
    for branch in wrapped.branches:
        branch.register_forward_hook(lambda module, inputs, _: seen.setdefault(module, []).append(inputs[0]))
        branch.transform.register_forward_hook(
            lambda module, _, output: seen.setdefault(module, []).append(output.shape)
        )
    output, logits = wrapped(pixels(size))
    expected = student.eval()(pixels(size), feature_maps=True).feature_maps
    behind = [maps[-1 - len(channels) : -1] for maps in (output.feature_maps, expected)]
    for branch, given, own, pair in zip(wrapped.branches, *behind, channels, strict=True):
        assert seen[branch][0] is given
        assert seen[branch.transform][0] == own.shape
        assert (given.shape[1], own.shape[1]) == pair
    assert [each.shape for each in logits] == [(4, 5)] * len(channels)
    # DistributedDataParallel waits for a gradient of every parameter: nothing of the student is left that has no use.
    sum(each.square().sum() for each in (output.logits, *logits)).backward()
    without = [name for name, parameter in wrapped.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize(
    "architecture",
    [
        "cifar_resnet8",
        "cifar_wrn_16_2",
        "cifar_vgg8",
        "cifar_shufflenetv1",
        "cifar_shufflenetv2",
        "resnet18",
        "test_efficientnet",
        "test_convnext",
    ],
)
def test_a_branch_is_the_student_from_its_stage_on(architecture):
    """Bit for bit, fed with the student's own map; so a twin of the student gets the student's logits from it."""
    student, other = classifier(architecture, 32).eval(), classifier(architecture, 32, seed=1)
    wrapped = with_branches(other, student).eval()
    twin = with_branches(classifier(architecture, 32), student).eval()
    expected = student(pixels(32), feature_maps=True)
    assert not torch.equal(wrapped(pixels(32))[0].logits, expected.logits)
    maps = expected.feature_maps[-1 - len(wrapped.branches) : -1]
    for branch, of_twin, own in zip(wrapped.branches, twin.branches, maps, strict=True):
        branch.transform = of_twin.transform = nn.Identity()
        assert torch.equal(branch(own), expected.logits)
    output, logits = twin(pixels(32))
    assert len(logits) == (
        2 if architecture in ("cifar_resnet8", "cifar_wrn_16_2") or "shuffle" in architecture else 3
    )
    for each in (output.logits, *logits):
        assert torch.equal(each, expected.logits)


def test_maps_of_another_size_are_pooled():
    """A dilated teacher, whose maps are twice and four times as high as the student's."""
    wrapped = with_branches(classifier("cifar_wrn_16_2", output_stride=1), classifier("cifar_wrn_16_2"))
    output, _ = wrapped(pixels())
    assert [each.shape[-1] for each in output.feature_maps] == [16, 16, 16, 16]
    sizes = [
        branch.transform(each).shape[-1]
        for branch, each in zip(wrapped.branches, output.feature_maps[1:3], strict=True)
    ]
    assert sizes == [16, 8]


def test_branches_depend_on_the_seed_alone():
    def made(seed, before):
        torch.manual_seed(before)
        net = classifier("cifar_resnet8", seed=7)
        torch.manual_seed(before)
        return with_student_branches(net, "cifar_resnet8", seed)

    one = made(0, before=1)
    assert_same_state(one, made(0, before=2))
    assert_same_state(one.teacher, classifier("cifar_resnet8", seed=7))
    weights = [each.branches[0].net.layer2[0].conv1.weight for each in (one, made(1, before=1))]
    torch.manual_seed(0)
    weights.append(create_classifier("cifar_resnet8", NAMES, image_size=16).net.layer2[0].conv1.weight)
    for index, weight in enumerate(weights):
        assert not any(torch.equal(weight, other) for other in weights[:index])


# Terms


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_terms_equal_the_oracle(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits, *branch_logits = (torch.randn(6, 5, generator=generator, dtype=torch.float64) * 2 for _ in range(4))
    labels = torch.randint(5, (6,), generator=generator)
    ce = kl = 0.0
    for branch in branch_logits:
        for row, student, label in zip(logits, branch, labels.tolist(), strict=True):
            p, q = ([math.exp(x) / sum(math.exp(y) for y in each) for x in each] for each in (row, student))
            target = [smoothing / 5 + (1 - smoothing) * (c == label) for c in range(5)]
            ce -= sum(t * math.log(b) for t, b in zip(target, q, strict=True)) / 18
            kl += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 18
    terms = student_branch_terms(logits, tuple(branch_logits), labels, smoothing)
    assert terms.keys() == SFTN.term_weights.keys()
    assert terms["branch_ce"].item() == pytest.approx(ce, rel=1e-12)
    assert terms["branch_kl"].item() == pytest.approx(kl, rel=1e-12)


def test_gradients_are_those_of_the_formulas():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    labels = torch.tensor([0, 2, 1, 1])
    assert torch.autograd.gradcheck(
        lambda teacher, *branches: tuple(student_branch_terms(teacher, branches, labels, 0.1).values()), logits
    )


def test_the_divergence_teaches_the_teacher():
    """Through the maps that its branches get and, in layers behind the last branch, through its own logits."""
    wrapped = with_branches(classifier("cifar_resnet8"), classifier("cifar_resnet8", seed=1)).train()
    output, logits = wrapped(pixels())
    student_branch_terms(output.logits, logits, torch.zeros(4, dtype=torch.long))["branch_kl"].backward()
    net = wrapped.teacher.net
    for layer in (net.conv1, net.layer1[0].conv1, net.layer3[0].conv2, net.fc):
        assert layer.weight.grad.abs().sum() > 0
    # With its own logits taken as given the earlier layers get another gradient: that of the maps alone.
    both = net.conv1.weight.grad.clone()
    wrapped.zero_grad()
    output, logits = wrapped(pixels())
    student_branch_terms(output.logits.detach(), logits, torch.zeros(4, dtype=torch.long))["branch_kl"].backward()
    assert net.fc.weight.grad is None
    maps_alone = net.conv1.weight.grad
    assert maps_alone.abs().sum() > 0 and not torch.allclose(maps_alone, both, rtol=0.01)


# Training


@pytest.mark.parametrize(
    "options", [{}, {"num_views": 1, "label_smoothing": 0.1}, {"bf16": True}, {"torch_compile_backend": "eager"}]
)
def test_logs_have_named_terms(pipeline, tiny_classifier, tmp_path, options):
    model = tiny_classifier("cifar_resnet20")
    trainer = train_teacher(pipeline, model, tmp_path, max_steps=2, **BRANCHES, **options)
    assert trainer.classifier is model and list(trainer.terms) == ["sftn"]
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    for entry in logs:
        assert {name for name in entry if name.startswith("loss/")} == {"loss/ce", "loss/branch_ce", "loss/branch_kl"}
        expected = entry["loss/ce"] + entry["loss/branch_ce"] + 3 * entry["loss/branch_kl"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-5) and entry["loss/branch_kl"] > 0


def test_a_step_equals_one_by_hand(deterministic, pipeline, tiny_classifier, tmp_path):
    """Both views, smoothing and weights of the terms; weights of the teacher before and after."""
    model, other = tiny_classifier("cifar_resnet20"), tiny_classifier("cifar_resnet20")
    options = BRANCHES | {"max_steps": 1, "label_smoothing": 0.1, "weight_decay": 0.0, "momentum": 0.0}
    trainer = train_teacher(pipeline, model, tmp_path, **options)
    batch = next(iter(trainer.get_train_dataloader()))
    by_hand = with_student_branches(other.to(pipeline.device), "cifar_resnet8", seed=0).train()
    by_hand.to(memory_format=torch.channels_last)
    output, logits = by_hand(batch["pixel_values"].flatten(0, 1))
    labels = batch["labels"].repeat_interleave(2)
    loss = nn.functional.cross_entropy(output.logits, labels, label_smoothing=0.1)
    for each in logits:
        log_p, log_q = output.logits.log_softmax(1), each.log_softmax(1)
        loss = loss + nn.functional.cross_entropy(each, labels, label_smoothing=0.1) / 2
        loss = loss + 3 * (log_p.exp() * (log_p - log_q)).sum(1).mean() / 2
    loss.backward()
    for name, parameter in by_hand.named_parameters():
        stepped = parameter.detach() - 0.05 * parameter.grad
        torch.testing.assert_close(trainer.model.get_parameter(name), stepped, rtol=1e-4, atol=1e-6)


def test_resume_equals_uninterrupted(deterministic, pipeline, tiny_classifier, tmp_path):
    options = BRANCHES | {"max_steps": 7, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 5}
    whole = train_teacher(pipeline, tiny_classifier(), tmp_path, **options)
    checkpoint = checkpoints(tmp_path)[0]
    assert checkpoint.name == "checkpoint-3"  # in the middle of the first epoch of five steps
    assert any(name.startswith("parts.sftn.1.transform.") for name in load_file(checkpoint / "model.safetensors"))
    resumed = train_teacher(pipeline, tiny_classifier(seed=5), tmp_path, resume=str(checkpoint), **options)
    assert_same_state(whole.model, resumed.model)
    for name in ("loss", "loss/branch_ce", "loss/branch_kl"):
        one, other = ([entry.get(name) for entry in each.state.log_history] for each in (whole, resumed))
        assert one == other and one.count(None) < len(one)


def test_synchronised_batchnorm_reaches_the_branches(pipeline, tiny_classifier, tmp_path, monkeypatch):
    args = teacher_args(tmp_path, **BRANCHES)
    args.sync_batchnorm = True
    monkeypatch.setattr(TeacherTrainingArguments, "world_size", property(lambda self: 2))
    trainer = TeacherTrainer(tiny_classifier(), args, pipeline.dataset("train", training=True, num_views=2))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trainer.model.modules())
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in trainer.model.parts["sftn"].modules()) > 2


def test_the_recipe_exports_the_teacher_alone(tmp_path):
    words = ["--max_train_samples", "160", "--max_eval_samples", "80", "--disable_tqdm", "true", "--num_threads", "1",
             "--output_dir", f"{tmp_path}/run", "--model", "cifar_resnet20", "--max_steps", "2"]  # fmt: skip
    teacher.main([*words, "--terms", "sftn:student=cifar_resnet8"])
    plain = timm.create_model("cifar_resnet20", num_classes=10)
    assert load_file(tmp_path / "run" / "model.safetensors").keys() == plain.state_dict().keys()
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    assert sum(parameter.numel() for parameter in from_pretrained(tmp_path / "run").parameters()) == parameters
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["cost"]["parameters"] == parameters
    assert metrics["training"]["loss/branch_kl"] > 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert "branches of cifar_resnet8 (SFTN)" in card and "park2021" in card
    with pytest.raises(
        UserError,
        match=r"it differs in: terms \['sftn:weight=1,student=cifar_resnet8,pretrained=false'\] -> \['none'\]",
    ):
        teacher.main([*words, "--terms", "none"])


# Refused


@pytest.mark.parametrize(
    ("big", "small", "message"),
    [
        ("cifar_resnet8", "resnet18", "cifar_resnet8 has 3 stages, the student of the branches resnet18 4, expected"),
        (
            "test_convnext",
            "cifar_resnet8",
            "test_convnext has 4 stages, the student of the branches cifar_resnet8 3, ex",
        ),
        (
            "test_convnext",
            "test_vit",
            "made with test_vit, which has no stages of different sizes; choose convolutional",
        ),
        ("test_vit", "test_convnext", "made with test_vit, which has no stages of different sizes"),
        ("test_convnext", "mvitv2_tiny", "made of mvitv2_tiny, whose stages can't be run one by one; choose"),
        ("cifar_resnet8", "cifar_resnet9", r"unknown model 'cifar_resnet9'.*did you mean cifar_resnet8"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(big, small, message):
    with pytest.raises(ValueError, match=message):
        with_student_branches(classifier(big, 32), small, seed=0)


def test_a_net_that_returns_no_maps_is_refused(monkeypatch):
    small, big = classifier("test_efficientnet", 32), classifier("test_convnext", 32)
    monkeypatch.delattr(type(big.net), "forward_intermediates")
    with pytest.raises(ValueError, match=r"made with test_convnext, of which timm \d.* returns no feature maps"):
        with_branches(big, small)


def test_branches_of_a_pretrained_student_start_from_its_weights(monkeypatch):
    """As there is no network, what timm would load is replaced."""
    asked = []

    def made(*args, pretrained, **options):
        asked.append(pretrained)
        return create_classifier(*args, **options)

    monkeypatch.setattr("hf_icckd.models.student_branches.create_classifier", made)
    terms = parse_terms(["sftn:student=resnet18,pretrained=true"])
    assert len(terms["sftn"].trained_part(classifier("resnet34", 32), seed=0)) == 3 and asked == [True]
    given = {"weight": 1, "student": "resnet18", "pretrained": True}
    assert SFTN.describe(given) == "branches of resnet18, pretrained (SFTN)"
    with pytest.raises(
        ValueError, match="sftn pretrained is true but timm has no pretrained weights of cifar_resnet8"
    ):
        parse_terms(["sftn:student=cifar_resnet8,pretrained=true"])


def test_options_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    args = teacher_args(tmp_path, **BRANCHES)
    with pytest.raises(ValueError, match=r"terms name sftn but accelerate was told to use FSDP, .*accelerate/ddp"):
        check_terms(parse_terms(args.terms), args)


def test_a_wrong_student_ends_in_one_line_before_the_data_is_read(tmp_path):
    words = ["--dataset", f"{tmp_path}/none", "--output_dir", f"{tmp_path}/run"]
    with pytest.raises(UserError, match=r"^error: unknown model 'resnt18'"):
        teacher.main([*words, "--terms", "sftn:student=resnt18"])
    assert not (tmp_path / "run").exists()
