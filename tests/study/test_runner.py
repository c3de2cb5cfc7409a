"""Running a study: nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from hf_icckd.options.command_line import DIVERGED
from hf_icckd.study import Records, StudyRunner, load_plan
from hf_icckd.study import runner as runner_module
from hf_icckd.study.report.controls import controls_table
from hf_icckd.study.report.frames import run_metrics
from tests.study.small_study import STUDY, edit_records, names


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


def test_a_teacher_whose_folder_is_gone_is_trained_again(study, fake, ended, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(x for x in lines if "small/ce/seed-1/kd" not in x))
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    done = len(fake.log())
    assert StudyRunner(plan, folder).run()
    assert [line.split()[0] for line in fake.log()[done:]] == ["hf_icckd.teacher", "hf_icckd.student"]
    assert len((folder / "records.jsonl").read_text().splitlines()) == len(lines)


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


def test_assistants_are_a_chain(study, fake, tmp_path):
    """A student of an assistant of an assistant of a teacher."""
    plan = dict(STUDY)
    assistant = {"objectives": ["kd"], "num_train_epochs": 3}
    plan["teachers"] = STUDY["teachers"] | {
        "small": {"model": "cifar_resnet14", "teacher": "{teacher middle}"} | assistant,
        "middle": {"model": "cifar_resnet20", "teacher": "{teacher ce}"} | assistant,
    }
    study.write_text(yaml.safe_dump(plan | {"sweeps": {}, "seeds": [0]}, sort_keys=False))
    plan, folder = load_plan(study), tmp_path / "out"
    order = names(plan)
    chain = [order.index(f"small/{name}/seed-0/teacher") for name in ("ce", "middle", "small")]
    assert chain == sorted(chain)
    run = plan.teacher("small", "small", 0)
    assert (
        run.recipe == "student" and run.options["model"] == "cifar_resnet14" and run.options["num_train_epochs"] == 3
    )
    words = run.words("runs")
    assert words[0] == "hf_icckd.student" and "--terms" not in words
    early = controls_table(plan, run_metrics({}))
    assert "middle" not in early and "small" not in early  # no controls for teachers
    assert words[words.index("--teacher") + 1] == "runs/small/middle/seed-0/teacher"
    assert StudyRunner(plan, folder, jobs=2).run()
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(x for x in lines if "small/small/seed-0/kd" not in x))
    done = len(fake.log())
    assert StudyRunner(plan, folder).run()
    again = [line.split()[1].partition("runs/")[2] for line in fake.log()[done:]]
    assert again == [f"small/{each}" for each in ("ce/seed-0/teacher", "middle/seed-0/teacher", "small/seed-0/teacher",
                                                  "small/seed-0/kd")]  # fmt: skip


def test_all_that_is_needed_is_trained_again_in_turn(finetuned, fake, ended, tmp_path):
    folder = tmp_path / "out"
    ended(finetuned, folder)
    edit_records(folder, lambda each: None if each["run"] == "small/finetuned/seed-1/kd" else each)
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    done = len(fake.log())
    assert StudyRunner(finetuned, folder, jobs=2).run()
    assert [Path(line.split()[1]).relative_to(folder / "runs" / "small") for line in fake.log()[done:]] == [
        Path("ce/seed-1/teacher"),
        Path("finetuned/seed-1/teacher"),
        Path("finetuned/seed-1/kd"),
    ]


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


def test_students_wait_for_the_record_of_their_teacher(study, fake, ended, tmp_path):
    """A folder of an earlier try does not do: it may be of other options."""
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
    edit_records(folder, lambda each: None if "small/ce/seed-1" in each["run"] else each)
    fake(**{"ce/seed-1/teacher": "error: output folder holds another run"})
    runner = StudyRunner(plan, folder)
    with pytest.raises(ValueError, match="holds another run"):
        runner.run()
    assert list(runner.failed) == ["small/ce/seed-1/teacher"]
