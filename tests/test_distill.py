"""The whole path in one command: plan, parts, resume, table; and which words are for which part."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from hf_icckd import StudentTrainingArguments, distill, plan, student, teacher
from hf_icckd.cards import licences
from hf_icckd.data import from_options
from hf_icckd.data.from_options import LoadOnce
from hf_icckd.options.command_line import UserError
from hf_icckd.options.data import StudentDataArguments, TrainingDataArguments
from hf_icckd.options.distill_words import read_command
from hf_icckd.plan import PartPlan, plan_text
from hf_icckd.training import hub_callback

NETS = ["--teacher", "cifar_resnet20", "--student", "cifar_resnet8", "--teacher_pretrained", "false"]
QUICK = ["--teacher_max_steps", "2", "--student_max_steps", "3", "--per_device_train_batch_size", "8",
         "--num_threads", "1", "--disable_tqdm", "true", "--accept_teacher", "true", "--export", "none"]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with pictures of three classes, 14 each."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "cat")):
        (folder / name).mkdir(parents=True)
        for number in range(14):
            pixels = generator.integers(60 * label, 60 * label + 90, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def run(photos: Path, folder: Path, *words: str) -> None:
    distill.main([str(photos), *NETS, *QUICK, "--output_dir", str(folder), *words])


@pytest.fixture(scope="module")
def path(photos, tmp_path_factory) -> Path:
    """A finished path."""
    folder = tmp_path_factory.mktemp("runs") / "photos"
    run(photos, folder)
    return folder


def test_everything_is_there(path):
    options = {name: json.loads((path / name / "metrics.json").read_text()) for name in ("teacher", "student")}
    for name in options:
        assert {"config.json", "model.safetensors", "README.md", "all_args.yaml"} <= {
            file.name for file in (path / name).iterdir()
        }
    assert options["student"]["teacher"]["architecture"] == "cifar_resnet20"
    assert yaml.safe_load((path / "teacher" / "all_args.yaml").read_text())["terms"] == ["none"]
    assert "teacher_test" in options["student"]


def test_a_second_call_repeats_nothing_and_prints_the_table(path, photos, capsys, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    run(photos, path)
    out = capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before
    assert f"{path} is finished" in out and f"hf-icckd demo {path / 'teacher'} {path / 'student'}" in out
    assert "plan of" not in out and "test top-5" not in out
    run(photos, path, "--dry_run", "true")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "time nothing is left to train" in lines and "starts from is finished is finished" in lines


def test_a_changed_option_is_refused(path, photos):
    with pytest.raises(UserError, match=r"error: student: output folder .* it differs in: seed 0 -> 3"):
        run(photos, path, "--student_seed", "3")
    with pytest.raises(UserError, match=r"error: teacher: output folder .* it differs in: seed 0 -> 3"):
        run(photos, path, "--seed", "3")


def test_a_part_is_the_run_that_its_own_command_makes(path, photos, tmp_path):
    """The plan's trial before it leaves no trace in the weights."""
    words = ["--terms", "none", "--max_steps", "2", *QUICK[4:8], "--disable_tqdm", "true", "--dataset", str(photos)]
    teacher.main([*words, "--model", "cifar_resnet20", "--output_dir", str(tmp_path / "teacher")])
    one, other = (load_file(folder / "teacher" / "model.safetensors") for folder in (path, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_path_that_was_stopped_after_the_teacher_resumes(photos, path, tmp_path, monkeypatch, capsys):
    whole = student.main

    def stopped(words, **options):
        if "train" not in options:  # not the trial of the plan
            raise SystemExit(130)
        whole(words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(student, "main", stopped)
        with pytest.raises(SystemExit) as end:
            run(photos, tmp_path / "photos")
        assert end.value.code == 130
    weights = tmp_path / "photos" / "teacher" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    capsys.readouterr()
    run(photos, tmp_path / "photos")
    assert "is finished" in capsys.readouterr().out and weights.stat().st_mtime_ns == before
    one, other = (load_file(folder / "student" / "model.safetensors") for folder in (path, tmp_path / "photos"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_path_with_recorded_outputs_resumes_in_its_student(photos, path, tmp_path, capsys):
    words = [str(photos), "--teacher", str(path / "teacher"), "--student", "cifar_resnet8", "--max_steps", "1"]
    words += [*QUICK[4:], "--teacher_targets", "auto", "--output_dir", str(tmp_path / "out")]
    distill.main(words)
    metrics = tmp_path / "out" / "student" / "metrics.json"
    metrics.unlink()
    distill.main(words)
    assert metrics.is_file() and "plan of" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"student: output folder .* it differs in: recorded_targets True -> False"):
        distill.main([*words, "--teacher_targets", "live"])


def test_a_dry_run_prints_the_plan_and_leaves_nothing(photos, tmp_path, capsys, monkeypatch):
    asked: list[str] = []
    loaded: list[str] = []
    load = from_options.load_image_data
    # The teacher is not trained yet: whatever the Hub has under its name is another one.
    monkeypatch.setattr(licences, "stated_licence", asked.append)
    monkeypatch.setattr(student, "recorded_accuracy", lambda name: pytest.fail(f"the record of {name} was read"))
    monkeypatch.setattr(hub_callback, "prepare_repo", lambda *args, **options: pytest.fail("a repository was made"))
    monkeypatch.setattr(from_options, "load_image_data", lambda data: loaded.append(data.dataset) or load(data))
    words = ["--student_teacher_targets", "auto", "--student_push_to_hub", "true", "--teacher_image_size", "32"]
    run(photos, tmp_path / "some" / "where", "--dry_run", "true", *words)
    out = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert not asked and loaded == [str(photos)]
    lines = out[out.index("plan of") :].splitlines()
    table = {line[:20].strip(): line[20:] for line in lines}
    assert table["net"].split() == ["cifar_resnet20", "cifar_resnet8"]
    assert "32 x 32 pixels, enlarged from 24 x" in table["images"] and "24 x 24 pixels" in table["images"]
    assert "cross-entropy, two views" in table["learns by"] and "cross-entropy + kd" in table["learns by"]
    assert table["length"].startswith("2 steps") and "3 steps" in table["length"]
    assert table["memory"].count("MB for a step") == 2
    assert table["time"].startswith("about ") and table["time"].count(" for the ") == 2
    assert max(map(len, out[out.index("\n--") :].splitlines()[:5] + lines[1:])) <= 100


def test_a_teacher_that_is_trained_teaches_as_it_is(photos, path, tmp_path, capsys):
    words = ["--student", "cifar_resnet8", "--max_steps", "1", *QUICK[4:], "--output_dir", str(tmp_path / "again")]
    distill.main([str(photos), "--teacher", str(path / "teacher"), *words])
    assert sorted(each.name for each in (tmp_path / "again").iterdir()) == ["student"]
    out = capsys.readouterr().out
    assert "teaches as it is" in out and f"{path / 'teacher' / 'README.md'}" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "cifar_resnet200"], r"unknown model 'cifar_resnet200'.*did you mean cifar_resnet20 or"),
        (["--student", "resnet8x"], r"unknown model 'resnet8x'"),
        (["-n", "5"], r"unknown option -n; --help lists all"),
        (["--model", "resnet18"], r"--model is no option here: give the nets as --teacher and --student"),
        (["--teacher_model", "resnet18"], r"--teacher_model is for a teacher that is a file of weights"),
        (["--student_lr", "1"], r"unknown option --student_lr: here it is --learning_rate with student_ in front"),
        (["--push_to_hub", "true"], r"--push_to_hub is for one part: give --teacher_push_to_hub or --student_push_to"),
        (["--export", "none", "onnx"], r"export is none onnx, expected formats, or none alone"),
        (["--student_pretrained", "true"], r"timm has no pretrained weights|No pretrained weights"),
    ],
)
def test_wrong_command_lines_end_in_one_line(photos, tmp_path, words, message):
    with pytest.raises(SystemExit, match=message) as end:
        run(photos, tmp_path / "out", *words)
    assert str(end.value).startswith("error: ") and "\n" not in str(end.value)


