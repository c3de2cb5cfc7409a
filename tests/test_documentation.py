"""What README and docs show can be run as it stands, and what they link to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hf_icckd import save_pretrained
from hf_icckd.evaluate import EvaluationArguments
from hf_icckd.options.command_line import parse_arguments
from hf_icckd.options.data import DataArguments
from hf_icckd.options.recipes import RECIPES
from hf_icckd.study import load_plan
from hf_icckd.study.__main__ import read_arguments
from tests import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TYPES = RECIPES | {"evaluate": [DataArguments, EvaluationArguments]}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("code", blocks(README, "python"), ids=lambda code: code.split("\n")[0])
def test_python_runs(code, tmp_path, monkeypatch, tiny_classifier):
    save_pretrained(tmp_path / "runs" / "student", tiny_classifier())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_differences_of_a_study_are_those_that_the_pages_tell(monkeypatch, capsys):
    first, second = blocks(ROOT / "docs" / "study.md", "python")
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(compile(first, "study.md", "exec"), names)
    shown = re.search(r"# mean (\S+), low (\S+), high (\S+)", first).groups()
    taken = names["difference"](names["taught"], names["alone"])
    assert [f"{taken[name]:.2f}" for name in ("mean", "low", "high")] == list(shown)
    exec(compile(second, "study.md", "exec"), names)
    assert "intra-no-gate" in capsys.readouterr().out
    found = names["differences"](names["plan"], names["frame"][names["same"]])
    withstand = found[~found.primary & (found.holm < 0.05)]
    # docs/evidence.md: "without these only no gate, one view and label smoothing withstand correction, by KD"
    assert set(zip(withstand.student, withstand.teacher, strict=True)) == {
        ("kd", "intra-no-gate"),
        ("kd", "ce-one-view"),
        ("kd", "label-smoothing"),
    }


def recipe_commands() -> list[list[str]]:
    """Every command of a recipe on any page, run from the repository's root."""
    found = []
    for page in PAGES:
        text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
        lines = [line.partition("#")[0] for line in text.replace("&&", "\n").splitlines()]
        found += [shlex.split(line) for line in lines if "recipes/" in line]
    return found


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_linked_exists(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in slugs, f"{target}#{anchor}"
