"""Recipes that fine-tune: what a net starts from, what is chosen for it, and what makes the run."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from hf_icckd import create_classifier, from_pretrained, save_pretrained, student, teacher
from hf_icckd.models.architectures import default_cfg
from hf_icckd.models.pretrained import fingerprint
from hf_icckd.nets import Pixels, trained_pixels
from hf_icckd.options.command_line import UserError
from hf_icckd.options.nets import StudentModelArguments

QUICK = ["--max_train_samples", "96", "--max_eval_samples", "40", "--max_steps", "2", "--disable_tqdm", "true",
         "--num_threads", "1", "--use_cpu", "true", "--save_strategy", "no", "--rehearsal", "false"]  # fmt: skip
DIGITS = tuple(map(str, range(10)))


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Folders of a CNN and of a ViT for digits, and of a CNN for other classes."""
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    for name, architecture, size, classes in (
        ("cnn", "cifar_resnet8", 8, DIGITS), ("vit", "test_vit", 32, DIGITS), ("other", "cifar_resnet8", 8, ["a", "b"])
    ):  # fmt: skip
        save_pretrained(folder / name, create_classifier(architecture, classes, image_size=size, mean=(0.3,) * 3))
    return folder


def options_of(folder) -> dict:
    return yaml.safe_load((folder / "all_args.yaml").read_text())


def distil(nets, folder, *more: str) -> None:
    words = ["--teacher", f"{nets}/cnn", "--accept_teacher", "true", "--output_dir", str(folder)]
    student.main([*QUICK, *words, *more])


def test_pixels_of_trained_weights():
    name = "mobilenetv3_small_100.lamb_in1k"
    default = default_cfg(name)
    args = StudentModelArguments(model=name, pretrained=True)
    assert trained_pixels(args, name, None) == Pixels(224, default.crop_pct, "bicubic", tuple(default.mean))
    start = create_classifier("cifar_resnet8", ["a", "b"], image_size=40, mean=(0.2,) * 3, crop_pct=0.7)
    assert trained_pixels(args, name, start) == Pixels(40, 0.7, "bilinear", (0.2,) * 3)
    assert trained_pixels(StudentModelArguments(), "cifar_resnet8", None) is None


def test_a_student_starts_from_a_trained_net(nets, tmp_path, capsys):
    words = ["--start_from", f"{nets}/cnn", "--freeze_backbone", "true", "--drop_rate", "0.5"]
    distil(nets, tmp_path / "run", *words)
    before, after = from_pretrained(nets / "cnn"), from_pretrained(tmp_path / "run")
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    assert changed == {"net.fc.weight", "net.fc.bias"} and after.spec == before.spec
    options = options_of(tmp_path / "run")
    assert options["start_fingerprint"] == fingerprint(before) and options["model"] == "cifar_resnet8"
    assert (options["optim"], options["learning_rate"], options["warmup_steps"]) == ("adamw_torch", 3e-4, 0.1)
    assert options["chosen_options"] == sorted(
        ["optim", "learning_rate", "weight_decay", "decay_norm_and_bias", "warmup_steps"]
    )
    assert "classification layer only, from a trained classifier" in (tmp_path / "run" / "README.md").read_text()
    capsys.readouterr()
    distil(nets, tmp_path / "run", *words)
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds another run; it differs in: start_fingerprint"):
        distil(nets, tmp_path / "run", "--start_from", f"{nets}/other", *words[2:])


def test_a_student_of_other_classes_gets_a_new_layer(nets, tmp_path, caplog):
    distil(nets, tmp_path / "run", "--start_from", f"{nets}/other", "--learning_rate", "1e-9")
    assert "it gets a new classification layer" in caplog.text
    before, after = from_pretrained(nets / "other"), from_pretrained(tmp_path / "run")
    assert after.spec.label_names == DIGITS
    torch.testing.assert_close(after.net.conv1.weight, before.net.conv1.weight, rtol=0, atol=1e-6)


