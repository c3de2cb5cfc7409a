"""Records of runs, also of those that version 0.1 wrote."""

from __future__ import annotations

import json

import pytest
import yaml

from hf_icckd.cards.method import citations, how_trained
from hf_icckd.losses import TEACHER_TERMS, term_arguments
from hf_icckd.runs.records import method_of, read_options, read_records

DEFAULTS = {
    "intra_class_weight": 0.05, "intra_class_margin": 0.2, "intra_class_gate": True, "intra_class_temperature": 0.1,
    "cache_size_per_class": 32, "intra_class_embedding": "embeddings", "in_batch_negatives": True,
    "student_branches": None,
}  # fmt: skip
TEACHER = {
    "recipe": "teacher", "model": "cifar_resnet20", "pretrained": False, "seed": 0, "label_smoothing": 0.0,
    "num_views": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "terms", "words"),
    [
        ({}, ["intra_class"], "cross-entropy + 0.05 x intra-class term, two views"),
        ({"intra_class_weight": 0.0}, ["none"], "cross-entropy, two views"),
        (
            {"intra_class_weight": 0.0, "student_branches": "cifar_resnet8"},
            ["sftn:student=cifar_resnet8"],
            "cross-entropy + branches of cifar_resnet8 (SFTN), two views",
        ),
        (
            {"intra_class_weight": 0.5, "intra_class_gate": False, "intra_class_embedding": "logits"},
            ["intra_class:weight=0.5,gate=false,embedding=logits"],
            "cross-entropy + 0.5 x intra-class term, two views",
        ),
    ],
)
def test_a_run_of_an_earlier_version_is_read(tmp_path, old, terms, words):
    """A teacher of 0.1 is named in the cards of its students, and of teachers that start from it."""
    options = TEACHER | DEFAULTS | old
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(options))
    of_start = {"method": TEACHER | {"intra_class_weight": 0.05, "student_branches": None}}
    results = {"test": {}, "cost": {}, "environment": {}, "start": of_start, "options": old, "history": [{"epoch": 1}]}
    (tmp_path / "metrics.json").write_text(json.dumps(results))
    arguments, read = read_records(tmp_path)
    assert arguments == read_options(tmp_path)
    assert term_arguments(arguments.pop("terms")) == term_arguments(terms)
    assert arguments == TEACHER  # nothing else has changed, and nothing old is left
    assert read["start"]["method"] == TEACHER | {"terms": ["intra_class:weight=0.05"]}
    assert read["history"] == results["history"]
    assert term_arguments(read["options"].get("terms", ["intra_class"])) == term_arguments(terms)
    method = method_of(read_options(tmp_path))
    assert how_trained(method) == words
    assert citations(method) == [TEACHER_TERMS[name].citation for name in term_arguments(terms)]


def test_what_is_no_record_of_a_teacher_stays_as_it_is(tmp_path):
    options = {"recipe": "student", "model": "cifar_resnet8", "objectives": ["kd"], "nested": [{"a": None}]}
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(options))
    assert read_options(tmp_path) == options
    assert read_options(tmp_path / "nowhere") == {}
