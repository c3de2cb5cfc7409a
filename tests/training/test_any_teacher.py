"""Students of teachers that are not timm's, or are not in a folder of ours."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch
import yaml
from torch import nn
from transformers import AutoModelForImageClassification, ViTConfig

from hf_icckd import (
    KD,
    DistillationObjective,
    StudentTrainer,
    TeacherTargets,
    WeightedObjectives,
    as_teacher,
    create_classifier,
    evaluate,
    predict_split,
    split_metrics,
    student,
    teacher,
)
from hf_icckd.cards.content import hub_id
from hf_icckd.demo import comparison
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.losses import IntraClassTerm, check_outputs, parse_objectives
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import UserError
from tests.training.test_trainers import student_args

NAMES = [str(digit) for digit in range(10)]
QUICK = ["--max_train_samples", "80", "--max_eval_samples", "40", "--max_steps", "2", "--disable_tqdm", "true",
         "--model", "cifar_resnet8", "--num_threads", "1"]  # fmt: skip


def own_teacher(layer=None):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    return as_teacher(module, NAMES, image_size=8, mean=(0.5,) * 3, std=(0.3,) * 3, embeddings=layer)


class OwnObjective(DistillationObjective):
    """Does not say what it reads."""

    term_weights: ClassVar[dict[str, float]] = {"own": 1.0}

    def forward(self, batch):
        return {"own": batch.student.logits.mean()}


@pytest.mark.parametrize(("layer", "objectives"), [(None, ["kd"]), ("4", ["kd", "rkd"])])
def test_any_module_teaches(pipeline, tiny_classifier, tmp_path, layer, objectives):
    own = own_teacher(layer)
    args = student_args(tmp_path, objectives=objectives, max_steps=2)
    trainer = StudentTrainer(
        tiny_classifier(), own, args, pipeline.dataset("train", training=True), pipeline.dataset("test")
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss/kd"] > 0
    measured = split_metrics(trainer.evaluation_teacher(pipeline.dataset("test")))
    assert ("nc1" in measured) == (layer is not None) and measured["soft_label_information"] >= 0


def test_recorded_targets_of_any_module(pipeline, tiny_classifier, tmp_path):
    own = own_teacher()
    targets = TeacherTargets(tmp_path / "targets", own, pipeline)
    args = student_args(tmp_path / "run", teacher_targets="record", max_steps=2)
    trainer = StudentTrainer(tiny_classifier(), own, args, pipeline.dataset("train", training=True), targets=targets)
    trainer.train()
    assert not targets.missing(range(1))
    with pytest.raises(ValueError, match="holds the targets of something else; it differs in: teacher '"):
        TeacherTargets(tmp_path / "targets", as_teacher(
            nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), NAMES, image_size=8, mean=(0.5,) * 3, std=(0.3,) * 3
        ), pipeline)  # fmt: skip
    with pytest.raises(ValueError, match="teacher Sequential has no embeddings to record; take --objectives kd"):
        TeacherTargets(tmp_path / "other", own, pipeline, ("logits", "embeddings"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("mode", ["live", "record"])
def test_a_module_without_parameters_teaches(pipeline, tiny_classifier, tmp_path, mode):
    module = nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10))
    own = as_teacher(module, NAMES, image_size=8, mean=(0.5,) * 3, std=(0.3,) * 3)
    targets = None if mode == "live" else TeacherTargets(tmp_path / "targets", own, pipeline)
    args = student_args(tmp_path / "run", teacher_targets=mode, max_steps=1)
    data = pipeline.dataset("train", training=True), pipeline.dataset("test")
    StudentTrainer(tiny_classifier(), own, args, *data, targets=targets).train()
    assert cost_metrics(own, repeats=1)["parameters"] == 0


def test_only_what_reads_embeddings_is_refused(pipeline, tiny_classifier, tmp_path):
    own = own_teacher()
    check_outputs(parse_objectives(["kd"]), own, "teacher")
    with pytest.raises(
        ValueError, match=r"objective rkd compares embeddings, but the teacher Sequential has logits onl"
    ):
        check_outputs(parse_objectives(["kd", "rkd"]), own, "teacher")
    with pytest.raises(
        ValueError,
        match=r"OwnObjective compares embeddings.* only; take --objectives kd or dkd or dist, or .* say so in",
    ):
        check_outputs(WeightedObjectives([(KD(), 1.0), (OwnObjective(), 1.0)]), own, "teacher")
    dataset = pipeline.dataset("train", training=True)
    for role, pair in {"teacher": (tiny_classifier(), own), "student": (own, tiny_classifier())}.items():
        with pytest.raises(ValueError, match=f"the objective rkd compares embeddings, but the {role} Sequential has"):
            StudentTrainer(*pair, student_args(tmp_path, objectives=["rkd"]), dataset)
    with pytest.raises(
        ValueError, match=r"the teacher is a Linear, expected an ImageClassifier; make one of it with hf_"
    ):
        StudentTrainer(tiny_classifier(), nn.Linear(2, 2), student_args(tmp_path), dataset)
    with pytest.raises(
        ValueError, match="term intra_class compares embeddings, which Sequential does not have; compare"
    ):
        IntraClassTerm().attach(own)


def test_metrics_and_demo_leave_embeddings_out(pipeline):
    own, data = own_teacher(), pipeline.data
    outputs = predict_split(own, pipeline.dataset("test"))
    assert outputs.embeddings is None and outputs.logits.shape == (len(data.test), 10)
    assert comparison.class_means(own, data.test, data.labels("test")) is None


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """Folder of a small ViT, as transformers saves it."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label=dict(enumerate(NAMES)), label2id={name: index for index, name in enumerate(NAMES)},
    )  # fmt: skip
    AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 16, "width": 16}}))
    return folder


