"""The seam of teacher terms: specs and their meaning, several terms at once, a term of one's own."""

from __future__ import annotations

import pytest
import torch

from hf_icckd import TeacherTerm, TeacherTrainer, WeightedTerms
from hf_icckd.losses import (
    TEACHER_TERMS,
    IntraClassTerm,
    describe_terms,
    full_specs,
    parse_terms,
    set_term_argument,
    term_arguments,
)
from hf_icckd.options.renamed import new_spelling
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.training.teacher_trainer import check_terms
from tests.training.test_trainers import assert_same_state, teacher_args, train_teacher

DEFAULTS = {
    "weight": 0.05,
    "margin": 0.2,
    "gate": True,
    "temperature": 0.1,
    "cache_size": 32,
    "embedding": "embeddings",
    "in_batch_negatives": True,
}


@pytest.mark.parametrize(
    ("specs", "meaning"),
    [
        ([], {}),
        (["none"], {}),
        (["intra_class:weight=0"], {}),
        (["intra_class"], {"intra_class": DEFAULTS}),
        (
            ["intra_class:weight=1,gate=False,embedding=logits"],
            {"intra_class": DEFAULTS | {"weight": 1, "gate": False, "embedding": "logits"}},
        ),
        (
            ["sftn:student=resnet18", "intra_class"],
            {"sftn": {"weight": 1.0, "student": "resnet18", "pretrained": False}, "intra_class": DEFAULTS},
        ),
        (
            ["sftn:student={student},pretrained=true"],  # of a study
            {"sftn": {"weight": 1.0, "student": "{student}", "pretrained": True}},
        ),
    ],
)
def test_meaning_of_specs(specs, meaning):
    assert term_arguments(specs) == meaning


def test_arguments_reach_the_term():
    term = parse_terms(["intra_class:margin=0.4,gate=false,temperature=0.5,cache_size=3,in_batch_negatives=false"])[
        "intra_class"
    ]
    loss = term.loss
    assert (loss.margin, loss.gate, loss.temperature, loss.in_batch_negatives) == (0.4, False, 0.5, False)
    assert (term.cache_size, term.embedding) == (3, "embeddings")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["intra"], r"unknown teacher term 'intra', expected one of: intra_class, sftn"),
        (["intra_class:margins=1"], r"cannot read 'margins=1' .* \(did you mean 'margin'\?\)"),
        (["intra_class:gate=1"], "gate is '1' .*, expected true or false"),
        (["intra_class:margin=true"], "margin is 'true' .*, expected a number"),
        (["intra_class:margin=wide"], "margin is 'wide' .*, expected a number"),
        (["intra_class:cache_size=1.5"], "cache_size is '1.5' .*, expected a whole number"),
        (["intra_class:cache_size=-1"], "cache_size is -1, expected at least 0"),
        (["intra_class:embedding=pixels"], "embedding is 'pixels', expected embeddings or logits"),
        (["intra_class:weight=-1"], "IntraClassTerm has weight -1.0, expected a finite number of at least 0"),
        (["intra_class:weight=nan"], "IntraClassTerm has weight nan"),
        (["intra_class:weight=0,margin=7"], "margin is 7.0, expected a difference of probabilities"),
        (["sftn"], "'sftn' lacks student, expected sftn:student=VALUE"),
        (["none", "sftn:student=resnet18"], "terms are none sftn:student=resnet18, expected 'none' alone"),
        (["intra_class", "intra_class:weight=0.5"], "'intra_class' is given twice"),
    ],
)
def test_wrong_specs_are_explained(specs, message):
    with pytest.raises(ValueError, match=message):
        parse_terms(specs)


@pytest.mark.parametrize(
    ("specs", "path", "value", "expected"),
    [
        (["intra_class:weight=0.5"], "intra_class.weight", 0.05, ["intra_class"]),
        (["intra_class:weight=0.5"], "intra_class.weight", 0, ["intra_class:weight=0"]),
        (["intra_class:weight=0.5"], "intra_class.gate", False, ["intra_class:weight=0.5,gate=false"]),
        (["none"], "intra_class.margin", 0.4, ["intra_class:margin=0.4"]),
        (["sftn:student=resnet18"], "sftn.weight", 2, ["sftn:weight=2,student=resnet18"]),
        (["sftn:student=resnet18"], "intra_class.weight", 0.5, ["sftn:student=resnet18", "intra_class:weight=0.5"]),
    ],
)
def test_one_argument_is_replaced(specs, path, value, expected):
    assert set_term_argument(specs, path, value) == expected


@pytest.mark.parametrize("path", ["intra_class.widht", "unknown.weight", "intra_class", "sftn.weight"])
def test_what_can_not_be_replaced(path):
    with pytest.raises(ValueError, match="teacher term"):
        set_term_argument(["intra_class"], path, 1)


