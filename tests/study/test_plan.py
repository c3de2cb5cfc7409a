"""Plans: which runs there are, in what order, and what is chosen."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hf_icckd.study import load_plan
from hf_icckd.study.report.protocol import chosen_table, protocol_table
from tests.study.small_study import names


def record(top1: float) -> dict:
    return {"metrics": {"validation": {"top1": top1}}}


def test_runs_of_a_plan(study):
    plan = load_plan(study)
    runs = names(plan)
    assert len(runs) == len(set(runs)) == 3 * 3 + 2 * (1 + 3 * 3) + 2
    assert runs[:3] == [
        "small/ce/seed-100/teacher",
        "small/ce/seed-100/tuned-trial-0",
        "small/ce/seed-100/tuned-trial-1",
    ]
    assert runs[9:13] == [
        "small/alone/seed-0/no teacher",
        "small/ce/seed-0/teacher",
        "small/ce/seed-0/kd",
        "small/ce/seed-0/tuned",
    ]
    # Values that the study has anyway, by default too, are not run twice.
    assert runs[-2:] == [f"small/intra,intra_class.weight=0.1/seed-0/{what}" for what in ("teacher", "kd")]
    assert plan.sweep_teachers(plan.sweeps["weight"]) == {
        0: "ce",
        0.05: "default",
        0.1: "intra,intra_class.weight=0.1",
        0.5: "intra",
    }
    teacher, student = (next(run for run in plan.runs({}) if run.name == runs[index]) for index in (10, 11))
    assert teacher.options == {
        "model": "cifar_resnet20",
        "dataset": "digits",
        "validation_fraction": 0.2,
        "num_train_epochs": 2,
        "terms": ["none"],
        "seed": 0,
    }
    swept, alone = (next(run for run in plan.runs({}) if run.name == runs[index]) for index in (-2, 9))
    assert swept.options["terms"] == ["intra_class:weight=0.1"] and alone.options["terms"] == ["none"]
    assert student.options["model"] == "cifar_resnet8" and student.teacher_run == teacher
    assert (teacher.recipe, student.recipe, plan.runs({})[9].recipe) == ("teacher", "student", "teacher")


def test_a_teacher_may_name_the_student_of_its_pair(study):
    plan = load_plan(study)
    plan.teachers["ce"]["terms"] = ["sftn:student={student}", "intra_class"]
    run = plan.teacher("small", "ce", 0)
    assert run.options["terms"] == ["sftn:student=cifar_resnet8", "intra_class"]
    words = run.words("runs")
    assert words[words.index("--terms") + 1 :][:2] == run.options["terms"]


def test_students_share_recorded_outputs_if_they_need_the_same(study):
    """What is recorded for a student that reads less of its teacher would be too little for the others."""
    options = {"teacher_targets": "auto"}
    told = yaml.safe_load(study.read_text())
    rkd = {name: {"objectives": objectives} for name, objectives in {"kd+rkd": ["kd", "rkd"], "rkd": ["rkd"]}.items()}
    study.write_text(yaml.safe_dump(told | {"student_options": options, "students": told["students"] | rkd}))
    where = {}
    for run in load_plan(study).runs({}):
        if (run.teacher, run.seed) == ("ce", 0) and run.student is not None and run.options is not None:
            words = run.words("runs")
            where[run.student] = words[words.index("--teacher_targets_dir") + 1]
    assert where == {
        "kd": "runs/small/ce/seed-0/teacher-targets-logits",
        "kd+rkd": "runs/small/ce/seed-0/teacher-targets-embeddings-logits",
        "rkd": "runs/small/ce/seed-0/teacher-targets-embeddings",
    }


def test_the_best_trial_on_the_validation_split_is_chosen(study):
    plan = load_plan(study)
    tuned = {run.name: run for run in plan.runs({})}["small/ce/seed-1/tuned"]
    assert tuned.options is None
    with pytest.raises(ValueError, match="small/ce/seed-1/tuned has no options yet"):
        tuned.words("runs")
    records = {f"small/ce/seed-100/tuned-trial-{n}": record(top1) for n, top1 in enumerate((50.0, 60.0))}
    tuned = {run.name: run for run in plan.runs(records)}["small/ce/seed-1/tuned"]
    assert tuned.options["ce_weight"] == 2
    records["small/ce/seed-100/tuned-trial-1"] = {"status": "diverged"}
    assert plan.chosen("small", "ce", "tuned", records) == {"ce_weight": 1}
    assert plan.chosen("small", "intra", "tuned", records) is None
    plan.sweeps["weight"].students.append("tuned")
    assert plan.chosen("small", "intra,intra_class.weight=0.1", "tuned", records) is None
    records |= {f"small/intra/seed-100/tuned-trial-{n}": record(top1) for n, top1 in enumerate((50.0, 60.0))}
    assert plan.chosen("small", "intra,intra_class.weight=0.1", "tuned", records) == {"ce_weight": 2}


def test_trials_may_be_shorter_than_what_they_choose_for(study):
    plan = load_plan(study)
    plan.trial_options = {"num_train_epochs": 3}
    records = {f"small/ce/seed-100/tuned-trial-{n}": record(top1) for n, top1 in enumerate((50.0, 60.0))}
    runs = {run.name: run.options for run in plan.runs(records)}
    trial, whole = (runs[f"small/ce/seed-{name}"] for name in ("100/tuned-trial-1", "0/tuned"))
    assert (trial["num_train_epochs"], trial["ce_weight"]) == (3, 2)
    assert (whole["num_train_epochs"], whole["ce_weight"]) == (1, 2)
    assert "2 trials for each teacher, with `num_train_epochs 3`, on seed(s) 100" in protocol_table(plan, {})


def test_a_tuning_seed_at_which_the_teacher_diverged_says_nothing(study):
    plan = load_plan(study)
    plan.tuning_seeds.append(101)
    names = [f"small/ce/seed-{seed}/tuned-trial-{n}" for seed in plan.tuning_seeds for n in range(2)]
    diverged = {name: {"status": "diverged"} for name in names}
    assert plan.chosen("small", "ce", "tuned", diverged) == {"ce_weight": 1}
    assert "`ce_weight 1` (not chosen: all trials diverged" in chosen_table(plan, diverged)
    some = diverged | {names[0]: record(50.0), names[3]: record(60.0)}  # each trial diverged at one seed
    assert plan.chosen("small", "ce", "tuned", some) == {"ce_weight": 1}
    assert "not chosen" in chosen_table(plan, some)
    some = diverged | dict(zip(names, (record(50.0), record(60.0)), strict=False))
    assert plan.chosen("small", "ce", "tuned", some) == {"ce_weight": 2}
    assert "not chosen" not in chosen_table(plan, some)


def test_epochs_are_those_of_the_runs(study):
    assert "teachers 2; students 1; without a teacher 30" in protocol_table(load_plan(study), {})


def test_a_sweep_leaves_the_options_of_the_teachers_alone(study):
    plan = load_plan(study)
    before = plan.teacher("small", "intra", 0).options
    plan.sweeps["gate"] = dataclasses.replace(
        plan.sweeps["weight"], base="intra", option="intra_class.gate", values=[True, False]
    )
    assert plan.teacher("small", "intra", 0).options == before
    swept = before | {"terms": ["intra_class:weight=0.5,gate=false"]}
    assert plan.teacher("small", "intra,intra_class.gate=False", 0).options == swept


def test_sweeps_compare_what_is_in_force(study):
    plan = load_plan(study)
    plan.teacher_options["terms"] = ["intra_class:weight=0.1"]  # of all that don't say otherwise
    del plan.teachers["default"]["terms"]
    assert plan.sweep_teachers(plan.sweeps["weight"])[0.1] == "default"
    assert plan.sweep_teachers(plan.sweeps["weight"])[0.05] == "intra,intra_class.weight=0.05"
