"""The list of objectives and terms."""

from __future__ import annotations

from hf_icckd import objectives
from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS


def test_all_are_listed_with_defaults_and_sources(capsys):
    objectives.main([])
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert {*OBJECTIVES, *TEACHER_TERMS} <= set(lines) and max(map(len, lines)) <= 100
    plain = " ".join(text.split())
    assert "arguments weight 1, temperature 4" in plain and "(Hinton et al., 2015, arXiv 1503.02531)" in plain
    assert "terms 25 x rkd_distance, 50 x rkd_angle" in plain and "reads the teacher's embeddings" in plain
    assert "student (to be given)" in plain and "2 views of an image" in plain
    assert plain.count("arXiv ") >= len(OBJECTIVES) + len(TEACHER_TERMS)