def test_specs_that_name_everything():
    full = "intra_class:weight=0.05,margin=0.2,gate=true,temperature=0.1,cache_size=32,embedding=embeddings,"
    assert full_specs(["intra_class:weight=0.05"]) == [full + "in_batch_negatives=true"]
    assert full_specs(["intra_class"]) == full_specs(full_specs(["intra_class:gate=true"]))
    assert full_specs(["none"]) == full_specs([]) == full_specs(["intra_class:weight=0"]) == ["none"]


def test_words_for_cards():
    assert describe_terms(["intra_class:weight=0.5", "sftn:student=resnet18"]) == [
        "0.5 x intra-class term",
        "branches of resnet18 (SFTN)",
    ]
    assert describe_terms(["none"]) == []
    assert describe_terms(["sftn:student=resnet18,weight=2"]) == ["2 x branches of resnet18 (SFTN)"]


@pytest.mark.parametrize("name", TEACHER_TERMS)
def test_every_term_has_weights_and_a_citation(name):
    assert TEACHER_TERMS[name].term_weights and TEACHER_TERMS[name].citation.startswith("@")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"intra_class_weight": 0}, "--terms none"),
        ({"intra_class_weight": "0.0"}, "--terms none"),
        ({"intra_class_weight": 0.5, "cache_size_per_class": 0}, "--terms intra_class:weight=0.5,cache_size=0"),
        ({"intra_class_gate": False}, "--terms intra_class:gate=false"),
        ({"student_branches": None}, "--terms sftn:student=ARCHITECTURE"),
        ({"intra_class_weight": 0, "student_branches": "resnet18"}, "--terms sftn:student=resnet18"),
        ({"seed": 1}, None),
    ],
)
def test_new_spelling_of_old_options(old, new):
    assert new_spelling(old) == new


def test_terms_add_up(pipeline, tiny_classifier, tmp_path):
    """Two terms at once: the logged loss is the weighted sum, and in the first step each is what it is alone."""
    specs = ["sftn:student=cifar_resnet8", "intra_class:weight=0.5,gate=false"]
    logs = {}
    for name, terms in {"both": specs, "sftn": specs[:1], "intra_class": specs[1:]}.items():
        model = tiny_classifier("cifar_resnet20")
        trainer = train_teacher(pipeline, model, tmp_path / name, max_steps=1, terms=terms)
        logs[name] = trainer.state.log_history[0]
    both = logs["both"]
    parts = both["loss/ce"] + both["loss/branch_ce"] + 3 * both["loss/branch_kl"] + 0.5 * both["loss/intra_class"]
    assert both["loss"] == pytest.approx(parts, rel=1e-5)
    for name, term in (("sftn", "loss/branch_kl"), ("sftn", "loss/ce"), ("intra_class", "loss/intra_class")):
        assert both[term] == pytest.approx(logs[name][term], rel=1e-4)
    assert both["gated_fraction"] == 1 and "cache_fill" in both


class Spread(TeacherTerm):
    """The spread of a class's logits, with a count of its calls as state."""

    term_weights = {"spread": 2.0}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, batch):
        self.calls += 1
        return {"spread": batch.logits.flatten(0, 1).var(dim=0).mean(), "views": torch.tensor(batch.logits.shape[1])}


def test_a_term_of_ones_own(pipeline, tiny_classifier, tmp_path):
    """Handed to the trainer as an object; its state resumes, and what has no weight is logged only."""

    def train(folder, resume=None):
        options = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "num_views": 1, "save_total_limit": 3}
        args = teacher_args(tmp_path / folder, **options)
        data = pipeline.dataset("train", training=True, num_views=1)
        terms = WeightedTerms({"spread": (Spread(), 0.1)})
        trainer = TeacherTrainer(tiny_classifier(), args, data, terms=terms)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = train("whole")
    entry = whole.state.log_history[0]
    assert entry["loss"] == pytest.approx(entry["loss/ce"] + 0.2 * entry["loss/spread"], rel=1e-5)
    assert entry["views"] == 1 and whole.terms["spread"].calls == 3
    resumed = train("resumed", str(checkpoints(tmp_path / "whole")[0]))
    assert resumed.terms["spread"].calls == 3
    assert_same_state(whole.model, resumed.model)


def test_a_term_must_fit_the_views(tmp_path):
    args = teacher_args(tmp_path, num_views=1)
    with pytest.raises(ValueError, match="num_views is 1 but the term intra_class compares 2 views; set --num_views"):
        check_terms(parse_terms(["intra_class"]), args)
    check_terms(parse_terms(["intra_class:weight=0"]), args)


def test_two_terms_with_one_name_are_refused():
    with pytest.raises(ValueError, match="two teacher terms have a term called 'intra_class'"):
        WeightedTerms({"a": (IntraClassTerm(), 1.0), "b": (IntraClassTerm(), 1.0)})
