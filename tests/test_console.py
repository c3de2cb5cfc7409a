"""The command `hf-icckd`: what it says, what it imports, what it passes on."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from hf_icckd import __version__, console, teacher
from hf_icckd.options.commands import COMMANDS
from hf_icckd.options.help import WIDTH, command_help
from hf_icckd.options.recipes import RECIPES
from hf_icckd.runs.provenance import command_line
from tests import ROOT

HEAVY = ("torch", "timm", "transformers", "datasets", "accelerate", "numpy", "matplotlib")


def run(capsys, *words: str) -> str:
    console.main([*words])
    return capsys.readouterr().out


def test_help_and_version_import_nothing_heavy():
    program = f"""
import sys
from hf_icckd.console import main
for words in [["--version"], *([name, "--help"] for name in {list(COMMANDS)})]:
    main(words)
print("imported", *set({HEAVY}) & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "imported"
    assert f"hf-icckd {__version__}" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal(name, capsys):
    lines = run(capsys, name, "--help").splitlines()
    assert len(lines) <= 80 and max(map(len, lines)) <= WIDTH
    command = COMMANDS[name]
    shown = {each for line in lines for each in line.split() if each.startswith("--")}
    own = {each.name for group in command.options for each in dataclasses.fields(group) if each.init}
    own -= command.never.keys()
    assert not shown & {f"--{option}" for option in command.never}
    assert shown >= {f"--{option}" for option in own}
    assert len(command.common) <= 10 and own >= {*command.common, *command.positional}


@pytest.mark.parametrize("name", RECIPES)
def test_help_knows_the_options_that_are_parsed(name):
    parsed = {each.name: each for group in RECIPES[name] for each in dataclasses.fields(group) if each.init}
    for group in COMMANDS[name].options:
        for option in dataclasses.fields(group):
            assert parsed[option.name].metadata == option.metadata
            assert parsed[option.name].default == option.default or option.name == "output_dir"
    assert "[runs/" + name in command_help(name, ["--help"])


def test_all_options_are_explained_on_demand(capsys):
    text = run(capsys, "teacher", "--help", "all")
    assert "--dataloader_pin_memory" in text and "--weight_decay" in text and "--deepspeed" not in text
    assert max(map(len, text.splitlines())) <= WIDTH
    # Values as they are given, and what this package does with an option, not what transformers says of it.
    assert "[True]" not in text and ".0]" not in text and "%%" not in text
    assert " ".join(text.split()).count("{true,false} Changes nothing: ") == 4
    text = run(capsys, "student", "--help", "--ce_weight", "dataloader_pin_memory")
    assert text.split()[0] == "--ce_weight" and "--dataloader_pin_memory" in text and "--teacher " not in text


def test_unknown_words_are_answered():
    with pytest.raises(
        SystemExit, match=r"^error: unknown command 'teach' \(did you mean 'teacher'\?\); hf-icckd --h"
    ):
        console.main(["teach", "photos"])
    with pytest.raises(SystemExit, match=r"^error: unknown option --lr: here it is --learning_rate"):
        console.main(["teacher", "--help", "lr"])
    with pytest.raises(SystemExit, match=r"^error: unknown option --learning_rat \(did you mean 'learning_rate'"):
        console.main(["teacher", "--help", "learning_rat"])
    with pytest.raises(SystemExit, match=r"^error: '7' is one word too many, expected only DATASET without the name"):
        console.main(["teacher", "photos", "7"])
    with pytest.raises(SystemExit, match=r"^error: unknown objective or term 'kdd', expected one of: kd, .*mean 'kd'"):
        console.main(["objectives", "kdd"])
    with pytest.raises(SystemExit, match=r"^error: 'photos' is taken as --dataset, which is given too"):
        console.main(["teacher", "photos", "--dataset=other"])


def test_without_a_command_there_is_help_and_an_exit_code(capsys):
    with pytest.raises(SystemExit) as end:
        console.main([])
    assert end.value.code == 2
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_a_command_gets_its_words_and_is_recorded_as_it_was_given(monkeypatch):
    words: list[list[str]] = []
    monkeypatch.setattr(teacher, "main", words.append)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/hf-icckd", "teacher", "photos", "--seed", "1"])
    console.main()
    assert words == [["photos", "--seed", "1"]]
    assert command_line() == "hf-icckd teacher photos --seed 1"
    monkeypatch.setattr(sys, "argv", ["/somewhere/hf_icckd/teacher.py", "photos"])
    assert command_line() == "python -m hf_icckd.teacher photos"


def test_the_nets_are_registered_in_whichever_order_timm_is_imported():
    for first, second in (("timm", "hf_icckd"), ("hf_icckd", "timm")):
        program = f"import {first}, {second}; print(timm.create_model('cifar_resnet8', num_classes=3).num_classes)"
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert result.stdout == "3\n"
