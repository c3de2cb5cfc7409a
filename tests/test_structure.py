"""Bounds on the structure of the package, and the script that counts it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import hf_icckd
from tests import structure

PACKAGE = Path(hf_icckd.__file__).parent


def test_functions_and_files_stay_short():
    long = [each for each in structure.functions(PACKAGE) if each.lines > structure.LONG_FUNCTION]
    assert not long, f"functions over {structure.LONG_FUNCTION} lines: {long}"
    long = [each for each in structure.files_by_length(PACKAGE) if each[0] > structure.LONG_FILE]
    assert not long, f"files over {structure.LONG_FILE} lines: {long}"


def test_trainers_are_counted_as_they_are():
    for trainer in structure.TRAINERS:
        assert structure.levels_below_trainer(PACKAGE, trainer) == ["DistillationTrainer", "ResumableTrainer"]
    overrides = structure.private_overrides(PACKAGE)
    assert list(overrides) == ["hf_icckd/training/resumable.py"]
    assert {"_save_checkpoint", "_run_epoch"} <= set(*overrides.values())


def test_rooms_never_import_one_another():
    weights = structure.room_imports(structure.import_graph(PACKAGE))
    assert structure.upward_imports(weights) == []


def test_an_objective_is_its_own_file_and_a_line_in_the_table():
    found = structure.files_that_name(PACKAGE, structure.EXAMPLES["objective (`rkd`)"])
    assert found == ["hf_icckd/losses/registry.py", "hf_icckd/losses/rkd.py"]


def test_a_table_with_a_column_for_each_checkout():
    text = structure.table({"one": PACKAGE.parent, "two": PACKAGE.parent})
    assert "| what | one | two |" in text
    [line] = [line for line in text.splitlines() if line.startswith("| Python files in the package |")]
    count = len(list(PACKAGE.rglob("*.py")))
    assert line == f"| Python files in the package | {count} | {count} |"


# The script, with a small package whose counts are known


FILES = {
    "__init__.py": "from pkg.high import top\n",
    "high/__init__.py": 'TABLE = {"other": 1}\n',
    "high/top.py": 'from pkg.middle import Base\n\n\nclass TeacherTrainer(Base):\n    """Of rkd."""\n',
    "middle.py": "import pkg.low.tools\nfrom transformers import Trainer\n\n\nclass Base(Trainer):\n"
    "    def _save_checkpoint(self):\n        pass\n\n    def _own(self):\n        pass\n",
    "low/__init__.py": 'from pkg.low.tools import TABLE\n\n__all__ = ["TABLE"]\n',
    "low/tools.py": 'TABLE = {"rkd": 1, "kd": "with rkd"}\n\n\n'
    "def f():\n    from pkg import middle\n\n    return middle\n",
    "low/rkd.py": "x = 1\n",
}


@pytest.fixture
def package(tmp_path):
    """A package of three rooms; the lowest one imports from the middle one."""
    for name, text in FILES.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "pkg"


def test_imports_are_found_wherever_they_stand(package):
    graph = structure.import_graph(package)
    assert graph["__init__"] == {"high.top"}
    assert graph["high.top"] == {"middle"}
    assert graph["middle"] == {"low.tools"}
    assert graph["low.tools"] == {"middle"}
    assert graph["low.rkd"] == set()


def test_floors_and_what_points_up(package):
    weights = structure.room_imports(structure.import_graph(package))
    assert weights == Counter(
        {("__init__", "high"): 1, ("high", "middle"): 1, ("middle", "low"): 1, ("low", "middle"): 1}
    )
    assert len(structure.upward_imports(weights)) == 1
    assert structure.floors(structure.room_graph(weights)) == 4
    weights["middle", "low"] = 2  # now it is the other one that is too many
    assert structure.upward_imports(weights) == [("low", "middle")]
    weights["low", "__init__"] = 1
    assert structure.upward_imports(weights) == [("low", "__init__"), ("low", "middle")]


def test_a_circle_is_one_floor():
    assert structure.floors({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == 2
    assert structure.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}, {"a"}]


def test_classes_and_names(package):
    assert structure.levels_below_trainer(package, "TeacherTrainer") == ["Base"]
    with pytest.raises(ValueError, match=r"Other does not inherit from transformers\.Trainer"):
        (package / "other.py").write_text("class Other:\n    pass\n")
        structure.levels_below_trainer(package, "Other")
    assert structure.functions(package)[0] == (4, "f", "pkg/low/tools.py")
    # A file of that name and a key, neither a docstring nor a sentence.
    assert structure.files_that_name(package, "rkd") == ["pkg/low/rkd.py", "pkg/low/tools.py"]
    assert structure.files_that_name(package, "k") == []
    # An `__init__` that only passes a name on has nothing to change; one that holds a table has.
    assert structure.files_that_name(package, "table") == ["pkg/high/__init__.py", "pkg/low/tools.py"]
