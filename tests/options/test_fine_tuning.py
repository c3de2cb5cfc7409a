"""Options of fine-tuning: what contradicts itself, and what is chosen where the user gave nothing."""

from __future__ import annotations

import pytest

from hf_icckd import TeacherTrainingArguments
from hf_icckd.options.command_line import UserError, parse_arguments
from hf_icckd.options.fine_tuning import check_start, defaults_for, not_given
from hf_icckd.options.nets import StudentModelArguments, TeacherModelArguments
from hf_icckd.options.recipes import RECIPES

ADAMW = {"optim": "adamw_torch", "weight_decay": 0.05, "decay_norm_and_bias": False, "warmup_steps": 0.1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_epochs": -1}, "freeze_epochs is -1, expected a number at least 0"),
        ({"layer_decay": 0.0}, r"layer_decay is 0\.0, expected a number above 0 and at most 1"),
        ({"layer_decay": 1.5}, "expected a number above 0 and at most 1"),
        ({"warmup_epochs": -1.0}, r"warmup_epochs is -1\.0, expected a number at least 0"),
        ({"warmup_epochs": 1.0, "warmup_steps": 5}, r"warmup_epochs is 1\.0 but warmup_steps 5, expected one of them"),
        ({"freeze_epochs": 2, "freeze_backbone": True}, "freeze_epochs is 2 but freeze_backbone is true"),
        ({"layer_decay": 0.7, "freeze_backbone": True}, r"layer_decay is 0\.7 but freeze_backbone is true: only one"),
        ({"freeze_epochs": 3, "num_train_epochs": 3}, "freeze_epochs is 3 but num_train_epochs 3, expected fewer: .*"),
        ({"freeze_epochs": 3, "ddp_static_graph": True}, "freeze_epochs is 3 but ddp_static_graph is true"),
        ({"lr_scheduler_type": "constant", "warmup_epochs": 1.0}, r"warmup_epochs is 1\.0 but lr_scheduler_type is"),
    ],
)
def test_contradictions(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        TeacherTrainingArguments(tmp_path, **options)


def test_processes_look_for_what_is_not_trained(tmp_path):
    assert TeacherTrainingArguments(tmp_path, freeze_epochs=1).ddp_find_unused_parameters
    assert not TeacherTrainingArguments(tmp_path, freeze_backbone=True).ddp_find_unused_parameters


@pytest.mark.parametrize("kind", [TeacherModelArguments, StudentModelArguments])
def test_nets(kind):
    with pytest.raises(ValueError, match=r"drop_path is 1\.0, expected a number at least 0 and below 1"):
        kind(drop_path=1.0)
    with pytest.raises(ValueError, match=r"drop_rate is -0\.1, expected"):
        kind(drop_rate=-0.1)
    with pytest.raises(ValueError, match="start_from is 'x' but pretrained is true, expected one of them"):
        kind(start_from="x", pretrained=True)
    assert kind(drop_rate=0.0).drop_args == {"drop_rate": 0.0} and kind().drop_args == {}


def test_new_weights_are_not_worth_keeping(tmp_path):
    args = TeacherTrainingArguments(tmp_path, freeze_epochs=1)
    with pytest.raises(ValueError, match="freeze_epochs is 1 but the weights are new, so there is nothing to keep"):
        check_start(args, pretrained=False, start_from=None)
    check_start(args, pretrained=True, start_from=None)
    check_start(args, pretrained=False, start_from="runs/teacher")


@pytest.mark.parametrize(
    ("kind", "pretrained", "expected"),
    [
        ("cnn", False, {}),
        ("cnn", True, ADAMW | {"learning_rate": 3e-4}),
        ("transformer", False, ADAMW | {"learning_rate": 5e-4}),
        ("transformer", True, ADAMW | {"learning_rate": 1e-4}),
    ],
)
def test_what_suits_which_net(kind, pretrained, expected):
    assert defaults_for(kind, pretrained) == expected
    assert parse_arguments(RECIPES["teacher"], "", [], lambda *_: expected)  # all are options that fit together


@pytest.mark.parametrize(
    ("given", "schedule", "left_out"),
    [
        ((), "cosine", set()),
        (("weight_decay", "bf16"), "cosine", {"weight_decay"}),
        (("warmup_epochs",), "cosine", {"warmup_steps"}),
        (("lr_scheduler_type",), "constant", {"warmup_steps"}),
        (("optim",), "cosine", set(ADAMW)),  # another optimiser wants other values of all
        (("momentum", "seed"), "cosine", set(ADAMW)),
    ],
)
def test_what_the_user_gave_stays(given, schedule, left_out):
    assert ADAMW.keys() - not_given(ADAMW, given, schedule).keys() == left_out


def test_the_command_line_takes_what_was_chosen_and_words_win(tmp_path):
    (tmp_path / "run.yaml").write_text("weight_decay: 0.2\n")
    asked = []

    def choose(read, given):
        asked.append((read.model, set(given)))
        return {name: value for name, value in ADAMW.items() if name not in given}

    words = [f"{tmp_path}/run.yaml", "--model", "resnet18", "--warmup_steps=3"]
    *_, args = parse_arguments(RECIPES["student"], "", words, choose)
    assert asked == [("resnet18", {"weight_decay", "model", "warmup_steps"})]
    assert (args.optim, args.weight_decay, args.decay_norm_and_bias, args.warmup_steps) == (
        "adamw_torch",
        0.2,
        False,
        3,
    )
    assert args.changed["optim"] == "adamw_torch"
    with pytest.raises(UserError, match=r"unknown option --learning_rat "):
        parse_arguments(RECIPES["student"], "", ["--learning_rat", "1"], choose)
