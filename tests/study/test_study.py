"""Studies: which runs there are, in what order, what is chosen, and that nothing is lost or done twice."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from hf_icckd import save_pretrained
from hf_icckd.options.command_line import DIVERGED
from hf_icckd.runs.checkpoints import publish, staging_folder
from hf_icckd.study import Records, StudyRunner, load_plan
from hf_icckd.study import runner as runner_module
from hf_icckd.study.__main__ import main as study_main
from hf_icckd.study.report.protocol import chosen_table, protocol_table
from tests import ROOT

STUDY = {
    "title": "a small one",
    "seeds": [0, 1],
    "options": {"dataset": "digits", "validation_fraction": 0.2},
    "teacher_options": {"num_train_epochs": 2},
    "student_options": {"num_train_epochs": 1},
    "pairs": {"small": {"teacher": "cifar_resnet20", "student": "cifar_resnet8"}},
    "teachers": {
        "ce": {"terms": "none"},
        "intra": {"terms": "intra_class:weight=0.5"},
        "default": {"terms": ["intra_class:margin=0.2"]},
    },
    "students": {"kd": {"objectives": ["kd"]}, "tuned": {"trials": [{"ce_weight": 1}, {"ce_weight": 2}]}},
    "alone": {"no teacher": {"terms": "none", "num_views": 1}},
    "comparison": {"teacher": "intra", "control": "ce", "student": "kd"},
    "tuning_seeds": [100],
    "sweeps": {
        "weight": {
            "base": "intra",
            "option": "intra_class.weight",
            "values": [0, 0.05, 0.1, 0.5],
            "seeds": [0],
            "students": ["kd"],
        }
    },
}

# Stands for python with a recipe: it writes what a run writes, or fails as one does, without any training.
FAKE = f"""#!{sys.executable}
import json, pathlib, shutil, signal, sys, time
words = sys.argv[3:]
options = {{w[2:]: words[i + 1] for i, w in enumerate(words) if w.startswith("--")}}
folder = pathlib.Path(options["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "all_args.yaml").write_text(json.dumps(options | {{"data_fingerprint": "abc"}}))
behaviour = pathlib.Path({{control!r}})
told = json.loads(behaviour.read_text()) if behaviour.is_file() else {{}}
said = next((what for part, what in told.items() if part in str(folder)), None)
with open(str(behaviour) + ".log", "a") as log:
    log.write(f"{{{{sys.argv[2]}}}} {{{{options['output_dir']}}}} {{{{options.get('ce_weight')}}}}\\n")
if said in ("wait", "wait-0"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143 if said == "wait" else 0))
    time.sleep(60)
if said == "quit":
    sys.exit(0)
if said == {DIVERGED}:
    print("error: loss/ce is nan since step 2", file=sys.stderr)
if said:
    sys.exit(said)
for needed in ("teacher", "start_from"):
    assert needed not in options or (pathlib.Path(options[needed]) / "metrics.json").is_file()
if sys.argv[2] == "hf_icckd.teacher":
    shutil.copytree({{model!r}}, folder, dirs_exist_ok=True)
top1 = 50.0 + int(options.get("ce_weight", 0))
figures = {{"top1": top1}}
(folder / "metrics.json").write_text(json.dumps({{
    "test": figures, "validation": figures,
    "history": [{{"epoch": 1, "step": 8, "eval_top1": top1, "eval_runtime": 3}}],
    "losses": [{{"epoch": e, "step": 4 * e, "loss": 2.0, "ce": e}} for e in (1, 2, 3)], "soft_labels": {{}},
    "environment": {{"command": "python secret/place", "torch": "2"}},
}}))
"""


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch, tiny_classifier):
    """Has runs done by the stand-in; returns a function that says how those of a name part shall end."""
    control, model = tmp_path / "control.json", tmp_path / "model"
    save_pretrained(model, tiny_classifier())
    program = tmp_path / "python"
    text = FAKE.replace("{{", "{").replace("}}", "}").replace("{control!r}", repr(str(control)))
    program.write_text(text.replace("{model!r}", repr(str(model))))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(runner_module.sys, "executable", str(program))
    monkeypatch.setattr(runner_module, "_POLL_SECONDS", 0.01)

    def tell(**ends):
        control.write_text(json.dumps({name.replace("__", "/"): end for name, end in ends.items()}))

    tell.log = lambda: Path(f"{control}.log").read_text().splitlines()
    return tell


def names(plan, records=None) -> list[str]:
    return [run.name for run in plan.runs(records or {})]


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
    """What one that reads less of its teacher recorded first would be too little for the others."""
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
        ({"comparison": None}, "comparison is None"),
        ({"comparison": {"teacher": "intra", "control": "ce"}}, "comparison has no 'student'"),
        ({"comparison": {"teacher": "intr", "control": "ce", "student": "kd"}}, "has no 'intr'.*did you mean 'intra'"),
        ({"comparison": {"teacher": "ce", "control": "ce", "student": "kd"}}, "of 'ce' with itself"),
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
        ({"teachers": {"ce": {"label_smothing": 0}, "intra": {}}}, "did you mean 'label_smoothing'.*no option"),
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
        ({"sweeps": {"a": STUDY["sweeps"]["weight"] | {"values": [-1]}}}, "weight=-1 has wrong terms: weight is -1"),
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
        ({"teachers": STUDY["teachers"] | {"x": {"start_from": "{teacher c}"}}}, "'x' starts from 'c'.*mean 'ce'"),
        ({"teachers": STUDY["teachers"] | {"x": {"start_from": "{teacher x}"}}}, "'x' starts from 'x'"),
        ({"teachers": {"a/b": {}}}, "can't be that of a folder"),
        ({"teachers": {"alone": {}}}, "is called 'alone'"),
        ({"students": {"kd": {"trials": [{}]}, "tuned": STUDY["students"]["tuned"]}}, "the same budget for all"),
        (
            {"sweeps": {"a": STUDY["sweeps"]["weight"] | {"option": "optim", "values": ["a/b"]}}},
            "can't be that of a folder",
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


def test_a_whole_study(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    assert StudyRunner(plan, folder, jobs=2).run()
    records = Records(folder / "records.jsonl").by_name
    assert set(records) == set(names(plan, records)) and len(fake.log()) == len(records)
    one = records["small/intra/seed-1/tuned"]
    assert one["options"]["ce_weight"] == 2  # the trial with the higher figure
    assert "soft_labels" not in one["metrics"]  # what cards show
    assert one["status"] == "finished" and one["metrics"]["test"] == {"top1": 52.0}
    assert one["curve"] == [{"epoch": 1, "eval_top1": 52.0, "loss": 2.0, "loss/ce": 2}] and one["seconds"] >= 0
    text = (folder / "records.jsonl").read_text()
    assert str(tmp_path) not in text and "secret" not in text  # no places
    assert one["arguments"]["data_fingerprint"] == "abc" and one["metrics"]["environment"] == {"torch": "2"}
    assert StudyRunner(plan, folder).run() and len(fake.log()) == len(records)  # nothing is done twice


def test_what_is_here_is_passed_on_but_not_recorded(study, fake, tmp_path):
    plan = load_plan(study)
    runner = StudyRunner(plan, tmp_path / "out", here={"dataset": "my/images"})
    run = plan.runs({})[0]
    job = runner._start(run, 0)
    assert job.process.wait() == 0
    written = yaml.safe_load((runner.run_folder(run) / "all_args.yaml").read_text())
    assert written["dataset"] == "my/images"
    assert "my/images" not in json.dumps(runner._record(run, "finished", 1.0))


def test_failures_are_told_apart(study, fake, tmp_path):
    """A diverged run is a result; one that failed is tried again; neither keeps others from being done."""
    plan, folder = load_plan(study), tmp_path / "out"
    fake(
        intra__seed_0="unused",
        **{"intra/seed-0/teacher": DIVERGED, "ce/seed-1/kd": "error: disk is full"},
    )
    runner = StudyRunner(plan, folder, jobs=2)
    with pytest.raises(ValueError, match=r"1 run\(s\) failed.*small/ce/seed-1/kd: error: disk is full"):
        runner.run()
    records = Records(folder / "records.jsonl").by_name
    assert records["small/intra/seed-0/teacher"]["status"] == "diverged"
    assert records["small/intra/seed-0/teacher"]["message"] == "error: loss/ce is nan since step 2"
    assert records["small/intra/seed-0/kd"]["message"] == "its teacher diverged"
    assert [run.name for run in runner.pending()] == ["small/ce/seed-1/kd"]
    fake()
    assert StudyRunner(plan, folder).run()


def test_a_run_that_ends_without_results_has_failed(study, fake, tmp_path):
    """Whatever it says itself; others are done all the same."""
    plan, folder = load_plan(study), tmp_path / "out"
    fake(**{"ce/seed-1/kd": "quit"})
    runner = StudyRunner(plan, folder)
    with pytest.raises(ValueError, match="small/ce/seed-1/kd: ended with 0; last line: it printed nothing"):
        runner.run()
    assert [run.name for run in runner.pending()] == ["small/ce/seed-1/kd"]


@pytest.mark.parametrize("under_nohup", [False, True])
def test_a_closed_terminal_stops_the_runs_too(study, fake, tmp_path, under_nohup):
    plan, folder = load_plan(study), tmp_path / "out"
    first = StudyRunner(plan, folder).pending()[0].name
    fake(**{first.removeprefix("small/"): "wait"})
    usual = signal.SIG_IGN if under_nohup else signal.SIG_DFL
    before, seen = signal.signal(signal.SIGHUP, usual), []

    def close_terminal():
        while not list(folder.rglob("*.log")):  # the first run has begun
            time.sleep(0.01)
        seen.append(signal.getsignal(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGHUP)
        if under_nohup:
            os.kill(os.getpid(), signal.SIGTERM)

    closing = threading.Thread(target=close_terminal)
    closing.start()
    try:
        assert not StudyRunner(plan, folder).run()
        closing.join()
        assert (seen == [signal.SIG_IGN]) == under_nohup and signal.getsignal(signal.SIGHUP) == usual
    finally:
        signal.signal(signal.SIGHUP, before)
    assert first not in Records(folder / "records.jsonl").by_name


@pytest.mark.parametrize("end", ["wait", "wait-0"])
def test_a_stopped_study_goes_on(study, fake, tmp_path, end):
    plan, folder = load_plan(study), tmp_path / "out"
    first = StudyRunner(plan, folder).pending()[0].name
    fake(**{first.removeprefix("small/"): end})
    assert not StudyRunner(plan, folder).run(seconds=0.5)
    assert first not in Records(folder / "records.jsonl").by_name
    (log,) = (folder / "logs").rglob("*.log")
    log.write_text(re.sub(r"== [\d.]+ s ==", "== 1000.0 s ==", log.read_text()))
    fake()
    assert StudyRunner(plan, folder).run()
    assert Records(folder / "records.jsonl").by_name[first]["seconds"] >= 1000  # both sittings


def test_a_teacher_whose_folder_is_gone_is_trained_again(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(x for x in lines if "small/ce/seed-1/kd" not in x))
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    done = len(fake.log())
    assert StudyRunner(plan, folder).run()
    assert [line.split()[0] for line in fake.log()[done:]] == ["hf_icckd.teacher", "hf_icckd.student"]
    assert len((folder / "records.jsonl").read_text().splitlines()) == len(lines)


@pytest.fixture
def finetuned(study):
    """A study with a teacher that goes on from the control; it stands first, and its sweep has a seed of its own."""
    tuned = {"finetuned": {"start_from": "{teacher ce}", "num_train_epochs": 1}}
    sweep = {"base": "finetuned", "option": "intra_class.margin", "values": [0.5], "seeds": [7], "students": ["kd"]}
    study.write_text(
        yaml.safe_dump(STUDY | {"teachers": tuned | STUDY["teachers"], "sweeps": {"margin": sweep}}, sort_keys=False)
    )
    return load_plan(study)


def test_a_teacher_may_go_on_from_another(finetuned, fake, tmp_path):
    order = names(finetuned)
    for seed in (0, 1, 7, 100):
        assert order.index(f"small/ce/seed-{seed}/teacher") < order.index(
            f"small/finetuned{',intra_class.margin=0.5' if seed == 7 else ''}/seed-{seed}/teacher"
        )
    run = finetuned.teacher("small", "finetuned", 1)
    words = run.words("runs")
    assert words[words.index("--start_from") + 1] == "runs/small/ce/seed-1/teacher"
    folder = tmp_path / "out"
    fake(**{"ce/seed-0/teacher": DIVERGED})
    assert StudyRunner(finetuned, folder, jobs=2).run()
    records = Records(folder / "records.jsonl").by_name
    assert records["small/finetuned/seed-0/teacher"]["message"] == "the teacher it starts from diverged"
    assert records["small/finetuned/seed-0/kd"]["message"] == "its teacher diverged"
    assert records["small/finetuned/seed-1/teacher"]["status"] == "finished"
    assert str(tmp_path) not in (folder / "records.jsonl").read_text()


def test_all_that_is_needed_is_trained_again_in_turn(finetuned, fake, tmp_path):
    folder = tmp_path / "out"
    StudyRunner(finetuned, folder).run()
    edit_records(folder, lambda each: None if each["run"] == "small/finetuned/seed-1/kd" else each)
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    done = len(fake.log())
    assert StudyRunner(finetuned, folder, jobs=2).run()
    assert [Path(line.split()[1]).relative_to(folder / "runs" / "small") for line in fake.log()[done:]] == [
        Path("ce/seed-1/teacher"),
        Path("finetuned/seed-1/teacher"),
        Path("finetuned/seed-1/kd"),
    ]


def test_a_teacher_that_went_on_from_another_one_is_noticed(finetuned, fake, tmp_path):
    folder = tmp_path / "out"
    StudyRunner(finetuned, folder).run()

    def other_start(record):
        tuned = record["run"] == "small/finetuned/seed-1/teacher"
        return record | {"arguments": record["arguments"] | {"start_fingerprint": "other"}} if tuned else record

    edit_records(folder, other_start)
    with pytest.raises(ValueError, match="small/finetuned/seed-1/teacher used another teacher"):
        StudyRunner(finetuned, folder)


def test_records_of_another_plan_are_refused(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    plan.teachers["ce"]["learning_rate"] = 0.1
    with pytest.raises(
        ValueError, match=r"small/ce/seed-100/teacher with other options \(learning_rate 0.05 -> 0.1\)"
    ):
        StudyRunner(plan, folder)


def test_an_option_named_with_its_default_is_none(study, fake, tmp_path):
    """What it was in the recorded run counts, also where the default has become another since."""
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    assert plan.students["kd"].options.pop("objectives") == ["kd"]
    assert not StudyRunner(plan, folder).pending()
    plan.teachers["ce"]["num_views"] = 2
    assert not StudyRunner(plan, folder).pending()
    plan.teachers["ce"]["num_views"] = 1
    with pytest.raises(ValueError, match=r"other options \(num_views 2 -> 1\)"):
        StudyRunner(plan, folder)
    plan.teachers["ce"]["num_views"] = 2

    def other_default(record):
        return record | {"arguments": record["arguments"] | {"num_views": 1}}

    edit_records(folder, other_default)
    with pytest.raises(ValueError, match=r"other options \(num_views 1 -> 2\)"):
        StudyRunner(plan, folder)


def test_an_argument_of_a_term_named_with_its_default_is_none(study, fake, tmp_path):
    """Again, what it was in the recorded run counts."""
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    for same in ("intra_class:weight=0.5,gate=true", ["intra_class:cache_size=32,weight=5e-1"]):
        plan.teachers["intra"]["terms"] = same
        assert not StudyRunner(plan, folder).pending()
    plan.teachers["intra"]["terms"] = "intra_class:weight=0.5,gate=false"
    with pytest.raises(
        ValueError, match=r"terms \['intra_class:weight=0.5'\] -> \['intra_class:weight=0.5,gate=false'\]"
    ):
        StudyRunner(plan, folder)
    plan.teachers["intra"]["terms"] = "intra_class:weight=0.5"

    def changed(old, new):
        def change(record):
            terms = [spec.replace(old, new) for spec in record["arguments"].get("terms", [])]
            return record | {"arguments": record["arguments"] | ({"terms": terms} if terms else {})}

        return change

    edit_records(folder, changed("margin=0.2", "margin=0.0"))
    plan.teachers["intra"]["terms"] = "intra_class:weight=0.5,margin=0"
    plan.teachers["default"]["terms"] = "intra_class:margin=0"
    assert not StudyRunner(plan, folder).pending()
    edit_records(folder, changed("margin=0.0", "margin=0.2"))
    plan.teachers["intra"]["terms"], plan.teachers["default"]["terms"] = "intra_class:weight=0.5", "intra_class"
    edit_records(folder, changed("gate=true", "gate=false"))
    with pytest.raises(
        ValueError, match=r"terms \['intra_class:weight=0.5,gate=false'\] -> \['intra_class:weight=0.5'\]"
    ):
        StudyRunner(plan, folder)


def test_records_of_an_earlier_version_are_to_be_converted(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()

    def earlier(record):
        options = record["options"]
        return record | {"options": options | {"intra_class_weight": 0.5}} if "terms" in options else record

    edit_records(folder, earlier)
    with pytest.raises(ValueError, match=r"a record with intra_class_weight.*run python -m hf_icckd\.study\.convert"):
        StudyRunner(plan, folder)


def test_a_sweep_leaves_the_options_of_the_teachers_alone(study):
    plan = load_plan(study)
    before = plan.teacher("small", "intra", 0).options
    plan.sweeps["gate"] = dataclasses.replace(
        plan.sweeps["weight"], base="intra", option="intra_class.gate", values=[True, False]
    )
    assert plan.teacher("small", "intra", 0).options == before
    swept = before | {"terms": ["intra_class:weight=0.5,gate=false"]}
    assert plan.teacher("small", "intra,intra_class.gate=False", 0).options == swept


def test_a_study_belongs_to_one_process(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    fake(**{"ce/seed-100/teacher": "wait"})
    other = os.fork()
    if other == 0:
        StudyRunner(plan, folder).run()
        os._exit(0)
    while not (folder / "logs").is_dir():
        time.sleep(0.01)
    with pytest.raises(ValueError, match="another process is working on the study"):
        StudyRunner(plan, folder).run()
    os.kill(other, signal.SIGTERM)
    os.waitpid(other, 0)


def test_torn_and_damaged_records(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"run": "a"}\n{"run": "b"')
    records = Records(path)
    assert list(records.by_name) == ["a"]
    records.add({"run": "c"})
    assert list(Records(path).by_name) == ["a", "c"]
    path.write_text('{"run": "a"}\nnonsense\n{"run": "c"}\n')
    with pytest.raises(ValueError, match=r"line 2 of .* is no record"):
        Records(path)


def test_gpus_are_dealt_out_in_turn(study, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(runner_module, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    environments = StudyRunner(load_plan(study), tmp_path, jobs=3).environments
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == ["4", "6", "4"]
    assert {each["OMP_NUM_THREADS"] for each in environments} == {"2"}


def test_wrong_number_of_jobs(study, tmp_path):
    with pytest.raises(ValueError, match="jobs is 0, expected 1"):
        StudyRunner(load_plan(study), tmp_path, jobs=0)


STUDIES = sorted((ROOT / "recipes" / "configs" / "study").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_the_studies_that_come_along(path):
    """Loading checks every option; the controls are all there."""
    plan = load_plan(path)
    assert len(plan.seeds) >= 5 and len(plan.teachers) == 10 and path.read_text().startswith("# ")


def edit_records(folder: Path, change) -> None:
    path = folder / "records.jsonl"
    records = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records if each is not None))


def test_students_of_another_teacher_are_noticed(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()

    def other_teacher(record):
        taught = record["run"] == "small/intra/seed-0/kd"
        return record | {"arguments": record["arguments"] | {"teacher_fingerprint": "other"}} if taught else record

    edit_records(folder, other_teacher)
    with pytest.raises(ValueError, match="small/intra/seed-0/kd used another teacher"):
        StudyRunner(plan, folder)


def test_other_images_are_noticed(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()

    def other_data(record):
        last = record["run"] == "small/intra/seed-1/kd"
        return record | {"arguments": record["arguments"] | {"data_fingerprint": "xyz"}} if last else record

    edit_records(folder, other_data)
    with pytest.raises(ValueError, match="was trained on other images than"):
        StudyRunner(plan, folder)


def test_a_teacher_that_comes_out_otherwise_is_not_used(study, fake, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    edit_records(folder, lambda each: None if each["run"] == "small/ce/seed-1/kd" else each | {"weights": "other"})
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    with pytest.raises(
        ValueError, match="trained again, but its weights differ from those of its recorded students' teacher"
    ):
        StudyRunner(plan, folder).run()


def test_a_teacher_that_comes_out_otherwise_is_used_where_no_student_had_it(study, fake, tmp_path):
    """As on another kind of machine."""
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    teacher, before = "small/ce/seed-1/teacher", Records(folder / "records.jsonl").by_name
    is_student = lambda each: each["run"].startswith("small/ce/seed-1/") and each["run"] != teacher  # noqa: E731
    edit_records(
        folder,
        lambda each: None if is_student(each) else each | ({"weights": "other"} if each["run"] == teacher else {}),
    )
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    assert StudyRunner(plan, folder).run()
    after = Records(folder / "records.jsonl").by_name
    assert after.keys() == before.keys() and after[teacher]["weights"] == before[teacher]["weights"]


def test_students_wait_for_the_record_of_their_teacher(study, fake, tmp_path):
    """A folder of an earlier try does not do: it may be of other options."""
    plan, folder = load_plan(study), tmp_path / "out"
    StudyRunner(plan, folder).run()
    edit_records(folder, lambda each: None if "small/ce/seed-1" in each["run"] else each)
    fake(**{"ce/seed-1/teacher": "error: output folder holds another run"})
    runner = StudyRunner(plan, folder)
    with pytest.raises(ValueError, match="holds another run"):
        runner.run()
    assert list(runner.failed) == ["small/ce/seed-1/teacher"]


def test_sweeps_compare_what_is_in_force(study):
    plan = load_plan(study)
    plan.teacher_options["terms"] = ["intra_class:weight=0.1"]  # of all that don't say otherwise
    del plan.teachers["default"]["terms"]
    assert plan.sweep_teachers(plan.sweeps["weight"])[0.1] == "default"
    assert plan.sweep_teachers(plan.sweeps["weight"])[0.05] == "intra,intra_class.weight=0.05"


def test_the_plan_that_is_kept_is_the_plan(study, tmp_path):
    plan = load_plan(study)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(dataclasses.asdict(plan)))
    assert load_plan(tmp_path / "again.yaml") == plan


def test_the_question_stays_what_it_was(study, fake, tmp_path):
    plan = load_plan(study)
    StudyRunner(plan, tmp_path / "out").run()
    (tmp_path / "out/study.yaml").write_text(yaml.safe_dump(dataclasses.asdict(plan)))
    study.write_text(study.read_text().replace("student: kd", "student: tuned"))
    with pytest.raises(SystemExit) as stopped:
        study_main([str(study), "--output_dir", str(tmp_path / "out")])
    assert "student 'kd' -> 'tuned'" in str(stopped.value)


def test_a_diverged_run_keeps_its_curve(study, fake, tmp_path):
    runner = StudyRunner(load_plan(study), tmp_path / "out")
    run = runner.pending()[0]
    staged = staging_folder(runner.run_folder(run)) / "checkpoint-8"
    staged.mkdir(parents=True)
    log = [{"epoch": 1, "step": 8, "loss": 2.0, "loss/ce": 2.0, "images_per_second": 9}]
    log += [{"epoch": 1, "step": 8, "eval_top1": 50.0}]
    (staged / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    publish(runner.run_folder(run), 8, {"any": torch.zeros(1)})
    curve = runner._record(run, "diverged", 1.0, "loss is nan")["curve"]
    assert curve == [{"epoch": 1, "loss": 2.0, "loss/ce": 2.0, "eval_top1": 50.0}]


def test_records_are_read_by_who_owns_the_folder(study, fake, tmp_path):
    """Another process may have added some since the runner was made."""
    plan, folder = load_plan(study), tmp_path / "out"
    late = StudyRunner(plan, folder)
    StudyRunner(plan, folder).run()
    assert late.pending() and late.run()
    assert len(Records(folder / "records.jsonl").path.read_text().splitlines()) == len(late.records.by_name)
