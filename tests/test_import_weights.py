"""A file of weights becomes a model folder."""

from __future__ import annotations

import pytest
import torch

from hf_icckd import from_pretrained, import_weights, student, teacher
from hf_icckd.options.command_line import UserError


@pytest.fixture(scope="module")
def file(tmp_path_factory, tiny_classifier):
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    state = tiny_classifier().net.state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    return path


COLOURS = ["--mean", ".5", ".4", ".3", "--std", ".2", ".2", ".2"]


def test_the_folder_holds_the_net_with_its_classes(file, tmp_path, tiny_classifier, capsys):
    names = [f"digit {number}" for number in range(10)]
    words = ["--model", "cifar_resnet8", "--image_size", "8", *COLOURS, "--output_dir", str(tmp_path / "net")]
    import_weights.main([str(file), *words, "--label_names", *names])
    assert "cifar_resnet8" in capsys.readouterr().out
    loaded = from_pretrained(tmp_path / "net")
    assert loaded.spec.label_names == tuple(names) and loaded.spec.mean == (0.5, 0.4, 0.3)
    assert loaded.spec.image_size == 8
    expected = tiny_classifier().net.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.net.state_dict().items())


def test_what_is_imported_teaches_and_is_started_from(file, tmp_path):
    digits = [str(number) for number in range(10)]
    words = ["--model", "cifar_resnet8", "--image_size", "8", *COLOURS, "--output_dir", str(tmp_path / "net")]
    import_weights.main([str(file), *words, "--label_names", *digits])
    few = ["--max_train_samples", "40", "--max_eval_samples", "20", "--max_steps", "2", "--disable_tqdm", "true"]
    start = ["--start_from", str(tmp_path / "net"), "--optim", "sgd", "--learning_rate", "1e-12"]
    teacher.main([*few, *start, "--terms", "none", "--output_dir", str(tmp_path / "teacher")])
    states = [from_pretrained(tmp_path / name).net.state_dict() for name in ("net", "teacher")]
    assert all(torch.allclose(value, states[1][name]) for name, value in states[0].items() if name.endswith("weight"))
    taught = ["--teacher", str(tmp_path / "net"), "--accept_teacher", "true", "--model", "cifar_resnet8"]
    student.main([*few, *taught, "--output_dir", str(tmp_path / "student")])
    assert (tmp_path / "student" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "cifar_resnet8"], r"give what it was trained with, for CIFAR-100 mostly --mean 0\.5071"),
        (["--model", "cifar_resnet20", *COLOURS], r"are not those of cifar_resnet20"),
        (["--model", "cifar_resnet8", *COLOURS[:4]], r"give --mean and --std together"),
        (
            ["--model", "cifar_resnet8", "--mean", "5", "5", "5"],
            r"mean is \[5\.0, 5\.0, 5\.0\], expected three numbers",
        ),
        (
            ["--model", "cifar_resnet8", *COLOURS, "--label_names", "a", "b"],
            r"label_names has 2 different names, expected 10",
        ),
        (["--model", "cifar_resnet8", *COLOURS, "--file", "no.pth"], r"'.*' is taken as --file, which is given too"),
    ],
)
def test_wrong_command_lines_end_in_one_line(file, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        import_weights.main([str(file), *words, "--output_dir", str(tmp_path / "net")])
    assert not (tmp_path / "net").exists()


def test_missing_files_and_full_folders_are_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"file is 'no\.pth', expected a \.pth"):
        import_weights.main(["no.pth", "--model", "resnet18", "--output_dir", str(tmp_path / "net")])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; choose another with --output_dir"):
        import_weights.main([str(file), "--model", "resnet18", "--output_dir", str(tmp_path)])