def test_a_folder_of_transformers_teaches_and_is_measured(vit, tmp_path, capsys):
    out = tmp_path / "run"
    student.main(
        [
            *QUICK,
            "--accept_teacher",
            "true",
            "--teacher",
            str(vit),
            "--objectives",
            "kd",
            "rkd",
            "--output_dir",
            str(out),
        ]
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["teacher"]["architecture"] == "ViTForImageClassification"
    assert "nc1" in metrics["teacher_test"] and (out / "embedding_map.png").is_file()
    assert yaml.safe_load((out / "all_args.yaml").read_text())["teacher_fingerprint"]
    card = (out / "README.md").read_text()
    assert "its teacher: ViTForImageClassification" in card and str(vit) not in card.partition("## ")[0]
    assert (from_pretrained(out).spec.mean, from_pretrained(out).spec.crop_mode) == ((0.5, 0.5, 0.5), "squash")
    evaluate.main(["--model", str(out), "--teacher", str(vit), "--max_eval_samples", "40"])
    evaluate.main(["--model", str(vit), "--dataset", "digits", "--max_eval_samples", "40"])
    assert "test top-1" in capsys.readouterr().out
    with pytest.raises(
        UserError, match="is a ViTForImageClassification, which is not a net of timm: it can teach but"
    ):
        teacher.main([*QUICK, "--start_from", str(vit), "--output_dir", str(tmp_path / "more")])


def test_a_file_of_weights_teaches_by_recorded_targets(tmp_path):
    torch.manual_seed(0)
    file, out = tmp_path / "net.pth.tar", tmp_path / "run"
    torch.save({"state_dict": create_classifier("cifar_resnet8", NAMES).net.state_dict()}, file)
    about = ["--teacher", str(file), "--teacher_model", "cifar_resnet8"]
    with pytest.raises(UserError, match="does not say how images were normalised"):
        student.main([*QUICK, "--accept_teacher", "true", *about, "--output_dir", str(out)])
    about += ["--teacher_mean", "0.5", "0.5", "0.5", "--teacher_std", "0.3", "0.3", "0.3", "--teacher_image_size", "8"]
    recorded = ["--teacher_targets", "auto", "--teacher_targets_dir", str(tmp_path / "targets")]
    student.main([*QUICK, "--accept_teacher", "true", *about, *recorded, "--output_dir", str(out)])
    values = yaml.safe_load((out / "all_args.yaml").read_text())
    assert (values["teacher_model"], values["teacher_std"]) == ("cifar_resnet8", [0.3, 0.3, 0.3])
    assert from_pretrained(out).spec.std == (0.3, 0.3, 0.3)
    assert json.loads((out / "metrics.json").read_text())["teacher"]["hub_id"] is None


def test_options_of_a_file_of_weights_need_one(tmp_path):
    for options, message in [
        (["--teacher_std", "0.3", "0.3", "0.3"], r"teacher_std is \[0.3, 0.3, 0.3\] but there is no teacher_model"),
        (["--teacher_model", "resnet18", "--teacher_mean", "120", "110", "100"], "expected three numbers from 0 to 1"),
    ]:
        with pytest.raises(UserError, match=message):
            student.main([*QUICK, "--accept_teacher", "true", *options, "--output_dir", str(tmp_path / "run")])


def test_names_of_the_hub_in_the_card(tmp_path):
    (tmp_path / "net.pth").touch()
    expected = {
        "me/net": "me/net",
        "hf-hub:me/net@v2": "me/net",
        str(tmp_path / "net.pth"): None,
        "gone/net.pth": None,
    }
    assert {name: hub_id(name) for name in expected} == expected
