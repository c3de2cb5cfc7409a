"""Plans as YAML files: what is read, and how mistakes are explained."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hf_icckd.study import load_plan
from tests import ROOT
from tests.study.small_study import STUDY


def test_names_may_be_numbers(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY | {"pairs": {8: STUDY["pairs"]["small"]}}))
    assert load_plan(tmp_path / "study.yaml").runs({})[0].pair == "8"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [[0]]}, r"the study\.seeds holds \[0\], expected int"),
        (
            {"students": {"kd": {}, "tuned": {"trials": ["kd"]}}},
            r"students\.tuned\.trials holds 'kd', expected dict",
        ),
        ({"students": {"kd": {}, "tuned": {"trials": [None]}}}, r"students\.tuned\.trials holds None"),
        ({"sweeps": {"a": STUDY["sweeps"]["weight"] | {"values": [[0.5]]}}}, r"sweeps\.a\.values holds \[0\.5\]"),
        ({"seeds": []}, "needs seeds, pairs, teachers and students"),
        ({"seed": [0]}, "unknown key 'seed'.*did you mean 'seeds'"),
        ({"tuning_seeds": [1]}, "seed 1 is both for tuning and for the study"),
        ({"tuning_seeds": []}, "'tuned' has trials but there are no tuning_seeds"),
        ({"trial_options": {"epochs": 1}}, "trial_options has 'epochs'.* not an option of the student recipe"),
        ({"trial_options": {"max_steps": 1}, "students": {"kd": {}}}, "but no student has trials"),
        ({"comparison": None}, "comparison is None"),
        ({"comparison": {"teacher": "intra", "control": "ce"}}, "comparison has no 'student'"),
        ({"comparison": {"teacher": "intr", "control": "ce", "student": "kd"}}, "has no 'intr'.*did you mean 'intra'"),
        ({"comparison": {"teacher": "ce", "control": "ce", "student": "kd"}}, "of 'ce' with itself"),
        (
            {"comparison": {"teacher": "ce", "control": "ce", "student": "kd", "control_student": "kdd"}},
            "the study has no 'kdd' .*mean 'kd'",
        ),
        (
            {"comparison": {"teacher": "ce", "control": "ce", "student": "kd", "control_student": "kd"}},
            "has control_student 'kd', student 'kd', teacher 'ce' .*expected two students of one teacher",
        ),
        (
            {"comparison": {"teacher": "intra", "control": "ce", "student": "kd", "control_student": "tuned"}},
            "expected two students of one teacher",
        ),
        (
            {"comparison": {"teacher": "intra", "control": "ce", "student": "kd", "smallest_effect": 0}},
            "smallest_effect is 0, expected a number above 0",
        ),
        ({"pairs": {"small": {"teacher": "cifar_resnet20"}}}, "pair 'small' is .*, expected the architectures"),
        ({"pairs": {"small": None}}, "pair 'small' is None, expected the architectures"),
        ({"seeds": 5}, r"the study\.seeds is 5, expected list"),
        ({"seeds": [0, 0]}, "seeds holds one seed twice"),
        ({"students": ["kd"]}, r"students is \['kd'\], expected `name: value` lines"),
        ({"students": {"kd": {}, "teacher": {}, "tuned": {}}}, "a student is called 'teacher'"),
        ({"students": {"kd": {}, "tuned-trial-0": {}}}, "a student is called 'tuned-trial-0'"),
        ({"options": {"dataset": "digits"}}, "trials but there is no validation split"),
        ({"teachers": {"ce": {"label_smothing": 0}, "intra": {}}}, "did you mean 'label_smoothing'.*not an option"),
        (
            {"teachers": {"ce": {"intra_class_weight": 0, "student_branches": "{student}"}, "intra": {}}},
            r"ce has intra_class_weight 0, student_branches '\{student\}', now part of terms; write terms: "
            r"sftn:student=\{student\}, or run python -m hf_icckd\.study\.convert",
        ),
        (
            {"teacher_options": {"cache_size_per_class": 8}},
            "teacher_options has .*write terms: intra_class:cache_size=8,",
        ),
        (
            {"alone": {"no teacher": {"intra_class_weight": 0}}},
            "no teacher has intra_class_weight 0, .*write terms: none,",
        ),
        (
            {"sweeps": {"a": STUDY["sweeps"]["weight"] | {"option": "intra_class_gate"}}},
            r"sweep 'a' is over 'intra_class_gate', now part of terms; write option: intra_class\.gate,",
        ),
        (
            {"sweeps": {"a": STUDY["sweeps"]["weight"] | {"option": "intra_class.wieght"}}},
            "'a' is over .*mean 'weight'",
        ),
        ({"sweeps": {"a": STUDY["sweeps"]["weight"] | {"values": ["x"]}}}, "weight is 'x' .*expected a number"),
        ({"sweeps": {"a": STUDY["sweeps"]["weight"] | {"values": [-1]}}}, "weight=-1 has wrong terms: .* weight -1"),
        (
            {"teachers": {"ce": {"terms": "intra_clas"}, "intra": {}}},
            "ce has wrong terms: unknown .*mean 'intra_class'",
        ),
        ({"teachers": {"ce": {"terms": 5}, "intra": {}}}, "ce has wrong terms: terms is 5, expected none"),
        (
            {"teachers": {"ce": {"terms": ["intra_class:temperature=0"]}, "intra": {}}},
            "ce has wrong terms: temperature",
        ),
        ({"options": STUDY["options"] | {"seed": 7}}, "options has 'seed', which the study itself sets; leave it out"),
        ({"teacher_options": {"output_dir": "x"}}, "teacher_options has 'output_dir', which the study itself sets"),
        ({"student_options": {"teacher": "x"}}, "student_options has 'teacher', which the study itself sets"),
        ({"sweeps": {"a": STUDY["sweeps"]["weight"] | {"option": "seed", "values": [1]}}}, "'seed', which the study"),
        ({"options": STUDY["options"] | {"num_train_epochs": "9"}}, "num_train_epochs '9', which is text, expected"),
        ({"student_options": {"max_train_samples": 9}}, "'max_train_samples', which must be the same for all"),
        ({"tuning_seeds": [0]}, "seed 0 is both"),
        ({"options": STUDY["options"] | {"fold": "0/2"}}, "'fold', but all runs of a study have the same images"),
        ({"teachers": STUDY["teachers"] | {"x": {"start_from": "{teacher c}"}}}, "'x' starts from 'c'.*mean 'ce'"),
        ({"teachers": STUDY["teachers"] | {"x": {"start_from": "{teacher x}"}}}, "'x' starts from 'x'"),
        ({"teachers": STUDY["teachers"] | {"x": {"teacher": "{teacher c}"}}}, "'x' learns from 'c'.*mean 'ce'"),
        (
            {"teachers": STUDY["teachers"] | {"x": {"teacher": "{teacher y}"}, "y": {"teacher": "{teacher x}"}}},
            "teachers learn from one another in a circle: x from y from x",
        ),
        (
            {"teachers": STUDY["teachers"] | {"x": {"teacher": "{teacher ce}", "start_from": "{teacher ce}"}}},
            "'x' both starts from another teacher and learns from one",
        ),
        (
            {
                "sweeps": {
                    "rate": {"base": "x", "option": "learning_rate", "values": [0.1], "seeds": [0], "students": []}
                },
                "teachers": STUDY["teachers"] | {"x": {"teacher": "{teacher ce}"}},
            },
            "assistants can't be swept: name each of them under teachers",
        ),
        (
            {"teachers": STUDY["teachers"] | {"x": {"teacher": "{teacher ce}", "terms": "none"}}},
            "x has 'terms', which is not an option of the student recipe",
        ),
        ({"teachers": {"a/b": {}}}, "can't be the name of a folder"),
        ({"teachers": {"alone": {}}}, "is called 'alone'"),
        ({"students": {"kd": {"trials": [{}]}, "tuned": STUDY["students"]["tuned"]}}, "the same budget for all"),
        (
            {"sweeps": {"a": STUDY["sweeps"]["weight"] | {"option": "optim", "values": ["a/b"]}}},
            "can't be the name of a folder",
        ),
        ({"sweeps": {"a": STUDY["sweeps"]["weight"] | {"seeds": [100]}}}, "seed 100 is both for tuning"),
        ({"sweeps": {"weight": {"base": "intra"}}}, r"sweeps\.weight has no 'option'"),
    ],
)
def test_a_wrong_plan_is_explained(study, change, message):
    study.write_text(yaml.safe_dump(STUDY | change))
    with pytest.raises(ValueError, match=message):
        load_plan(study)


def test_numbers_may_be_written_with_an_exponent(study):
    """PyYAML by itself takes 1e-3 for text."""
    sweep = STUDY["sweeps"]["weight"] | {"values": "VALUES"}
    text = yaml.safe_dump(STUDY | {"sweeps": {"weight": sweep}}).replace("VALUES", "[1e-3, 5E-1, 2e+0]")
    study.write_text(text.replace("validation_fraction: 0.2", "validation_fraction: 2e-1"))
    plan = load_plan(study)
    assert plan.sweeps["weight"].values == [0.001, 0.5, 2.0] and plan.options["validation_fraction"] == 0.2
    assert plan.sweep_teachers(plan.sweeps["weight"])[0.5] == "intra"


def test_a_study_file_that_is_none(tmp_path):
    (tmp_path / "list.yaml").write_text("- a")
    (tmp_path / "broken.yaml").write_text("{")
    for name, message in (("list", "holds a list"), ("broken", "not valid YAML"), ("none", "does not exist")):
        with pytest.raises(ValueError, match=message):
            load_plan(tmp_path / f"{name}.yaml")


def test_the_plan_that_is_kept_is_the_plan(study, tmp_path):
    plan = load_plan(study)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(dataclasses.asdict(plan)))
    assert load_plan(tmp_path / "again.yaml") == plan


STUDIES = sorted((ROOT / "recipes" / "configs" / "study").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_the_studies_that_come_along(path):
    """Loading checks every option. Each says what it asks and expects; those that sweep the term have all controls."""
    plan = load_plan(path)
    assert path.read_text().startswith("# ") and len(plan.seeds) >= 3
    assert "prediction" in plan.text.lower() and "question" in plan.text.lower()
    if len(plan.sweeps) > 1:
        assert len(plan.seeds) >= 5 and len(plan.teachers) >= 10
    if plan.comparison.control_student is not None:
        assert {len(each.trials) for each in plan.students.values()} == {3}
