"""Files of earlier versions get `terms` in place of their old options; nothing else in them changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hf_icckd.study import Records, load_plan
from hf_icckd.study.convert import convert_file, main
from hf_icckd.study.terms import meaning_of

PLAN = """\
# A small study; comments stay.
title: small
seeds: [0, 1]
options: {dataset: digits, validation_fraction: 0.2}
pairs:
  small: {teacher: cifar_resnet20, student: cifar_resnet8}
teachers:
  ce: {intra_class_weight: 0, num_views: 1}  # cross-entropy, alone
  intra: {intra_class_weight: 0.5}
  usual:
    intra_class_weight: 0.05   # the default
    intra_class_margin: 0.2
    # of 100
    num_train_epochs: 3
  no-gate: {num_views: 2, intra_class_gate: false, intra_class_weight: 5e-1, cache_size_per_class: 0}
  sftn: {intra_class_weight: 0, student_branches: "{student}"}
  plain: {}
  longer: {num_train_epochs: 6}
  longest:
    num_train_epochs: 9  # thrice
  none:
students:
  kd: {objectives: [kd]}
alone:
  no teacher: {intra_class_weight: 0}
comparison: {teacher: intra, control: ce, student: kd}
sweeps:
  weight: {base: intra, option: intra_class_weight, values: [0, 0.1], seeds: [0], students: [kd]}
  cache:
    base: intra
    option: cache_size_per_class  # per class
    values: [8]
    seeds: [0]
    students: [kd]
labels: {"intra,intra_class_weight=0.1": weak}
"""
CONVERTED = """\
# A small study; comments stay.
title: small
seeds: [0, 1]
options: {dataset: digits, validation_fraction: 0.2}
pairs:
  small: {teacher: cifar_resnet20, student: cifar_resnet8}
teachers:
  ce: {terms: none, num_views: 1}  # cross-entropy, alone
  intra: {terms: "intra_class:weight=0.5"}
  usual:
    terms: intra_class   # the default
    # of 100
    num_train_epochs: 3
  no-gate: {num_views: 2, terms: "intra_class:weight=0.5,gate=false,cache_size=0"}
  sftn: {terms: "sftn:student={student}"}
  plain: {terms: intra_class}
  longer: {terms: intra_class, num_train_epochs: 6}
  longest:
    terms: intra_class
    num_train_epochs: 9  # thrice
  none: {terms: intra_class}
students:
  kd: {objectives: [kd]}
alone:
  no teacher: {terms: none}
comparison: {teacher: intra, control: ce, student: kd}
sweeps:
  weight: {base: intra, option: intra_class.weight, values: [0, 0.1], seeds: [0], students: [kd]}
  cache:
    base: intra
    option: intra_class.cache_size  # per class
    values: [8]
    seeds: [0]
    students: [kd]
