"""The commands as a user types them, on the embedded digits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from hf_icckd import evaluate, from_pretrained, student, teacher
from hf_icckd.data import ImagePipeline
from hf_icckd.models.pretrained import fingerprint
from hf_icckd.options.command_line import DIVERGED, UserError, parse_arguments
from hf_icckd.options.recipes import RECIPES
from hf_icckd.options.training import TeacherTrainingArguments
from hf_icckd.runs.provenance import how_computed
from tests import ROOT

QUICK = ["--max_train_samples", "160", "--max_eval_samples", "80", "--max_steps", "3", "--disable_tqdm", "true",
         "--model", "cifar_resnet8", "--num_threads", "1"]  # fmt: skip
ACCEPT = ["--accept_teacher", "true"]  # three steps leave a teacher at chance


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished teacher and a finished student."""
    folder = tmp_path_factory.mktemp("runs")
    teacher.main([*QUICK, "--output_dir", f"{folder}/teacher", "--report_to", "tensorboard", "--logging_steps", "1"])
    student.main(
        [
            *QUICK,
            *ACCEPT,
            "--output_dir",
            f"{folder}/student",
            "--teacher",
            f"{folder}/teacher",
            "--objectives",
            "kd",
            "rkd",
        ]
    )
    return folder


def test_a_run_leaves_model_figures_options_and_card(runs):
    for name in ("teacher", "student"):
        folder = runs / name
        metrics = json.loads((folder / "metrics.json").read_text())
        assert 0 <= metrics["test"]["top1"] <= 100 and metrics["test"]["images"] == 80
        assert {"nc1", "distance_ratio", "soft_label_information_matched"} <= metrics["test"].keys()
        assert metrics["cost"]["parameters"] == sum(p.numel() for p in from_pretrained(folder).net.parameters())
        options = yaml.safe_load((folder / "all_args.yaml").read_text())
        assert options["dataset"] == "digits" and options["max_steps"] == 3
        assert not any("token" in name for name in options)
        card = (folder / "README.md").read_text()
        assert f"{metrics['test']['top1']:.2f} %" in card and card.startswith("---\n")
        assert yaml.safe_load(card.split("---")[1])["library_name"] == "timm"
        assert from_pretrained(folder).spec.label_names == tuple(map(str, range(10)))
        assert not [path for path in folder.rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl")]
        assert not list(folder.glob("checkpoint-*"))
    assert list((runs / "teacher").rglob("events.out.tfevents.*"))
    assert "agreement" in json.loads((runs / "student" / "metrics.json").read_text())["test"]


def test_a_run_says_how_it_computes(tmp_path, caplog):
    for name, words, expected in (
        ("float32", [], f"float32, channels last, on 1 x .*{torch.get_num_threads()} thread"),
        ("bf16", ["--bf16", "true", "--channels_last", "false"], "bf16, channels first, on 1 x"),
    ):
        caplog.clear()
        words = [*words, "--num_threads", str(torch.get_num_threads()), "--use_cpu", "true"]
        teacher.main([*QUICK, "--output_dir", f"{tmp_path}/{name}", *words])
        assert re.search(expected, caplog.text)
        assert name == "float32" or "--bf16 true may be faster" not in caplog.text


@pytest.mark.parametrize(
    ("known", "precision", "hint"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, "float32", "--bf16 true may be faster here"),
        ({"avx512_f": True, "avx512_bf16": True}, "bf16", None),
        ({"avx512_f": True, "avx512_bf16": False}, "bf16", None),
        ({"avx512_f": False, "avx512_bf16": False}, "bf16", "emulates bf16"),
        ({"avx512_f": False, "avx512_bf16": False}, "float32", None),
        ({"bf16": True}, "bf16", None),
    ],
)
def test_a_run_says_what_would_be_faster(known, precision, hint, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    args = TeacherTrainingArguments(tmp_path, use_cpu=True, bf16=precision == "bf16")
    text = how_computed(args)
    assert hint in text if hint else "faster" not in text and "emulates" not in text


def test_a_finished_run_says_so(runs, capsys):
    before = {path: path.stat().st_mtime_ns for path in (runs / "teacher").rglob("*")}
    teacher.main([*QUICK, "--output_dir", f"{runs}/teacher", "--logging_steps", "7"])
    assert "teacher is finished" in capsys.readouterr().out
    for name, hint in (("license", "hf-icckd card .*--license mit"), ("control", "leave the option out")):
        with pytest.raises(UserError, match=f"{name} is 'mit' but .* was finished with None; .*{hint}"):
            teacher.main([*QUICK, "--output_dir", f"{runs}/teacher", f"--{name}", "mit"])
    assert before == {path: path.stat().st_mtime_ns for path in (runs / "teacher").rglob("*")}


def test_another_run_is_refused(runs, tmp_path):
    with pytest.raises(
        UserError,
        match=r"holds another run; it differs in: seed 0 -> 1; terms \['none'\] -> \['intra_class:weight=0.05,.*'\]",
    ):
        teacher.main([*QUICK, "--output_dir", f"{runs}/teacher", "--seed", "1", "--terms", "intra_class"])
    with pytest.raises(UserError, match=r"it differs in: .*recipe 'teacher' -> 'student'"):
        student.main([*QUICK, "--output_dir", f"{runs}/teacher", "--teacher", f"{runs}/teacher"])
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        teacher.main([*QUICK, "--output_dir", str(tmp_path)])


def test_a_student_of_a_retrained_teacher_is_another_run(runs, tmp_path):
    folder = tmp_path / "teacher"
    for seed in ("1", "2"):
        teacher.main([*QUICK, "--output_dir", str(folder), "--seed", seed])
        words = [*QUICK, *ACCEPT, "--output_dir", f"{tmp_path}/student", "--teacher", str(folder)]
        if seed == "1":
            student.main(words)
            shutil.rmtree(folder)
    with pytest.raises(UserError, match="it differs in: teacher_fingerprint"):
        student.main(words)


def test_a_teacher_that_was_moved_is_the_same(runs, tmp_path, capsys):
    shutil.copytree(runs / "teacher", tmp_path / "moved")
    words = [*QUICK, *ACCEPT, "--output_dir", f"{tmp_path}/student", "--teacher"]
    student.main([*words, f"{runs}/teacher"])
    capsys.readouterr()
    student.main([*words, f"{tmp_path}/moved"])
    assert "student is finished" in capsys.readouterr().out


def test_student_without_teacher_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no teacher in 'runs/teacher'; train one first with hf-icckd teacher"):
        student.main([])


GO_ON = [word for word in QUICK if word not in ("--model", "cifar_resnet8")]
GO_ON += ["--max_steps", "1", "--learning_rate", "1e-9", "--weight_decay", "0"]


def test_a_teacher_goes_on_from_a_trained_classifier(runs, tmp_path, capsys):
    """With its architecture, weights and preprocessing; at a tiny learning rate it stays nearly the same."""
    words = [*GO_ON, "--start_from", f"{runs}/teacher", "--output_dir", f"{tmp_path}/same"]
    teacher.main(words)
    before, after = from_pretrained(runs / "teacher"), from_pretrained(tmp_path / "same")
    assert after.spec == before.spec
    for (name, old), new in zip(before.net.named_parameters(), after.net.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-6, msg=name)
    options = yaml.safe_load((tmp_path / "same" / "all_args.yaml").read_text())
    assert options["start_fingerprint"] == fingerprint(before) and options["model"] == "cifar_resnet8"
    card = (tmp_path / "same" / "README.md").read_text()
    assert "two views, from a trained classifier" in card
    assert "| start | weights of a trained classifier: cross-entropy, two views" in card
    capsys.readouterr()
    teacher.main(words)
    assert "is finished" in capsys.readouterr().out


def test_for_other_classes_it_gets_a_new_layer(runs, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(ImagePipeline, "channel_statistics", None)  # the net has its own: none are read off images
    words = [*GO_ON, "--classes", "3", "8", "--max_train_samples", "40", "--max_eval_samples", "20"]
    teacher.main([*words, "--start_from", f"{runs}/teacher", "--output_dir", f"{tmp_path}/other"])
    after, before = from_pretrained(tmp_path / "other"), from_pretrained(runs / "teacher")
    assert after.spec.label_names == ("3", "8") and after.spec.mean == before.spec.mean
    torch.testing.assert_close(after.net.conv1.weight, before.net.conv1.weight, rtol=0, atol=1e-6)
    assert "it gets a new classification layer" in caplog.text


def test_what_a_teacher_went_on_from_makes_the_run(runs, tmp_path):
    words = [*GO_ON, "--output_dir", f"{tmp_path}/run", "--start_from"]
    teacher.main([*words, f"{runs}/teacher"])
    with pytest.raises(UserError, match="holds another run; it differs in: start_fingerprint"):
        teacher.main([*words, f"{runs}/student"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--start_from", "{teacher}", "--pretrained", "true"], "pretrained is true, expected one of them"),
        (
            ["--start_from", "{teacher}", "--model", "cifar_resnet56"],
            "model is 'cifar_resnet56' but start_from .* is a cifar_resnet8; leave one of them out",
        ),
        (  # the default, but named
            ["--start_from", "{teacher}", "--model", "cifar_resnet20"],
            "model is 'cifar_resnet20' but start_from .* is a",
        ),
        (["--start_from", "no/where/at/all"], "is not a folder here, a timm architecture or a Hub id"),
    ],
)
def test_wrong_starts_end_in_one_line(runs, tmp_path, words, message):
    words = [word.format(teacher=runs / "teacher") for word in words]
    with pytest.raises(UserError, match=f"^error: .*{message}"):
        teacher.main([*words, "--output_dir", f"{tmp_path}/run"])
    assert not (tmp_path / "run").exists()


def test_one_test_image_is_enough(tmp_path):
    words = ["--max_train_samples", "64", "--max_eval_samples", "1", "--max_steps", "1", "--model", "cifar_resnet8"]
    teacher.main([*words, "--disable_tqdm", "true", "--num_threads", "1", "--output_dir", f"{tmp_path}/run"])
    assert "nc1" not in json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]


def test_unwritable_output_folder_ends_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^error: .*Not a directory.*choose another folder with --output_dir"):
        teacher.main([*QUICK, "--output_dir", f"{tmp_path}/file/run"])


def test_secrets_stay_out_of_records(monkeypatch):
    from hf_icckd.runs.provenance import command_line

    secrets = ["--hub_token", "hf_abc", "--hub_token=hf_def", "--seed", "1", "--hub_token", "hf_ghi"]
    monkeypatch.setattr(sys, "argv", ["/home/me/recipes/teacher.py", *secrets])
    assert command_line() == "python -m hf_icckd.teacher --seed 1"


def test_an_interrupted_run_goes_on(deterministic, tmp_path, monkeypatch, capsys):
    from hf_icckd.training import resumable

    options = [*QUICK, "--save_strategy", "steps", "--save_steps", "2"]
    teacher.main([*options, "--output_dir", f"{tmp_path}/whole"])
    original = resumable.ResumableTrainer._save_checkpoint

    def save_and_fail(self, *args):
        original(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(resumable.ResumableTrainer, "_save_checkpoint", save_and_fail)
    with pytest.raises(SystemExit, match="130"):
        teacher.main([*options, "--output_dir", f"{tmp_path}/cut"])
    assert "the same command resumes" in capsys.readouterr().err
    monkeypatch.undo()
    teacher.main([*options, "--output_dir", f"{tmp_path}/cut"])
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_evaluate_measures_what_training_measured(runs, tmp_path):
    evaluate.main(["--model", f"{runs}/student", "--teacher", f"{runs}/teacher", "--max_eval_samples", "80",
                   "--max_train_samples", "160", "--output_file", f"{tmp_path}/figures.json"])  # fmt: skip
    found = json.loads((tmp_path / "figures.json").read_text())
    recorded = json.loads((runs / "student" / "metrics.json").read_text())
    ours, run = found["test"], recorded["test"]
    assert ours.keys() == run.keys()
    for name, value in run.items():
        assert ours[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    # How many training images there were, the model alone doesn't say.
    assert list(found["per_class"]) == ["names", "test"]
    assert found["per_class"]["test"] == recorded["per_class"]["test"]


def test_single_classes_are_measured_wherever_metrics_are(runs, capsys):
    run = runs / "student"
    results = json.loads((run / "metrics.json").read_text())
    per_class = results["per_class"]
    assert per_class["names"] == [str(digit) for digit in range(10)]
    for split in ("test", "train"):
        table = per_class[split]
        assert sum(table["images"]) == results[split]["images"] == sum(table["predicted"])
        assert sum(table["recall"]) / 10 == pytest.approx(results[split]["balanced_accuracy"], abs=0.01)
        assert sum(value or 0 for value in table["f1"]) / 10 == pytest.approx(results[split]["macro_f1"], abs=0.01)
    assert all("eval_balanced_accuracy" in entry for entry in results["history"])
    capsys.readouterr()
    evaluate.main(["--model", str(run), "--max_eval_samples", "80", "--max_train_samples", "160"])
    said = capsys.readouterr().out
    worst = per_class["test"]["zero_recall"]
    assert f"{worst} of 10 classes ha" in said if worst else "lowest recall" in said
    assert "test balanced accuracy, macro F1" in said and "most frequent mistake" in said
    card = (run / "README.md").read_text()
    assert "### Classes" in card and f"is {results['test']['balanced_accuracy']:.2f} %" in card


def test_evaluate_looks_first_where_it_is_to_write(runs, tmp_path, capsys):
    with pytest.raises(UserError, match=r"output_file is '.*/nowhere/x\.json', whose folder does not exist; create"):
        evaluate.main(["--model", f"{runs}/student", "--output_file", f"{tmp_path}/nowhere/x.json"])
    assert not capsys.readouterr().out
    with pytest.raises(UserError, match=r"Is a directory.*choose another place with --output_file"):
        evaluate.main(["--model", f"{runs}/student", "--max_eval_samples", "20", "--output_file", str(tmp_path)])


def test_evaluate_has_no_option_without_effect(runs):
    with pytest.raises(UserError, match="unknown option --augmentation"):
        evaluate.main(["--model", f"{runs}/student", "--augmentation", "none"])


def test_options_of_ours_are_compared_even_if_a_record_lacks_them(runs, tmp_path):
    shutil.copytree(runs / "teacher", tmp_path / "run")
    record = tmp_path / "run" / "all_args.yaml"
    values = yaml.safe_load(record.read_text())
    del values["tf32"]  # an option of transformers: another version may not have it
    record.write_text(yaml.safe_dump(values))
    for name in ("splits", "missing_labels", "pixel_range", "allow_leakage"):
        del values[name]  # options of ours that 0.2.0 did not have
    record.write_text(yaml.safe_dump(values))
    teacher.main([*QUICK, "--output_dir", f"{tmp_path}/run", "--bad_images", "skip", "--allow_leakage", "true"])
    with pytest.raises(UserError, match=r"it differs in: pixel_range None -> \[0.0, 255.0\]"):
        teacher.main([*QUICK, "--output_dir", f"{tmp_path}/run", "--pixel_range", "0", "255"])
    del values["terms"]
    record.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"it differs in: terms .* -> \['intra_class:weight"):
        teacher.main([*QUICK, "--output_dir", f"{tmp_path}/run", "--terms", "intra_class"])


def test_validation_split_and_image_folder(tmp_path):
    from PIL import Image

    for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(20):
            image = Image.new("RGB", (20 + index % 3, 18), colour)
            image.putpixel((0, 0), (0, index, 0))
            image.save(tmp_path / "data" / label / f"{index}.png")
    options = ["--model", "cifar_resnet8", "--max_steps", "2", "--disable_tqdm", "true", "--num_threads", "1"]
    data = ["--dataset", f"{tmp_path}/data", "--validation_fraction", "0.25"]
    teacher.main([*data, *options, "--output_dir", f"{tmp_path}/run"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "no test split" in metrics["notes"][0]
    images = [metrics[split]["images"] for split in ("test", "validation", "train")]
    assert (sum(images), min(images) >= 2) == (40, True)


@pytest.mark.parametrize("recipe", ["teacher", "student", "evaluate", "study"])
def test_recipes_are_the_entry_points(forks, recipe):
    """`--help` of the script runs and names an option of its own."""
    words = [ROOT / "recipes" / f"{recipe}.py", "--help"]
    if recipe == "teacher":  # by Python itself
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    else:
        done = forks.run(words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    own = {"teacher": "--terms", "student": "--objectives", "evaluate": "--split", "study": "--minutes"}
    assert "--dataset" in done.stdout and own[recipe] in done.stdout


@pytest.mark.parametrize(
    "path",
    sorted(path for kind in ("teacher", "student") for path in (ROOT / "recipes" / "configs").rglob(f"{kind}*.yaml")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_configs_are_valid_and_say_what_they_are_for(path):
    parse_arguments(RECIPES[path.stem.partition("_")[0]], "", [str(path)])
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(("name", "processes"), [("one_process", 1), ("ddp", 2), ("two_nodes", 2)])
def test_accelerate_configs(forks, tmp_path, name, processes):
    """All can be read; those for one machine are started (two_nodes.yaml in tests/distributed/test_two_hosts.py)."""
    from accelerate.commands.config.config_args import load_config_from_file

    path = ROOT / "recipes" / "accelerate" / f"{name}.yaml"
    assert load_config_from_file(str(path)).num_processes == processes
    assert path.read_text().startswith("# ")
    if name == "two_nodes":
        return
    launch = ["-m", "accelerate.commands.launch", "--config_file", path, ROOT / "recipes" / "teacher.py"]
    done = forks.run([*launch, *QUICK, "--use_cpu", "true", "--output_dir", f"{tmp_path}/run"], cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["environment"]["processes"] == processes


@pytest.mark.parametrize(("end", "status"), [("", 0), ("sys.exit(3)", 3), ("raise KeyError('x')", 1)])
def test_a_run_leaves_its_group_at_exit(forks, tmp_path, end, status):
    """Gloo's threads have ended too, after what they still had to do: one would abort the program."""
    code = f"""
import atexit, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
def tell():
    threads = [place.read_text() for place in Path("/proc/self/task").glob("*/comm")]
    print(dist.is_initialized(), sum("gloo" in name for name in threads), value.tolist())
atexit.register(tell)
from hf_icckd import teacher
from hf_icckd.utils import distributed
teacher.main({[*QUICK, "--use_cpu", "true", "--output_dir", f"{tmp_path}/run"]!r})
distributed._host_group(dist.group.WORLD)
value = torch.ones(1)
if distributed.rank() == 1:
    time.sleep(0.2)
dist.all_reduce(value, async_op=True)
{end}
"""
    done = forks.run_processes(["-c", code], 2, timeout=120)
    assert [each.returncode for each in done] == [status] * 2, done
    said = [each.stdout.splitlines()[-1] for each in done]
    if status != 1:
        assert said == ["False 0 [2.0]"] * 2
    else:  # another process may wait for this one
        assert all(re.fullmatch(r"True [1-9]\d* \[.*", line) for line in said)


def test_accelerate_config_that_shards():
    """The environment that accelerate makes of it. It is started in tests/distributed/test_fsdp2.py."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    path = ROOT / "recipes" / "accelerate" / "fsdp2.yaml"
    words = ["--config_file", str(path), "recipes/teacher.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    environment = prepare_multi_gpu_env(args)
    expected = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_OFFLOAD_PARAMS": "false",
        "FSDP_ACTIVATION_CHECKPOINTING": "false",
        "ACCELERATE_MIXED_PRECISION": "no",
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert "FSDP_TRANSFORMER_CLS_TO_WRAP" not in environment  # the net says which blocks it repeats
    assert args.num_processes == 2
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learnin_rate", "1"], r"unknown option --learnin_rate \(did you mean '--learning_rate'\?\)"),
        (["--learning_rate", "fast"], "learning_rate.*invalid float value: 'fast'"),
        (["--augmentation", "strong"], "augmentation.*invalid choice: 'strong'"),
        (["--augmentation", "none", "--random_erasing", "0.1"], "'none' but random_erasing is 0.1: nothing would be"),
        (["--learning_rate", "-1"], "learning_rate is -1.0, expected a number above 0"),
        (["--validation_fraction", "1"], "validation_fraction is 1.0, expected a number at least 0 and below 1"),
        (["--num_train_epochs", "-1"], "num_train_epochs is -1.0, expected a number above 0"),
        (["--per_device_train_batch_size", "0"], "per_device_train_batch_size is 0, expected a number at least 1"),
        (["--seed", "1", "a.yaml"], "a.yaml stands after options; give the YAML file first"),
        (["missing.yaml"], "config file 'missing.yaml' does not exist"),
        (["--dataset", "/no/such/folder"], "dataset folder '/no/such/folder' does not exist"),
        (["--label_column", "breed"], "--label_column is 'breed', expected one of the columns: image"),
        (["--model", "resnt18"], "unknown model 'resnt18'"),
        (
            ["--hub_strategy", "checkpoint"],
            "hub_strategy is 'checkpoint', expected end: only finished runs are pushed",
        ),
        (["--hub_always_push", "true"], "hub_always_push is True, expected it unset: only finished runs are pushed"),
    ],
)
def test_wrong_command_lines_end_in_one_line(tmp_path, words, message):
    with pytest.raises(UserError, match=f"^error: .*{message}"):
        teacher.main([*words, "--output_dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_a_push_in_offline_mode_is_refused_before_training(tmp_path):
    message = (
        "^error: nothing could be pushed to run: OfflineModeIsEnabled: .*unset the `HF_HUB_OFFLINE`.*Fix that, or"
    )
    with pytest.raises(UserError, match=message):
        teacher.main([*QUICK, "--output_dir", f"{tmp_path}/run", "--push_to_hub", "true"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnin_rate: 1", "unknown option 'learnin_rate' in .*did you mean 'learning_rate'"),
        ("- a\n- b", "holds a list, expected `option: value` lines"),
        ("a: [", "is not valid YAML"),
        ("learning_rate: fast", "invalid float value: 'fast'"),
    ],
)
def test_wrong_configs_end_in_one_line(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        teacher.main([str(tmp_path / "config.yaml")])


def test_command_line_overrides_the_config(tmp_path):
    (tmp_path / "config.yaml").write_text("learning_rate: 0.3\nlr_milestones: [0.5, 0.75]\nbf16: false\nseed: null\n")
    types = RECIPES["teacher"]
    _, _, args = parse_arguments(types, "", [str(tmp_path / "config.yaml"), "--learning_rate", "0.4"])
    assert (args.learning_rate, args.lr_milestones, args.seed) == (0.4, [0.5, 0.75], 0)


def test_words_of_a_config_are_words(tmp_path):
    text = (
        "eval_strategy: no\nsave_strategy: no\nclasses: [no, yes, on, off, trueish]\nbf16: true\nsync_batchnorm: no\n"
    )
    (tmp_path / "config.yaml").write_text(text)
    data_args, _, args = parse_arguments(RECIPES["teacher"], "", [str(tmp_path / "config.yaml")])
    assert (args.eval_strategy, args.save_strategy, args.bf16, args.sync_batchnorm) == ("no", "no", True, False)
    assert data_args.classes == ["no", "yes", "on", "off", "trueish"]


def test_divergence_has_an_exit_code_of_its_own(tmp_path, capsys):
    words = ["--learning_rate", "1e30", "--logging_steps", "1", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        teacher.main([*QUICK, *words])
    assert ended.value.code == DIVERGED == 3
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"error: .* is (nan since|not finite after) step \d.*", last)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_student_errors_come_before_anything_is_loaded(tmp_path):
    with pytest.raises(UserError, match="unknown objective 'kdd'"):
        student.main(["--objectives", "kdd", "--teacher", "nowhere", "--output_dir", f"{tmp_path}/run"])
    with pytest.raises(UserError, match="model 'no/where/here' is not a folder here"):
        student.main(["--teacher", "no/where/here", "--output_dir", f"{tmp_path}/run"])


def test_teacher_with_other_classes_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match="teacher and data set name 10 classes differently, first class 0"):
        student.main(
            [*QUICK, "--dataset", "synthetic", "--teacher", f"{runs}/teacher", "--output_dir", f"{tmp_path}/run"]
        )


def test_corrupt_image_is_named(tmp_path):
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (8, 8), "red").save(tmp_path / "data" / label / f"{index}.png")
    broken = tmp_path / "data" / "b" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(UserError, match=r"(train|test) split: row \d+ .*b/0.png\) cannot be read as an image"):
        teacher.main(["--dataset", f"{tmp_path}/data", "--output_dir", f"{tmp_path}/run"])
