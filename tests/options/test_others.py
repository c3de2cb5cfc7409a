"""Options as other programs call them: the error says what they are called here."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hf_icckd import student, teacher
from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS
from hf_icckd.losses.specs import parse_spec
from hf_icckd.options.command_line import UserError, parse_arguments
from hf_icckd.options.commands import COMMANDS
from hf_icckd.options.others import ALSO_CALLED, ELSEWHERE, name_here
from hf_icckd.options.recipes import RECIPES, defaults

KNOWN = {recipe: set(defaults(recipe)) for recipe in RECIPES}
EVERYWHERE = {each.name for command in COMMANDS.values() for group in command.options for each in fields(group)}.union(
    *KNOWN.values()
)


@pytest.mark.parametrize("name", ALSO_CALLED)
def test_every_target_exists(name):
    assert name not in KNOWN["teacher"] & KNOWN["student"] and name not in ELSEWHERE
    for target in ALSO_CALLED[name]:
        option, _, spec = target.partition(" ")
        assert option in EVERYWHERE
        if spec and option in ("objectives", "terms"):
            registry = OBJECTIVES if option == "objectives" else TEACHER_TERMS
            parse_spec(spec.replace("student=VALUE", "student=cifar_resnet8").replace("VALUE", "1"), registry, option)


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        (teacher, ["--lr", "0.1"], "unknown option --lr: here it is --learning_rate"),
        (teacher, ["--epochs=3"], "unknown option --epochs: here it is --num_train_epochs"),
        (teacher, ["--batch-size", "8"], "here it is --per_device_train_batch_size"),
        (teacher, ["--alpha", "1"], "here it is --terms intra_class:weight=VALUE"),
        (student, ["--alpha", "1"], "here it is --ce_weight or --objectives kd:weight=VALUE"),
        (student, ["--T", "4"], "here it is --objectives kd:temperature=VALUE"),
        (student, ["--temperature", "4"], "here it is --objectives kd:temperature=VALUE"),
        (teacher, ["--learning_rats", "1"], "did you mean '--learning_rate'"),
        (teacher, ["--workers", "1"], "here it is --dataloader_num_workers"),
        (teacher, ["--fp32", "true"], "unknown option --fp32: it is the default"),
        (teacher, ["--warmup", "5"], "here it is --warmup_steps or --warmup_epochs"),
        (teacher, ["--drop_path_rate", "0.1"], "here it is --drop_path"),
        (student, ["--drop", "0.1"], "here it is --drop_rate"),
        (teacher, ["--gpus", "2"], "unknown option --gpus: processes are started by a launcher"),
    ],
)
def test_the_error_names_the_option(recipe, words, message):
    with pytest.raises(UserError) as error:
        recipe.main(words)
    assert message in str(error.value)


def test_a_config_file_is_answered_alike(tmp_path):
    (tmp_path / "run.yaml").write_text("lr: 0.1\n")
    with pytest.raises(UserError, match=r"unknown option 'lr' in .*run\.yaml.*: here it is --learning_rate"):
        teacher.main([str(tmp_path / "run.yaml")])


def test_names_of_other_recipes_are_not_offered():
    assert name_here("teacher_model", KNOWN["teacher"]) is None


def test_words_of_jupyter_are_passed_over(monkeypatch):
    for words in (["-f", "/run/kernel-1.json"], ["--f=/run/kernel-1.json"]):
        monkeypatch.setattr("sys.argv", ["/lib/ipykernel_launcher.py", *words])
        _, model_args, _ = parse_arguments(RECIPES["teacher"], "Train.")
        assert model_args.model == "cifar_resnet20"
