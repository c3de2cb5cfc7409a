"""Command lines: options of earlier versions, in words and in YAML files."""

from __future__ import annotations

import pytest

from hf_icckd.options.command_line import UserError, parse_arguments
from hf_icckd.options.recipes import RECIPES


def test_an_old_option_of_a_teacher_is_unknown_to_a_student(tmp_path):
    """Only who has `--terms` is told how it is written now."""
    path = tmp_path / "old.yaml"
    path.write_text("intra_class_weight: 0\n")
    for words in (["--intra_class_weight", "0"], [str(path)]):
        with pytest.raises(UserError, match=r"is now written --terms none$"):
            parse_arguments(RECIPES["teacher"], "", words)
        with pytest.raises(UserError, match=r"unknown option .*intra_class_weight((?!--terms).)*$"):
            parse_arguments(RECIPES["student"], "", words)
