"""Records of a study: what is kept of a run, and records that do not fit are refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import pytest
import torch
import yaml

from hf_icckd.runs.checkpoints import publish, staging_folder
from hf_icckd.study import Records, StudyRunner, load_plan
from hf_icckd.study.__main__ import main as study_main
from tests.study.small_study import edit_records


def test_records_of_another_plan_are_refused(study, ended, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
    plan.teachers["ce"]["learning_rate"] = 0.1
    with pytest.raises(
        ValueError, match=r"small/ce/seed-100/teacher with other options \(learning_rate 0.05 -> 0.1\)"
    ):
        StudyRunner(plan, folder)


def test_an_option_named_with_its_default_is_none(study, ended, tmp_path):
    """Its value in the recorded run counts, even if the default has changed since."""
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
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


def test_a_teacher_that_nowhere_names_its_terms_keeps_them(study, ended, tmp_path):
    """Its record was made when the default was another one: seeds that are left must not be of another teacher."""
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
    assert plan.teachers["default"].pop("terms") == ["intra_class:margin=0.2"]

    def unnamed(record):
        return record | {"options": {name: value for name, value in record["options"].items() if name != "terms"}}

    edit_records(folder, unnamed)
    with pytest.raises(ValueError, match=r"default/seed-.*other options \(terms \['intra_class'\] -> \['none'\]\)"):
        StudyRunner(plan, folder)


def test_an_argument_of_a_term_named_with_its_default_is_none(study, ended, tmp_path):
    """Again, its value in the recorded run counts."""
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
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


def test_records_of_an_earlier_version_are_to_be_converted(study, ended, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)

    def earlier(record):
        options = record["options"]
        return record | {"options": options | {"intra_class_weight": 0.5}} if "terms" in options else record

    edit_records(folder, earlier)
    with pytest.raises(ValueError, match=r"a record with intra_class_weight.*run python -m hf_icckd\.study\.convert"):
        StudyRunner(plan, folder)


def test_a_teacher_that_went_on_from_another_one_is_noticed(finetuned, ended, tmp_path):
    folder = tmp_path / "out"
    ended(finetuned, folder)

    def other_start(record):
        tuned = record["run"] == "small/finetuned/seed-1/teacher"
        return record | {"arguments": record["arguments"] | {"start_fingerprint": "other"}} if tuned else record

    edit_records(folder, other_start)
    with pytest.raises(ValueError, match="small/finetuned/seed-1/teacher used another teacher"):
        StudyRunner(finetuned, folder)


def test_torn_and_damaged_records(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"run": "a"}\n{"run": "b"')
    records = Records(path)
    assert list(records.by_name) == ["a"]
    records.add({"run": "c"})
    assert list(Records(path).by_name) == ["a", "c"]
    path.write_text('{"run": "a"}\nnonsense\n{"run": "c"}\n')
    with pytest.raises(ValueError, match=r"line 2 of .* is not a record"):
        Records(path)


def test_students_of_another_teacher_are_noticed(study, ended, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)

    def other_teacher(record):
        taught = record["run"] == "small/intra/seed-0/kd"
        return record | {"arguments": record["arguments"] | {"teacher_fingerprint": "other"}} if taught else record

    edit_records(folder, other_teacher)
    with pytest.raises(ValueError, match="small/intra/seed-0/kd used another teacher"):
        StudyRunner(plan, folder)


def test_other_images_are_noticed(study, ended, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)

    def other_data(record):
        last = record["run"] == "small/intra/seed-1/kd"
        return record | {"arguments": record["arguments"] | {"data_fingerprint": "xyz"}} if last else record

    edit_records(folder, other_data)
    with pytest.raises(ValueError, match="was trained on other images than"):
        StudyRunner(plan, folder)


def test_a_teacher_that_comes_out_otherwise_is_not_used(study, ended, tmp_path):
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
    edit_records(folder, lambda each: None if each["run"] == "small/ce/seed-1/kd" else each | {"weights": "other"})
    subprocess.run(["rm", "-r", folder / "runs"], check=True)
    with pytest.raises(
        ValueError, match="trained again, with other weights than its recorded students were taught by"
    ):
        StudyRunner(plan, folder).run()


def test_a_teacher_that_comes_out_otherwise_is_used_where_no_student_had_it(study, ended, tmp_path):
    """As on another kind of machine."""
    plan, folder = load_plan(study), tmp_path / "out"
    ended(plan, folder)
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


def test_records_are_read_by_who_owns_the_folder(study, ended, tmp_path):
    """Another process may have added some since the runner was made."""
    plan, folder = load_plan(study), tmp_path / "out"
    late = StudyRunner(plan, folder)
    ended(plan, folder)
    assert late.pending() and late.run()
    assert len(Records(folder / "records.jsonl").path.read_text().splitlines()) == len(late.records.by_name)


def test_the_question_stays_what_it_was(study, ended, tmp_path):
    plan = load_plan(study)
    ended(plan, tmp_path / "out")
    (tmp_path / "out/study.yaml").write_text(yaml.safe_dump(dataclasses.asdict(plan)))
    study.write_text(study.read_text().replace("student: kd", "student: tuned"))
    with pytest.raises(SystemExit) as stopped:
        study_main([str(study), "--output_dir", str(tmp_path / "out")])
    assert "student 'kd' -> 'tuned'" in str(stopped.value)