def test_what_the_student_would_be_refused_for_is_refused_before_the_teacher_is_trained(photos, path, tmp_path):
    for words, message in (
        (["--teacher_head", "false"], "the objective kd compares logits, but the teacher cifar_resnet20 has embeddin"),
        (["--student_control", str(tmp_path)], "control .* is not a finished run"),
        (["--student_control", str(path / "teacher")], "is a run of the recipe 'teacher', expected 'student'"),
        (
            ["--teacher_test_fraction", "0.1", "--student_test_fraction", "0.5"],
            "would be trained on .* of the test",
        ),
        (["--student", "resnet18", "--student_start_from", str(path / "student")], "model is 'resnet18' but start_fr"),
    ):
        with pytest.raises(UserError, match=f"^error: student: .*{message}"):
            run(photos, tmp_path / "out", "--rehearsal", "false", *words)
        assert not list(tmp_path.iterdir())


def test_folders_of_something_else_are_refused(photos, path, tmp_path):
    with pytest.raises(UserError, match=r"holds a single run, expected the folder of a distillation"):
        run(photos, path / "teacher")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and holds neither teacher/ nor student/"):
        run(photos, tmp_path)


def test_a_teacher_of_other_classes_is_refused_before_anything_is_trained(path, tmp_path):
    words = ["--dataset", "digits", "--max_train_samples", "40", "--student", "cifar_resnet8", *QUICK[4:]]
    with pytest.raises(UserError, match=r"student: the teacher has 3 classes, the data set 10"):
        distill.main([*words, "--teacher", str(path / "teacher"), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "student" / "all_args.yaml").exists()


def test_a_full_disk_is_refused_with_what_is_needed(photos, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 3_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    with pytest.raises(UserError, match=r"needs up to \d\.\d MB, .* 3\.0 MB are free"):
        run(photos, tmp_path / "out", "--teacher_max_steps", "20")  # with several checkpoints
    assert not list(tmp_path.iterdir())


def test_without_the_packages_of_the_export_nothing_is_trained(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"onnx, onnxscript, onnxruntime not installed, but the export at the end .*--export none"
    ):
        run(photos, tmp_path / "out", "--export", "onnx")


# Which words are for which part


def words_of(*words: str) -> tuple[list[str], list[str]]:
    _, found = read_command(list(words))
    return found.teacher, found.student


def test_options_are_for_both_or_for_one_part():
    assert words_of("photos", "--seed", "1") == (["--seed", "1", "--dataset", "photos"],) * 2
    assert words_of("--student_seed=2", "--seed", "1") == (["--seed", "1"], ["--seed", "1", "--seed=2"])
    assert words_of("--terms", "none", "--objectives", "kd", "rkd") == (
        ["--terms", "none"],
        ["--objectives", "kd", "rkd"],
    )
    assert words_of("--teacher_learning_rate", ".1") == (["--learning_rate", ".1"], [])
    assert words_of("--teacher_targets", "auto") == ([], ["--teacher_targets", "auto"])
    assert words_of("--teacher_image_size", "64") == (["--image_size", "64"], [])
    assert words_of("--pretrained", "false", "--student_pretrained", "true") == (
        ["--pretrained", "false"],
        ["--pretrained", "false", "--pretrained", "true"],
    )


def test_words_with_one_dash_are_no_values_and_without_words_defaults_hold():
    for words in (["-v"], ["photos", "-n", "5"], ["-n", "5", "photos"]):
        with pytest.raises(UserError, match=r"^error: unknown option -[vn]; --help lists all$"):
            read_command(words)
    assert words_of() == ([], []) and words_of("--seed", "-1")[0] == ["--seed", "-1"]
    assert distill._value([], "seed") is None and distill._value(["--seed", "1", "--seed=2"], "seed") == "2"


def test_options_of_a_teacher_that_is_a_file_of_weights_are_the_students():
    words = ["--teacher_model", "resnet18", "--teacher_image_size", "64"]
    assert words_of("--teacher", "net.pth", *words) == ([], words)
    with pytest.raises(UserError, match="--teacher_seed is for a teacher that is trained here"):
        words_of("--teacher", "net.pth", "--teacher_seed", "1")
    with pytest.raises(UserError, match="--terms is for a teacher that is trained here"):
        words_of("--teacher", "me/net", "--terms", "none")


def test_a_file_of_options_comes_first(tmp_path):
    (tmp_path / "path.yaml").write_text("dataset: photos\nteacher_learning_rate: 0.1\n")
    assert words_of(str(tmp_path / "path.yaml"), "--seed", "1") == (
        ["--dataset", "photos", "--seed", "1", "--learning_rate", "0.1"],
        ["--dataset", "photos", "--seed", "1"],
    )
    (tmp_path / "path.yaml").write_text("teacher_learning_rat: 0.1\n")
    with pytest.raises(UserError, match=r"unknown option 'teacher_learning_rat' in .*mean 'teacher_learning_rate'"):
        words_of(str(tmp_path / "path.yaml"))


def test_a_data_set_is_loaded_once_and_notes_stay_with_their_run():
    load = LoadOnce()
    first = load(TrainingDataArguments("digits", max_train_samples=40))
    first.hashes()
    first.notes.append("of the first run")
    second = load(StudentDataArguments("digits", max_train_samples=40))
    assert second.train is first.train and "_hashes" in vars(second) and "of the first run" not in second.notes
    assert len(load(TrainingDataArguments("digits", max_train_samples=41)).train) == 41


def test_the_plan_says_what_is_learned_and_the_warm_up(tmp_path):
    args = StudentTrainingArguments(tmp_path, warmup_epochs=2, lr_milestones=[0.5, 0.75], num_threads=1)
    assert plan._schedule(args) == "divided by ten at 0.5, 0.75, warm-up 2 epochs"
    args = StudentTrainingArguments(tmp_path, warmup_steps=0.1, lr_schedule_epochs=200, num_threads=1)
    assert plan._schedule(args) == "cosine, as for 200 epochs, warm-up 10 %"
    for weights, words in (({"ce": 1.0}, "cross-entropy + kd"), ({"ce": 0.5}, "0.5 x cross-entropy + kd"), ({}, "kd")):
        assert plan._learns_by(SimpleNamespace(args=args, term_weights=weights | {"kd": 1.0})) == words


def test_the_table_of_the_plan_wraps_long_words():
    teacher, student = PartPlan({"net": "a " * 30}), PartPlan({"net": "b", "batch": "8 images"})
    lines = plan_text(teacher, student, "plan", [("disk", "1 MB")]).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2].split() == ["teacher", "student"] and lines[-1].split() == ["disk", "1", "MB"]
    assert "8 images" in lines[-2]
