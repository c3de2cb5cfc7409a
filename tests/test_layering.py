"""Rooms of the package: each imports only from rooms on floors below its own, and some never from certain others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hf_icckd

ROOT = Path(hf_icckd.__file__).parent
FLOORS = [
    {"utils", "metrics", "_version"},
    {"models", "options"},
    {"losses", "data", "runs"},
    {"evaluation", "hub", "study"},
    {"training", "cards", "demo", "evaluate"},
    {"session", "export", "model_card"},
    {"teacher", "student"},
    {"__init__"},
]
# Importing these would be downwards, and wrong all the same.
NEVER = [("training", "cards"), ("study", "training"), ("losses", "options"), ("data", "losses")]


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"hf_icckd/{room} is on no floor: add it to the table on purpose")


def files() -> dict[str, Path]:
    """Every module of the package as a dotted path below hf_icckd."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, as dotted paths below hf_icckd."""
    names, known = set(), files()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_icckd"):
            base = node.module.removeprefix("hf_icckd").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                names.add(full if full in known else base or "__init__")
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("hf_icckd.") for alias in node.names if "hf_icckd." in alias.name}
    return names


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_rooms_import_from_floors_below():
    for module, path in files().items():
        own = room_of(module)
        for imported in imports(path):
            room = room_of(imported)
            assert room == own or floor_of(room) < floor_of(own), f"{module} imports {imported}, which is not below it"


def test_the_nevers():
    for module, path in files().items():
        rooms = {room_of(imported) for imported in imports(path)}
        for own, other in NEVER:
            assert room_of(module) != own or other not in rooms, f"{module} imports {other}, which {own} never does"


def test_an_unknown_room_is_noticed():
    with pytest.raises(AssertionError, match="helpers is on no floor"):
        floor_of("helpers")


def test_there_is_no_cycle():
    graph = {module: imports(path) - {module, "__init__"} for module, path in files().items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join([*path, module])}"
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_private_overrides_of_the_trainer_stand_in_one_file():
    """A new release of transformers means reading that file, and no other."""
    from transformers import Trainer

    from hf_icckd import StudentTrainer, TeacherTrainer

    for concrete in (TeacherTrainer, StudentTrainer):
        own = [each for each in concrete.__mro__ if each.__module__.startswith("hf_icckd")]
        assert [each.__name__ for each in own[1:]] == ["DistillationTrainer", "ResumableTrainer"]
        for each in own:
            private = {name for name in vars(each) if name.startswith("_") and not name.startswith("__")}
            overrides = {name for name in private if hasattr(Trainer, name)}
            assert not overrides or each.__module__ == "hf_icckd.training.resumable", overrides
