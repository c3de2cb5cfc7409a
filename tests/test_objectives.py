"""The list of objectives and terms, in a terminal and as a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import objectives as page
from hf_icckd import console, objectives
from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS
from hf_icckd.losses.description import describe, kind_of, needs_of, replays

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_has_all_in_a_hundred_columns(capsys):
    objectives.main([])
    lines = capsys.readouterr().out.splitlines()
    assert {*OBJECTIVES, *TEACHER_TERMS} <= {line.partition(" ")[0] for line in lines}
    assert max(map(len, lines)) <= 100
    rows = {line.partition(" ")[0]: re.split(r"\s{2,}", line) for line in lines}
    assert rows["kd"] == ["kd", "logits", "1", "B C", "yes", "1503.02531"]
    assert rows["rkd"][2] == "25 + 50" and rows["mlkd"][2] == "3 x 1"
    assert rows["crd"] == ["crd", "embeddings", "0.8", "B N", "yes", "labels, layers, memory", "1910.10699"]
    assert rows["review_kd"][:2] == ["review_kd", "feature maps"] and rows["review_kd"][4] == "no"


def test_one_is_described_in_full(capsys):
    console.main(["objectives", "dkd", "sftn"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    plain = " ".join(text.split())
    assert "beta 8: Weight of the other classes' part (paper: beta)" in plain
    assert "(Zhao et al., 2022, arXiv 2203.08679)" in plain and "student to be given: Architecture" in plain


@pytest.mark.parametrize("name", [*OBJECTIVES, *TEACHER_TERMS])
def test_everybody_says_what_it_is(name):
    about = describe((OBJECTIVES | TEACHER_TERMS)[name])
    assert about.summary and about.formula and about.title and re.search(r", \d{4}$", about.authors)
    assert all(each.meaning for each in about.arguments)


def test_what_is_derived():
    assert kind_of(OBJECTIVES["review_kd"]) == "feature maps" and not replays(OBJECTIVES["review_kd"])
    assert needs_of(OBJECTIVES["srrl"]) == ["layers", "teacher layer"] and needs_of(OBJECTIVES["kd"]) == []


def test_the_page_is_what_the_classes_say():
    written = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    assert written == page.page(page.newest_costs()), "python docs/objectives.py > docs/objectives.md"
    for name in (*OBJECTIVES, *TEACHER_TERMS):
        assert re.search(rf"^###? {name}$", written, re.MULTILINE)
