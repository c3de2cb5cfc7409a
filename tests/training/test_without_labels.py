"""Students that learn from images without labels, and from teachers without a fitting head."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from hf_icckd import (
    DistillationObjective,
    ImagePipeline,
    StudentTrainer,
    TeacherTrainer,
    TeacherTrainingArguments,
    WeightedObjectives,
    WeightsFile,
    create_classifier,
    load_image_data,
    save_pretrained,
    student,
)
from hf_icckd.losses import check_outputs, labeled_cross_entropy, mixed_targets, parse_objectives
from hf_icckd.models.embedding_teacher import by_embeddings, check_teacher_classes, output_shapes
from hf_icckd.models.foreign import available_outputs
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import UserError
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.training import teacher_targets
from hf_icckd.training.head_fitting import fitted_layer
from hf_icckd.training.rehearsal import rehearse
from tests.training.test_any_teacher import own_teacher
from tests.training.test_teacher_targets import losses, train_student
from tests.training.test_trainers import assert_same_state, student_args


def pipeline_of(unlabeled: int = 70, **options) -> ImagePipeline:
    data = load_image_data(
        "digits", max_train_samples=61, max_eval_samples=40, unlabeled_dataset="synthetic",
        max_unlabeled_samples=unlabeled, **options,
    )  # fmt: skip
    return ImagePipeline(data, device="cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def beside() -> ImagePipeline:
    return pipeline_of()


@pytest.fixture(scope="module")
def alone() -> ImagePipeline:
    return pipeline_of(unlabeled_only=True)


@pytest.fixture(scope="module")
def guide():
    """A teacher of 24 dimensions, with other classes than the data."""
    torch.manual_seed(1)
    return by_embeddings(create_classifier("cifar_wrn_16_2", ["cat", "dog"], image_size=8).eval())


def train(pipeline, model, teacher, folder, resume=None, **options) -> StudentTrainer:
    options = {"objectives": ["embedding"], "max_steps": 6} | options
    trainer = StudentTrainer(
        model, teacher, student_args(folder, **options), pipeline.dataset("train", training=True),
        pipeline.dataset("test"), labeled_dataset=pipeline.dataset("train"),
    )  # fmt: skip
    rehearse(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


# ---- the loss


@pytest.mark.parametrize("mixed", [False, True])
def test_cross_entropy_is_the_mean_over_labelled_images(mixed):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    batch = {"labels": torch.tensor([1, -1, 4, -1, 0, -1])}
    if mixed:
        batch |= {"mixed_labels": torch.tensor([4, -1, 0, -1, 1, -1]), "mix": torch.rand(6, generator=generator)}
    known = batch["labels"] >= 0
    targets = batch["labels"][known]
    if mixed:
        targets = mixed_targets(targets, batch["mixed_labels"][known], batch["mix"][known].double(), 5)
    expected = F.cross_entropy(logits[known], targets, label_smoothing=0.1)
    torch.testing.assert_close(labeled_cross_entropy(logits, batch, 0.1), expected)
    # Two halves of a step: the mean of both, by their images, is the same.
    of_step = {"step_rows": 6, "labeled_rows": torch.tensor(3)}
    halves = []
    for rows in (slice(0, 2), slice(2, 6)):
        own = {name: value[rows] for name, value in batch.items()} | of_step
        halves.append(len(own["labels"]) / 6 * labeled_cross_entropy(logits[rows], own, 0.1))
    torch.testing.assert_close(sum(halves), expected)


def test_a_batch_without_any_label_costs_nothing_and_keeps_the_graph():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = labeled_cross_entropy(logits, {"labels": torch.full((3,), -1)})
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_counts_the_labels_of_all_its_images(beside, tiny_classifier, tmp_path, accumulation):
    images = beside.dataset("train", training=True)
    batch = images.__getitems__(next(iter(images.batch_sampler(32, 0))))
    logits, rows = {}, batch["pixel_values"][:, 0]
    for part in rows.split(32 // accumulation):  # as BatchNorm sees them
        model = tiny_classifier().to(beside.device).train()
        logits[len(logits)] = model(part).logits
    known = batch["labels"] >= 0
    expected = F.cross_entropy(torch.cat(list(logits.values()))[known], batch["labels"][known]).item()
    trainer = train(
        beside, tiny_classifier(), tiny_classifier("cifar_resnet20", seed=1), tmp_path, objectives=["kd"], max_steps=1,
        per_device_train_batch_size=32 // accumulation, gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    first = trainer.state.log_history[0]
    assert 0 < known.sum() < 32
    assert first["loss/ce"] == pytest.approx(expected, rel=1e-5)
    assert first["loss"] == pytest.approx(first["loss/ce"] + first["loss/kd"], rel=1e-5)


# ---- the projection


def test_the_projection_is_trained_and_kept_but_not_exported(beside, tiny_classifier, guide, tmp_path):
    trainer = train(beside, tiny_classifier(), guide, tmp_path, save_strategy="steps", save_steps=6, max_steps=6)
    trainer.save_model()
    (projection,) = (each.projection for each in trainer.model.objectives)
    assert projection.weight.shape == (guide.embedding_dim, 64)
    saved = load_file(checkpoints(tmp_path)[0] / "model.safetensors")
    torch.testing.assert_close(saved["objectives.objectives.0.projection.weight"], projection.weight.detach().cpu())
    exported = load_file(tmp_path / "model.safetensors")
    assert exported.keys() == trainer.classifier.net.state_dict().keys()
    objectives = parse_objectives(["embedding"])
    objectives.build(output_shapes(trainer.classifier), output_shapes(guide), 0)
    assert not torch.equal(next(objectives.parameters()), projection.weight.cpu())  # no longer as it was made


@pytest.mark.parametrize("where", ["beside", "alone"])
def test_resume_equals_uninterrupted(deterministic, request, tiny_classifier, guide, tmp_path, where):
    pipeline = request.getfixturevalue(where)
    options = {
        "max_steps": 7,
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": 5,
        "eval_strategy": "steps",
    }
    options |= {"eval_steps": 3}
    whole = train(pipeline, tiny_classifier(), guide, tmp_path, **options)
    middle = checkpoints(tmp_path)[0]
    assert middle.name == "checkpoint-3"
    resumed = train(pipeline, tiny_classifier(seed=5), guide, tmp_path, str(middle), **options)
    assert losses(resumed) == losses(whole)
    for each in (whole, resumed):
        each.save_model()
    assert_same_state(whole.model, resumed.model)


def test_recorded_targets_hold_embeddings_alone(deterministic, beside, tiny_classifier, guide, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_targets, "BLOCK_ROWS", 64)  # the last two blocks hold images without labels
    runs = {
        mode: train_student(
            beside, tiny_classifier(), guide, tmp_path / mode, mode, tmp_path / folder, objectives=["embedding"],
            learning_rate=1e-3,
        )
        for mode, folder in (("live", ""), ("auto", "targets"), ("replay", "targets"), ("record", "recorded"))
    }  # fmt: skip
    for mode in ("replay", "record"):
        assert_same_state(runs[mode].model, runs["auto"].model)
    assert losses(runs["replay"]) == pytest.approx(losses(runs["live"]), rel=1e-3)
    blocks = sorted((tmp_path / "targets").glob("epoch00000-*.safetensors"))
    assert [list(load_file(block)) for block in blocks] == [["embeddings"]] * 3
    with pytest.raises(ValueError, match="holds the targets of something else; it differs in: training_images"):
        teacher_targets.TeacherTargets(tmp_path / "targets", guide, pipeline_of(69), ("embeddings",))


# ---- a head that nothing trains


def test_a_head_that_nothing_trains_is_a_linear_probe(alone, tiny_classifier, guide, tmp_path):
    model = tiny_classifier()
    before = model.net.get_classifier().weight.detach().clone()
    trainer = train(alone, model, guide, tmp_path)
    assert "ce" not in trainer.term_weights and "loss/ce" not in trainer.state.log_history[0]
    assert torch.equal(model.net.get_classifier().weight.cpu(), before)
    trainer.save_model()
    outputs = trainer.predict_split(alone.dataset("train"))
    weight, bias = fitted_layer(outputs.embeddings, outputs.labels, 10)
    expected = outputs.embeddings.double().cpu() @ weight.T + bias
    torch.testing.assert_close(outputs.logits.double().cpu(), expected, rtol=1e-4, atol=1e-4)
    assert (outputs.logits.argmax(dim=1) == outputs.labels).float().mean() > 0.9
    assert trainer.notes == [
        "No term of the loss trained the classification layer: after training it was fitted to the embeddings of the "
        "61 labelled training images, as a linear probe."
    ]
    assert trainer.evaluate(alone.dataset("train"))["eval_top1"] > 90


def test_the_average_of_the_weights_gets_a_head_of_its_own(alone, tiny_classifier, guide, tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 2, "model_ema": True, "model_ema_decay": 0.8}
    trainer = train(alone, tiny_classifier(), guide, tmp_path, **options)
    trainer.save_model()
    outputs = trainer.predict_split(alone.dataset("train"))  # of the average
    assert (outputs.logits.argmax(dim=1) == outputs.labels).float().mean() > 0.9
    saved = load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(saved["fc.weight"], trainer.average.module.net.fc.weight.cpu(), rtol=0, atol=0)
    weight, _ = fitted_layer(outputs.embeddings, outputs.labels, 10)
    torch.testing.assert_close(saved["fc.weight"].double(), weight, rtol=1e-3, atol=1e-4)


def test_a_head_that_can_not_be_fitted_is_an_error_before_training(alone, guide, tmp_path):
    names = alone.data.label_names
    two_heads = create_classifier("levit_128s", names, image_size=32)
    with pytest.raises(
        ValueError, match="no term of the loss trains the classification layer of levit_128s, and it can"
    ):
        train(alone, two_heads, guide, tmp_path)
    for frozen in ({"freeze_backbone": True}, {"freeze_epochs": 1}):
        with pytest.raises(ValueError, match="the backbone is to be frozen, and no term of the loss trains the class"):
            train(alone, create_classifier("cifar_resnet8", names, image_size=8), guide, tmp_path, **frozen)
    model = create_classifier("cifar_resnet8", names, image_size=8)
    with pytest.raises(ValueError, match=r"give labeled_dataset=pipeline\.dataset\('train'\)"):
        args = student_args(tmp_path, objectives=["embedding"])
        StudentTrainer(model, guide, args, alone.dataset("train", training=True))


def test_kd_alone_trains_the_head(alone, tiny_classifier, tmp_path):
    trainer = train(alone, tiny_classifier(), tiny_classifier(seed=1), tmp_path, objectives=["kd"])
    trainer.save_model()
    assert trainer.notes[1:] == [] and trainer.model.student.net.get_classifier().weight.requires_grad


# ---- teachers without a fitting head


def test_a_net_without_a_layer_for_classes_has_embeddings_only(tmp_path):
    torch.manual_seed(0)
    bare = create_classifier("test_vit", (), image_size=160).eval()
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    output = bare(images)
    features = bare.net.forward_head(bare.net.forward_features(bare.preprocess(images)), pre_logits=True)
    assert output.logits.shape == (2, 0) and torch.equal(output.embeddings, features)
    assert available_outputs(bare) == {"embeddings", "feature_maps"}
    save_pretrained(tmp_path, bare)
    again = from_pretrained(tmp_path, needs_head=False)
    assert torch.equal(again(images).embeddings, features)
    with pytest.raises(
        ValueError, match="has no classification layer, expected a classifier; it can teach by its emb"
    ):
        from_pretrained(tmp_path)


def test_any_classifier_teaches_by_its_embeddings(tiny_classifier):
    whole = tiny_classifier().eval()
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(by_embeddings(whole)(images).embeddings, whole(images).embeddings)
    assert by_embeddings(by_embeddings(whole)).embedding_dim == 64
    foreign = by_embeddings(own_teacher("4"))
    assert foreign(images).embeddings.shape == (2, 6) and available_outputs(foreign) == {"embeddings"}
    with pytest.raises(ValueError, match="the teacher Sequential has no embeddings to teach by"):
        by_embeddings(own_teacher())
    shapes = output_shapes(by_embeddings(whole), feature_maps=True)
    assert (shapes.num_classes, shapes.embedding_dim, shapes.feature_maps[-1]) == (0, 64, (64, 2, 2))


def test_what_a_teacher_has_not_is_said(guide, tiny_classifier):
    logits = r"kd compares logits, but the teacher cifar_wrn_16_2 has embeddings and feature maps only; take --obj"
    with pytest.raises(ValueError, match=logits):
        check_outputs(parse_objectives(["kd"]), guide, "teacher")
    classes = r"the teacher has 10 classes, the data set 2; .*; or let it teach by its embeddings alone: --teac"
    with pytest.raises(ValueError, match=classes):
        check_teacher_classes(tiny_classifier(), ("cat", "dog"))
    check_teacher_classes(guide, ("a", "b", "c"))


class ReadsLabels(DistillationObjective):
    """Does not say that it can do without labels."""

    term_weights: ClassVar[dict[str, float]] = {"own": 1.0}

    def forward(self, batch):
        return {"own": F.cross_entropy(batch.student.logits, batch.labels)}


def test_objectives_that_need_labels_are_refused(beside, tiny_classifier, tmp_path):
    with pytest.raises(ValueError, match="some training images have no label, but objectives name ReadsLabels, which"):
        StudentTrainer(
            tiny_classifier(), tiny_classifier(seed=1), student_args(tmp_path), beside.dataset("train", training=True),
            objectives=WeightedObjectives([(ReadsLabels(), 1.0)]),
        )  # fmt: skip


# ---- commands

QUICK = ["--max_train_samples", "60", "--max_eval_samples", "40", "--max_steps", "2", "--disable_tqdm", "true",
         "--model", "cifar_resnet8", "--num_threads", "1", "--use_cpu", "true"]  # fmt: skip
WITHOUT = ["--unlabeled_dataset", "synthetic", "--max_unlabeled_samples", "50"]


@pytest.fixture
def bare(tmp_path):
    """Folder of a net without a classification layer, as timm saves it."""
    torch.manual_seed(0)
    save_pretrained(tmp_path / "bare", create_classifier("test_vit", (), image_size=160))
    return str(tmp_path / "bare")


@pytest.mark.parametrize("only", ["true", "false"])
def test_a_command_distils_embeddings(bare, tmp_path, only, capsys):
    out = tmp_path / "run"
    words = [*QUICK, *WITHOUT, "--unlabeled_only", only, "--teacher", bare, "--objectives", "embedding",
             "--output_dir", str(out)]  # fmt: skip
    student.main(words)
    results, card = json.loads((out / "metrics.json").read_text()), (out / "README.md").read_text()
    assert results["teacher"]["by_embeddings"] and "teacher_test" not in results
    assert "agreement" not in results["test"] and results["data"]["images"]["unlabeled"] == 50
    assert "distilled from the embeddings of a frozen teacher (test_vit)" in card
    assert "its teacher, by its embeddings: test_vit" in card and "| no classes |" in card
    assert ("as a linear probe" in card) == (only == "true")
    assert ("on images without labels alone" in card) == (only == "true")
    assert "60 train, 50 unlabeled, 40 test images" in card and "agreement with the teacher" not in card
    assert from_pretrained(out).embedding_dim == 64
    hashes = np.load(out / "image_hashes.npz")
    assert len(hashes["hashes_unlabeled"]) == 50
    student.main(words)  # finished: shown again
    assert "test top-1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"it differs in: .*max_unlabeled_samples 50 -> 49"):
        student.main([*words, "--max_unlabeled_samples", "49"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WITHOUT, "--unlabeled_only", "true", "--ce_weight", "0.5"], "ce_weight is 0.5 but unlabeled_only is true"),
        (
            [*WITHOUT, "--unlabeled_only", "true", "--label_smoothing", "0.1"],
            "label_smoothing is 0.1 but unlabeled_on",
        ),
        (
            [*WITHOUT, "--unlabeled_only", "true", "--class_weights", "balanced"],
            r"class_weights is \['balanced'\] but unlabeled_only is true",
        ),
        (
            [],
            "kd compares logits, but the teacher test_vit has embeddings and feature maps only; take --objectives",
        ),
    ],
)
def test_one_line_before_the_data_are_loaded(bare, tmp_path, words, message, monkeypatch):
    monkeypatch.setattr(student, "load_pipeline", lambda *_, **__: pytest.fail("data was loaded"))
    with pytest.raises(UserError, match=message):
        student.main([*QUICK, "--teacher", bare, *words, "--output_dir", f"{tmp_path}/run"])


def test_a_teacher_of_other_classes_needs_an_option(tmp_path):
    torch.manual_seed(0)
    save_pretrained(tmp_path / "other", create_classifier("cifar_resnet8", ["cat", "dog"], image_size=8))
    words = [*QUICK, "--teacher", f"{tmp_path}/other", "--output_dir", f"{tmp_path}/run"]
    with pytest.raises(
        UserError, match=r"has 2 classes, the data set 10; .*--teacher_head false --objectives embedding"
    ):
        student.main(words)
    student.main([*words, "--teacher_head", "false", "--objectives", "embedding", "rkd"])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["teacher"]["by_embeddings"]


def test_a_file_of_weights_without_a_head_is_one_too(tmp_path):
    name = "vit_tiny_patch16_dinov3_qkvb"  # timm has it without a classification layer
    torch.manual_seed(0)
    whole = create_classifier(name, (), image_size=64).eval()
    torch.save(whole.net.state_dict(), tmp_path / "net.pth")
    about = WeightsFile(name, image_size=64)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    found = from_pretrained(tmp_path / "net.pth", about, needs_head=False)
    assert torch.equal(found(images).embeddings, whole(images).embeddings)
    with pytest.raises(
        ValueError, match=r"net.pth' has no classification layer, expected a classifier; it can teach by"
    ):
        from_pretrained(tmp_path / "net.pth", about)


def test_predictions_are_those_of_a_fitted_layer(alone, tiny_classifier, guide, tmp_path):
    """Without an evaluation before them, and after a second training to the same step."""
    trainer = train(alone, tiny_classifier(), guide, tmp_path)
    images = alone.dataset("train")
    assert trainer.predict(images).metrics["test_top1"] > 90
    layer = trainer.classifier.net.get_classifier()
    first = layer.weight.clone()
    trainer.train()
    trainer.predict(images)
    assert not torch.equal(layer.weight, first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"load_best_model_at_end": True, "metric_for_best_model": "agreement", "eval_strategy": "epoch"},
            "metric_for_best_model is 'agreement' but the teacher has no classes to agree with",
        ),
        (
            {"freeze_backbone": True, "objectives": ["embedding"]},
            "freeze_backbone is true but embedding reads nothing of the classification layer",
        ),
    ],
)
def test_what_would_train_or_compare_nothing_is_refused(beside, tiny_classifier, guide, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(beside, tiny_classifier(), guide, tmp_path, **options)


def test_a_teacher_learns_from_labels_alone(beside, tiny_classifier, tmp_path):
    args = TeacherTrainingArguments(str(tmp_path), terms=["none"], num_views=1, use_cpu=True, num_threads=1)
    with pytest.raises(ValueError, match="70 training images have no label, expected a label for each"):
        TeacherTrainer(tiny_classifier(), args, beside.dataset("train", training=True))