labels: {"intra,intra_class.weight=0.1": weak}
"""
OLD = {
    "cache_size_per_class": 32,
    "in_batch_negatives": True,
    "intra_class_embedding": "embeddings",
    "intra_class_gate": False,
    "intra_class_margin": 0.2,
    "intra_class_temperature": 0.1,
    "intra_class_weight": 0.5,
    "student_branches": None,
}
FULL = (
    "intra_class:weight=0.5,margin=0.2,gate=false,temperature=0.1,cache_size=32,embedding=embeddings,"
    "in_batch_negatives=true"
)


def converted(path: Path, text: str) -> str:
    """Text after conversion, which a second one leaves as it is."""
    path.write_text(text)
    assert convert_file(path)
    new = path.read_text()
    assert not convert_file(path) and path.read_text() == new
    return new


def test_a_plan_keeps_its_comments_and_layout(tmp_path):
    path = tmp_path / "study.yaml"
    assert converted(path, PLAN) == CONVERTED
    plan = load_plan(path)
    assert plan.teacher("small", "sftn", 0).options["terms"] == ["sftn:student=cifar_resnet8"]
    assert plan.sweep_teachers(plan.sweeps["weight"]) == {
        0: "intra,intra_class.weight=0",
        0.1: "intra,intra_class.weight=0.1",
    }
    assert plan.sweep_teachers(plan.sweeps["cache"]) == {8: "intra,intra_class.cache_size=8"}


@pytest.mark.parametrize(
    ("teachers", "expected"),
    [
        ("  a: &all {num_views: 1}\n  b: *all\n", "  a: &all {terms: intra_class, num_views: 1}\n  b: *all\n"),
        (
            "  a: &all\n    num_views: 1\n  b: *all\n",
            "  a: &all\n    terms: intra_class\n    num_views: 1\n  b: *all\n",
        ),
        ("  a: !!map\n    num_views: 1\n", "  a: !!map\n    terms: intra_class\n    num_views: 1\n"),
        ("  a: { }\n", "  a: { terms: intra_class}\n"),
        ('  a: {teacher: "{teacher ce}"}\n', '  a: {teacher: "{teacher ce}"}\n'),  # learns by the student recipe
    ],
)
def test_teachers_that_say_nothing_get_the_term_however_they_are_written(tmp_path, teachers, expected):
    whole = converted(tmp_path / "study.yaml", PLAN.replace("  plain: {}\n", teachers, 1))
    assert whole == CONVERTED.replace("  plain: {terms: intra_class}\n", expected, 1)
    assert yaml.safe_load(whole)


def test_a_teacher_keeps_what_it_inherits(tmp_path):
    """Options were merged one by one; terms replace those of all teachers at once."""
    shared = "teacher_options: {intra_class_margin: 0.3}\nteachers:\n"
    text = converted(tmp_path / "study.yaml", PLAN.replace("teachers:\n", shared, 1))
    assert 'teacher_options: {terms: "intra_class:margin=0.3"}\n' in text
    assert 'intra: {terms: "intra_class:weight=0.5,margin=0.3"}\n' in text
    assert "ce: {terms: none, num_views: 1}" in text and "plain: {}" in text
    assert "usual:\n    terms: intra_class   # the default\n" in text  # it names its own margin


def test_a_configuration_of_a_run_gets_a_list(tmp_path):
    text = "# A teacher.\nmodel: resnet18\nintra_class_weight: 0.05\nintra_class_gate: false\noutput_dir: runs/t\n"
    assert converted(tmp_path / "teacher.yaml", text) == (
        '# A teacher.\nmodel: resnet18\nterms: ["intra_class:gate=false"]\noutput_dir: runs/t\n'
    )
    assert converted(tmp_path / "last.yaml", "intra_class_weight: 0\nstudent_branches: resnet18") == (
        'terms: ["sftn:student=resnet18"]\n'
    )


def test_records_keep_everything_else(tmp_path):
    run = {"teacher": "intra,intra_class_weight=0.5", "student": None, "status": "diverged"}
    record = {
        "run": "small/intra,intra_class_weight=0.5/seed-0/teacher",
        **run,
        "message": "error: see runs/small/intra,intra_class_weight=0.5/seed-0/teacher",
        "options": {"model": "cifar_resnet20", "intra_class_weight": 0.5, "intra_class_gate": False, "seed": 0},
        "arguments": dict(sorted((OLD | {"bf16": True, "learning_rate": 5e-2, "weight_decay": 5e-4}).items())),
        "metrics": {"test": {"top1": 50.123456789012345, "intra_class_distance": 0.25}},
    }
    student = {"run": "small/ce/seed-0/kd", "options": {"objectives": ["kd"]}, "arguments": {"ce_weight": 1.0}}
    text = converted(tmp_path / "records.jsonl", f"{json.dumps(record)}\n{json.dumps(student)}\n")
    records = Records(tmp_path / "records.jsonl").by_name
    name = "small/intra,intra_class.weight=0.5/seed-0/teacher"
    assert list(records) == [name, "small/ce/seed-0/kd"] and records["small/ce/seed-0/kd"] == student
    new = records[name]
    assert list(new) == list(record) and new["metrics"] == record["metrics"]
    assert new["teacher"] == "intra,intra_class.weight=0.5" and new["message"] == f"error: see runs/{name}"
    terms = ["intra_class:weight=0.5,gate=false"]
    assert list(new["options"].items()) == [("model", "cifar_resnet20"), ("terms", terms), ("seed", 0)]
    # Arguments name every one: a default may be another one later.
    assert new["arguments"] == {"bf16": True, "learning_rate": 5e-2, "terms": [FULL], "weight_decay": 5e-4}
    assert list(new["arguments"]) == sorted(new["arguments"])
    assert meaning_of(terms) == meaning_of([FULL]) and text.endswith("\n")


def test_all_args_stay_in_order(tmp_path):
    old = yaml.safe_dump(OLD | {"recipe": "teacher", "weight_decay": 5e-4})
    assert converted(tmp_path / "all_args.yaml", old) == (f"recipe: teacher\nterms:\n- {FULL}\nweight_decay: 0.0005\n")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--intra_class_weight 0 --seed 1", "--terms none --seed 1"),
        (
            "--seed 1 --cache_size_per_class 8 --bf16 true --intra_class_weight=0.5",
            "--seed 1 --terms intra_class:weight=0.5,cache_size=8 --bf16 true",
        ),
        ("--intra_class_weight 0 --student_branches resnet18", "--terms sftn:student=resnet18"),
    ],
)
def test_results_of_a_run(tmp_path, command, expected):
    method = {"recipe": "teacher", "intra_class_weight": 0.0, "student_branches": None, "ce_weight": None}
    results = {
        "test": {"top1": 98.6, "intra_class_distance": 0.1},
        "environment": {"command": f"python -m hf_icckd.teacher --dataset $DIGITS {command}"},
        "options": {"bf16": True, "intra_class_margin": 0.3},
        "control": {"method": method, "teacher": {"method": method | {"intra_class_weight": 0.05}}},
    }
    new = json.loads(converted(tmp_path / "metrics.json", json.dumps(results, indent=2) + "\n"))
    assert new["test"] == results["test"]
    assert new["environment"]["command"] == f"python -m hf_icckd.teacher --dataset $DIGITS {expected}"
    assert new["options"] == {"bf16": True, "terms": ["intra_class:margin=0.3"]}
    assert new["control"]["method"] == {"recipe": "teacher", "terms": ["none"], "ce_weight": None}
    assert new["control"]["teacher"]["method"]["terms"] == ["intra_class"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.json", '{"intra_class_weight":0}', "not as a program writes it; convert it by hand"),
        ("all_args.yaml", "intra_class_weight: 0 # off\n", "not as a program writes it; convert it by hand"),
        ("records.jsonl", '{"run": "a"}\nnonsense\n', "can't be read .*; repair it first"),
        ("run.log", "--intra_class_weight 0", "unknown kind, expected"),
        ("study.yaml", "{", "not valid YAML"),
    ],
)
def test_what_can_not_be_converted_stays_as_it_is(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_file(path)
    assert path.read_text() == text


def test_the_command_says_what_it_changed(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(PLAN)
    (tmp_path / "other.yaml").write_text("model: cifar_resnet20\n")
    main([str(tmp_path / "study.yaml"), str(tmp_path / "other.yaml")])
    told = capsys.readouterr().out
    assert "study.yaml: 13 changes\n  2 x intra_class_weight 0 -> terms none\n" in told
    assert "  1 x sweep over cache_size_per_class -> intra_class.cache_size\n" in told
    assert told.endswith("other.yaml: nothing to convert\n")
    with pytest.raises(SystemExit, match=r"'none\.yaml' does not exist"):
        main(["none.yaml"])