def test_a_vit_takes_images_of_another_size(nets, tmp_path):
    words = ["--start_from", f"{nets}/vit", "--image_size", "16", "--terms", "none", "--learning_rate", "1e-9"]
    teacher.main([*QUICK, *words, "--output_dir", f"{tmp_path}/run"])
    before, after = from_pretrained(nets / "vit"), from_pretrained(tmp_path / "run")
    assert after.spec.image_size == after.spec.model_args["img_size"] == 16
    assert after.net.pos_embed.shape[1] == 2 and before.net.pos_embed.shape[1] == 5
    torch.testing.assert_close(after.net.head.weight, before.net.head.weight, rtol=0, atol=1e-6)


def test_a_run_of_an_earlier_version_is_recognised_and_keeps_its_options(nets, tmp_path, capsys):
    """Before 0.3 nothing was chosen, and options of fine-tuning were not there."""
    words = [*QUICK, "--start_from", f"{nets}/cnn", "--terms", "none", "--output_dir", f"{tmp_path}/run"]
    teacher.main([*words, "--optim", "sgd"])
    options = options_of(tmp_path / "run")
    assert options["learning_rate"] == 0.05 and options["chosen_options"] == []
    new = ("freeze_epochs", "freeze_backbone", "layer_decay", "warmup_epochs", "drop_path", "drop_rate")
    earlier = {name: value for name, value in options.items() if name not in (*new, "chosen_options")}
    (tmp_path / "run" / "all_args.yaml").write_text(yaml.safe_dump(earlier))
    capsys.readouterr()
    teacher.main(words)
    assert "is finished" in capsys.readouterr().out
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been interrupted
    teacher.main(words)
    assert options_of(tmp_path / "run")["optim"] == "sgd"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["images"] == 40


def test_a_run_keeps_what_was_chosen_for_it(nets, tmp_path, capsys):
    words = [*QUICK, "--model", "test_vit", "--image_size", "32", "--terms", "none", "--output_dir", f"{tmp_path}/run"]
    teacher.main(words)
    record = options_of(tmp_path / "run")
    assert (record["optim"], record["learning_rate"]) == ("adamw_torch", 5e-4)
    (tmp_path / "run" / "all_args.yaml").write_text(
        yaml.safe_dump(record | {"learning_rate": 7e-4})
    )  # another version
    capsys.readouterr()
    teacher.main(words)
    teacher.main([*words, "--learning_rate", "7e-4"])
    assert capsys.readouterr().out.count("is finished") == 2
    with pytest.raises(UserError, match=r"it differs in: learning_rate 0\.0007 -> 0\.0005"):
        teacher.main([*words, "--learning_rate", "5e-4"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--freeze_epochs", "1"],
            "freeze_epochs is 1 but the weights are new, so there is nothing to keep; add",
        ),
        (["--freeze_backbone", "true"], "freeze_backbone is true but the weights are new"),
        (
            ["--start_from", "{nets}/cnn", "--freeze_backbone", "true", "--terms", "intra_class"],
            "but intra_class reads nothing of the classifi",
        ),
        (["--model", "densenet121", "--drop_path", "0.1"], r"drop_path is 0\.1 but densenet121 has no drop_path_rate"),
        (["--start_from", "{nets}/cnn", "--layer_decay", "2"], r"layer_decay is 2\.0, expected a number above 0"),
        (
            ["--warmup_epochs", "1", "--warmup_steps", "9"],
            r"warmup_epochs is 1\.0 but warmup_steps 9\.0, expec",
        ),
        (["--model", "resnet81", "--pretrained", "true"], "unknown model 'resnet81'"),
    ],
)
def test_wrong_options_end_in_one_line(nets, tmp_path, words, message):
    words = [word.format(nets=nets) for word in words]
    quick = [word for word in QUICK if word != "--rehearsal"][:-1]  # with its rehearsal
    with pytest.raises(UserError, match=f"^error: .*{message}"):
        teacher.main([*quick, *words, "--output_dir", f"{tmp_path}/run"])
    assert not list(tmp_path.glob("run/*"))
