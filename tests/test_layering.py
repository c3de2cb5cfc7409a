"""Rooms of the package: each imports only from rooms on floors below its own, and some never from certain others."""

from __future__ import annotations

from pathlib import Path

import pytest

import hf_icckd
from tests.structure import import_graph, room_of

ROOT = Path(hf_icckd.__file__).parent
FLOORS = [
    {"utils", "metrics", "_version"},
    {"models", "options"},
    {"losses", "data", "runs"},
    {"evaluation", "hub", "prediction", "study"},
    {"training", "cards", "demo", "find_models", "import_weights", "nets", "objectives", "predict"},
    {"evaluate", "export", "benchmark", "model_card", "plan"},
    {"session"},
    {"teacher", "student"},
    {"distill"},
    {"__init__", "console"},
    {"__main__"},
]
# Importing these would be downwards, and wrong all the same.
NEVER = [("training", "cards"), ("study", "training"), ("losses", "options"), ("data", "losses")]


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"hf_icckd/{room} is on no floor: add it to the table on purpose")


GRAPH = import_graph(ROOT)


def test_rooms_import_from_floors_below():
    for module, names in GRAPH.items():
        own = room_of(module)
        for imported in names:
            room = room_of(imported)
            assert room == own or floor_of(room) < floor_of(own), f"{module} imports {imported}, which is not below it"


def test_the_nevers():
    for module, names in GRAPH.items():
        rooms = {room_of(imported) for imported in names}
        for own, other in NEVER:
            assert room_of(module) != own or other not in rooms, f"{module} imports {other}, which {own} never does"


def test_an_unknown_room_is_noticed():
    with pytest.raises(AssertionError, match="helpers is on no floor"):
        floor_of("helpers")


def test_there_is_no_cycle():
    graph = {module: names - {"__init__"} for module, names in GRAPH.items()}
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
