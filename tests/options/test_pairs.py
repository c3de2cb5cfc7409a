"""Pairs of the literature in place of the names of nets."""

from __future__ import annotations

import pytest
import timm

import hf_icckd.models  # noqa: F401  (registers the networks)
from hf_icckd.options.command_line import UserError, parse_command
from hf_icckd.options.distill import DistillOptions
from hf_icckd.options.nets import TeacherModelArguments
from hf_icckd.options.pairs import PAIRS, with_nets
from hf_icckd.options.recipes import RECIPES
from hf_icckd.runs.chosen_options import ChosenOptions


def read(recipe, *words):
    _, nets, args = parse_command(recipe, list(words), RECIPES[recipe], ChosenOptions())
    return nets, args


def test_every_net_of_the_pairs_exists():
    assert all(timm.models.is_model(net) for pair in PAIRS.values() for net in pair)


def test_teacher_and_student_take_their_net_of_the_pair(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("model: cifar_resnet8\n")
    assert read("teacher", str(config), "--pair", "vgg13-vgg8")[0].model == "cifar_vgg13"
    assert read("student", str(config), "--pair=vgg13-vgg8")[0].model == "cifar_vgg8"
    config.write_text("pair: vgg13-vgg8\n")
    assert read("student", str(config), "--pair", "wrn_40_1-wrn_16_1")[0].model == "cifar_wrn_16_1"


def test_light_nets_get_the_learning_rate_of_the_literature(tmp_path):
    folder = ["--output_dir", str(tmp_path)]
    assert read("student", "--pair", "vgg13-mobilenetv2", *folder)[1].learning_rate == 0.01
    assert read("student", "--pair", "resnet32x4-shufflenetv2", *folder)[1].learning_rate == 0.01
    assert read("teacher", "--pair", "vgg13-mobilenetv2", *folder)[1].learning_rate == 0.05
    assert read("student", "--pair", "vgg13-mobilenetv2", "--learning_rate", "0.1", *folder)[1].learning_rate == 0.1


def test_distill_takes_both_nets():
    assert with_nets(["--pair", "vgg13-vgg8"], [DistillOptions])[2:] == [
        "--teacher", "cifar_vgg13", "--student", "cifar_vgg8"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pair", "vgg13-vgg9"], r"unknown pair 'vgg13-vgg9' \(did you mean 'vgg13-vgg8'\?\); other nets"),
        (["--pair", "a"], r"unknown pair 'a', expected one of: wrn_40_2-wrn_16_2, "),
        (["--pair"], r"--pair has no value, expected one of"),
        (["--pair", "vgg13-vgg8", "--model", "resnet18"], r"model is 'resnet18' but pair 'vgg13-vgg8', whose teacher"),
    ],
)
def test_wrong_pairs_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        read("teacher", *words)


def test_options_from_python_must_agree():
    with pytest.raises(ValueError, match="leave one of the two out"):
        TeacherModelArguments(pair="vgg13-vgg8")
    assert TeacherModelArguments(model="cifar_vgg13", pair="vgg13-vgg8").model == "cifar_vgg13"
