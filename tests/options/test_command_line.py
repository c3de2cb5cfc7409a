"""Command lines: options of earlier versions, in words and in YAML files."""

from __future__ import annotations

import pytest

from hf_icckd.options import training
from hf_icckd.options.command_line import UserError, option_kinds, parse_arguments, with_names
from hf_icckd.options.commands import CardArguments
from hf_icckd.options.recipes import RECIPES
from hf_icckd.options.training import TeacherTrainingArguments


def test_an_old_option_of_a_teacher_is_unknown_to_a_student(tmp_path):
    """Only who has `--terms` is told how it is written now."""
    path = tmp_path / "old.yaml"
    path.write_text("intra_class_weight: 0\n")
    for words in (["--intra_class_weight", "0"], [str(path)]):
        with pytest.raises(UserError, match=r"is now written --terms none$"):
            parse_arguments(RECIPES["teacher"], "", words)
        with pytest.raises(UserError, match=r"unknown option .*intra_class_weight((?!--terms).)*$"):
            parse_arguments(RECIPES["student"], "", words)


def test_an_old_option_in_python_is_answered_with_its_new_spelling(tmp_path):
    message = r"intra_class_weight, cache_size_per_class: .* terms=\['intra_class:weight=0.5,cache_size=0'\]"
    with pytest.raises(ValueError, match=message):
        TeacherTrainingArguments(str(tmp_path), intra_class_weight=0.5, cache_size_per_class=0)
    with pytest.raises(ValueError, match=r"student_branches: .* terms=\['sftn:student=resnet18'\]"):
        TeacherTrainingArguments(output_dir=str(tmp_path), student_branches="resnet18")


def test_names_that_the_locale_hides_are_refused(monkeypatch):
    words = ["--dataset", "B\udcc3\udcbccher"]
    with monkeypatch.context() as patch:
        patch.setattr("sys.getfilesystemencoding", lambda: "ascii")
        with pytest.raises(UserError, match=r"^error: 'B.*cher' can't be read: .* as ascii.* set PYTHONUTF8=1"):
            parse_arguments(RECIPES["teacher"], "", words)
    parse_arguments(RECIPES["teacher"], "", words)  # UTF-8: a folder whose name is none


def test_compiling_without_a_compiler_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "missing_compiler", lambda device: "g++")
    with pytest.raises(ValueError, match=r"torch_compile is true but there is no g\+\+ on the PATH.* leave --torch_"):
        TeacherTrainingArguments(str(tmp_path), torch_compile=True, use_cpu=True)
    TeacherTrainingArguments(str(tmp_path), torch_compile=True, torch_compile_backend="aot_eager", use_cpu=True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("photos", ["--dataset", "photos"]),
        ("photos --seed -1", ["--seed", "-1", "--dataset", "photos"]),
        ("--bf16 photos", ["--bf16", "--dataset", "photos"]),
        ("--bf16 True photos", ["--bf16", "True", "--dataset", "photos"]),
        ("--seed 3 photos", ["--seed", "3", "--dataset", "photos"]),
        ("--seed=3 photos", ["--seed=3", "--dataset", "photos"]),
        ("photos --terms none sftn:student=x", ["--terms", "none", "sftn:student=x", "--dataset", "photos"]),
        ("--seed 3", ["--seed", "3"]),
    ],
)
def test_a_value_without_a_name_gets_one(words, found):
    assert with_names(words.split(), ["dataset"], option_kinds(RECIPES["teacher"])) == found


def test_a_list_takes_all_that_stand_alone():
    words = ["a", "--license", "mit", "b"]
    assert with_names(words, ["folders"], option_kinds([CardArguments])) == ["--license", "mit", "--folders", "a", "b"]
