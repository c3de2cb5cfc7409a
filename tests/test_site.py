"""The site: its pages, its reference of Python, its notebooks. Building it takes a release's environment."""

from __future__ import annotations

import ast
import json
import re

import pytest

import hf_icckd
from tests import ROOT
from tests.test_documentation import RIDDLES

INDEX, API = ROOT / "docs" / "index.md", ROOT / "docs" / "api.md"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_the_navigation_has_every_page_and_each_once():
    entries = [
        re.sub(r".* <(.*)>", r"\1", line)
        for block in re.findall(r"```\{toctree\}\n(.*?)```", INDEX.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
    ]
    assert len(entries) == len(set(entries))
    places = [(INDEX.parent / entry) for entry in entries]
    found = [place.with_name(place.name + end) for place in places for end in (".md", ".ipynb")]
    listed = {each.resolve() for each in found if each.is_file()}
    assert len(listed) == len(entries), "an entry without a page"
    pages = {*(ROOT / "docs").glob("*.md"), *NOTEBOOKS} - {INDEX}
    assert pages <= listed, sorted(page.name for page in pages - listed)


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", API.read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(hf_icckd.__all__)


def cells(notebook, kind: str) -> list[str]:
    content = json.loads(notebook.read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(notebook):
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5 and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}  # nothing of the machine they were written on


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_can_be_read(notebook):
    for source in cells(notebook, "code"):
        ast.parse(source)
    text = re.sub(r"`[^`\n]+`", "", "\n".join(cells(notebook, "markdown")))
    assert not [words for words in RIDDLES if re.search(rf"\b{words}\b", text, re.IGNORECASE)]
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("http") or (notebook.parent / target).is_file(), target
