"""Each file imports only from its own layer or below. A file that is not in the table fails the test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hf_icckd

ROOT = Path(hf_icckd.__file__).parent
LAYERS = [
    {
        *("allocator", "card_regions", "distributed", "files", "keyed_random", "launcher", "options"),
        *("metrics.*", "outputs", "pictures", "probes"),
    },
    {"losses.*", "models.*", "data.*"},
    {
        *("class_cache", "modeling", "student_branches", "evaluation", "teacher_targets", "checkpointing"),
        *("hub", "hub.layout", "hub.publishing", "comparison", "run_records", "model_card", "onnx_export"),
    },
    {
        *("training_args", "data_args", "cli", "progress", "resumable", "publishing_trainer", "rhythm"),
        *("environment", "stopping", "term_averages"),
    },
    {
        *("trainer_base", "teacher_trainer", "student_trainer", "run_folder", "card_callback", "runs"),
        *("teacher", "student", "evaluate", "export", "demo", "demo_page", "study.*", "hub.__main__"),
    },
    {"__init__"},
]


def layer_of(module: str) -> int:
    top = module.partition(".")[0]
    for number, names in enumerate(LAYERS):
        if module in names or f"{top}.*" in names:
            return number
    raise AssertionError(f"hf_icckd/{module.replace('.', '/')}.py is in no layer: add it to the table on purpose")


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, as dotted paths below hf_icckd."""
    names = set()
    known = modules()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_icckd"):
            base = node.module.removeprefix("hf_icckd").lstrip(".")
            for alias in node.names:
                if not base and alias.name == "__version__":
                    continue  # the one thing files take from the package itself
                full = f"{base}.{alias.name}".lstrip(".")
                names.add(full if full in known else base or "__init__")
        if isinstance(node, ast.Import):
            names |= {
                a.name.removeprefix("hf_icckd").lstrip(".") for a in node.names if a.name.startswith("hf_icckd.")
            }
    return names


def test_imports_point_downwards():
    for module, path in modules().items():
        own = layer_of(module)  # fails on a file that the table does not know
        for imported in imports(path):
            assert layer_of(imported) <= own, f"{module} imports {imported} from a layer above"


def test_an_unknown_file_is_noticed():
    with pytest.raises(AssertionError, match=r"helpers\.py is in no layer"):
        layer_of("helpers")


def test_there_is_no_cycle():
    graph = {module: imports(path) - {module, "__init__"} for module, path in modules().items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join([*path, module])}"
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
