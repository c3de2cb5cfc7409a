"""What the README shows can be run as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hf_icckd import save_pretrained
from hf_icckd.cli import parse_arguments
from hf_icckd.data_args import DataArguments
from hf_icckd.evaluate import EvaluationArguments
from hf_icckd.study import load_plan
from hf_icckd.study.__main__ import read_arguments
from hf_icckd.training_args import RECIPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TYPES = RECIPES | {"evaluate": [DataArguments, EvaluationArguments]}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python_runs(code, tmp_path, monkeypatch, tiny_classifier):
    save_pretrained(tmp_path / "runs" / "student", tiny_classifier())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def recipe_commands() -> list[list[str]]:
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    lines = [line.partition("#")[0] for line in text.replace("&&", "\n").splitlines()]
    return [shlex.split(line) for line in lines if "recipes/" in line]


@pytest.mark.parametrize("words", recipe_commands(), ids=" ".join)
def test_commands_have_options_that_exist(words, monkeypatch):
    script = next(word for word in words if word.startswith("recipes/"))
    assert (ROOT / script).is_file()
    argv = words[words.index(script) + 1 :]
    monkeypatch.chdir(ROOT)
    if Path(script).stem == "study":
        load_plan(read_arguments(argv).study)
    else:
        parse_arguments(TYPES[Path(script).stem], "", argv)


def test_files_that_are_linked_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
