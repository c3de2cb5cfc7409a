"""Licences that a model inherits: in the records, the card and the log."""

from __future__ import annotations

import json
import logging

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_icckd import model_card
from hf_icckd.cards.card import CardData, render
from hf_icckd.cards.licences import inherited_licences, licence_notes, warn_of_licences
from hf_icckd.runs.records import read_records
from tests import ROOT

NON_COMMERCIAL = "convnextv2_atto.fcmae_ft_in1k"
OF_TEACHER = {"of": "teacher", "model": "t", "licence": "cc-by-nc-4.0"}


def folder_of_a_run(path, licence=None, metrics=None, **options):
    path.mkdir()
    (path / "README.md").write_text(f"---\nlicense: {licence}\n---\n" if licence else "# A card\n")
    (path / "all_args.yaml").write_text(yaml.safe_dump({"recipe": "teacher", "model": "resnet18", **options}))
    (path / "metrics.json").write_text(json.dumps(metrics or {}))
    return str(path)


def test_a_run_from_scratch_inherits_none():
    assert inherited_licences({"model": "resnet18", "pretrained": False, "start_from": None}) == []


def test_what_a_teacher_started_from_comes_along(tmp_path):
    start = {"of": "start weights", "model": NON_COMMERCIAL, "licence": "cc-by-nc-4.0"}
    teacher = folder_of_a_run(tmp_path / "t", "mit", {"licences": [start]})
    inherited = inherited_licences({"model": "resnet18.a1_in1k", "pretrained": True, "teacher": teacher})
    assert inherited == [
        {"of": "teacher", "model": "t", "licence": "mit"},
        {**start, "of": "teacher's start weights"},
        {"of": "start weights", "model": "resnet18.a1_in1k", "licence": "apache-2.0"},
    ]
    [note] = licence_notes(inherited, "mit")
    assert note.startswith(f"The licence of the teacher's start weights ({NON_COMMERCIAL}) is cc-by-nc-4.0")


def test_a_run_of_an_earlier_version_tells_its_start_weights(tmp_path):
    teacher = folder_of_a_run(tmp_path / "t", pretrained=True)
    (tmp_path / "t" / "all_args.yaml").write_text(
        yaml.safe_dump({"recipe": "teacher", "model": NON_COMMERCIAL, "pretrained": True, "start_from": None})
    )
    inherited = inherited_licences({"model": "x", "start_from": teacher})
    assert [each["of"] for each in inherited] == ["start weights", "start weights' start weights"]
    # The run itself is one of this package, whose maker can be asked; timm's weights are not.
    own, _ = licence_notes(inherited, None)
    assert own.startswith("No licence was given to the start weights (t), a run of hf_icckd: whoever did that run ")


@pytest.mark.parametrize(
    ("licence", "own", "words"),
    [
        ("cc-by-nc-4.0", None, "forbids commercial use"),
        ("cc-by-nc-4.0", "apache-2.0", "The licence given to this model, apache-2.0, allows more than that."),
        ("other", "apache-2.0", "read its terms"),
        ("dinov3-license", None, "read its terms"),
        (None, "mit", "No licence is stated"),
    ],
)
def test_what_may_forbid_commercial_use_is_said(licence, own, words):
    [note] = licence_notes([{**OF_TEACHER, "licence": licence}], own)
    assert " the teacher (t)" in note and words in note


def test_a_student_that_forbids_as_much_is_not_told_to_change():
    [note] = licence_notes([OF_TEACHER], "cc-by-nc-sa-4.0")
    assert "allows more" not in note


def test_open_licences_need_no_note():
    assert licence_notes([{**OF_TEACHER, "licence": "bsd-3-clause"}], None) == []


def test_the_log_warns_before_training_but_not_of_the_users_own_runs(tmp_path, caplog):
    own = folder_of_a_run(tmp_path / "own")
    with caplog.at_level(logging.WARNING):
        warn_of_licences({"model": "resnet18", "teacher": own, "license": None})
    assert not caplog.records
    elsewhere = tmp_path / "elsewhere"  # a folder of timm or transformers
    elsewhere.mkdir()
    with caplog.at_level(logging.WARNING):
        warn_of_licences({"model": "resnet18", "teacher": str(elsewhere), "license": None})
        warn_of_licences({"model": NON_COMMERCIAL, "pretrained": True, "license": "mit"})
    unknown, forbidden = (record.getMessage() for record in caplog.records)
    assert unknown.startswith("No licence is stated for the teacher (elsewhere)") and str(tmp_path) not in unknown
    assert "forbids commercial use" in forbidden and "mit, allows more" in forbidden


def test_the_card_has_rows_and_a_warning_and_keeps_the_licence_of_the_user(tmp_path):
    arguments, results = read_records(ROOT / "model_cards" / "digits-cifar_resnet8-student")
    before = render(CardData(arguments, results))
    results["licences"] = [OF_TEACHER, {"of": "start weights", "model": "a|b", "licence": None}]
    text = render(CardData(arguments, results))
    assert "| teacher's licence | `cc-by-nc-4.0` (t) |" in text
    assert r"| start weights' licence | not stated (a\|b) |" in text
    assert "> The licence of the teacher (t) is cc-by-nc-4.0, which forbids" in text
    assert "| teacher's licence" not in before and "forbids commercial" not in before

    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(arguments))
    (tmp_path / "metrics.json").write_text(json.dumps(results))
    model_card.main([str(tmp_path), "--license", "cc-by-nc-sa-4.0"])
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-nc-sa-4.0" and "allows more" not in card.text
    assert "allows more" in text and arguments["license"] == "apache-2.0"
