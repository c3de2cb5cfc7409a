"""Counts the structure of a checkout: rooms, floors, long functions, levels of trainers, files that a change touches.

`python -m tests.structure [CHECKOUT ...]` prints a Markdown table with a column for each checkout, by default one for
this one. It reads source text and imports nothing of what it counts, so it works on any commit.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

LONG_FUNCTION, LONG_FILE = 60, 350
TRAINERS = ("TeacherTrainer", "StudentTrainer")
# Whoever adds one more of these touches about the files that name the one that is there.
EXAMPLES = {
    "teacher term (`sftn`)": r"sftn|student_branch(es)?",
    "teacher term (`intra_class`)": r"intra_class(?!_distance)",
    "objective (`rkd`)": r"rkd",
    "augmentation (`random_erasing`)": r"random_erasing",
    "metric (`nc1`)": r"nc1",
}

Graph = dict[str, set[str]]
Weights = Counter[tuple[str, str]]  # how many imports lead from one room to another


class Function(NamedTuple):
    """A function or method and the number of its lines."""

    lines: int
    name: str
    file: str


# ---- modules and what they import


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package as a dotted path below it."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


@functools.cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path, package: str, known: Iterable[str]) -> set[str]:
    """Modules of the package that a file imports, wherever in it; the package itself is `__init__`."""
    names = set()
    for node in _nodes(path):
        if isinstance(node, ast.ImportFrom) and re.match(rf"{package}(\.|$)", node.module or ""):
            base = node.module.removeprefix(package).lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                names.add(full if full in known else base or "__init__")
        if isinstance(node, ast.Import):
            found = (alias.name for alias in node.names if alias.name.startswith(f"{package}."))
            names |= {name.removeprefix(f"{package}.") for name in found}
    return names


def import_graph(package: Path) -> Graph:
    """For each module those that it imports."""
    found = modules(package)
    return {module: imports(path, package.name, found) - {module} for module, path in found.items()}


def room_of(module: str) -> str:
    """Folder or file at the top of the package that holds a module."""
    return module.partition(".")[0]


def room_imports(graph: Graph) -> Weights:
    """How many imports lead from each room to each other one."""
    pairs = ((room_of(module), room_of(name)) for module, names in graph.items() for name in names)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


# ---- floors


def circles(graph: Graph) -> list[set[str]]:
    """Strongly connected parts of a graph, each after all that it imports."""
    reach = {node: _reachable(graph, node) | {node} for node in graph}
    parts: list[set[str]] = []
    # What is imported reaches less than what imports it.
    for node in sorted(graph, key=lambda each: (len(reach[each]), each)):
        if not any(node in part for part in parts):
            parts.append({other for other in reach[node] if node in reach[other]})
    return parts


def _reachable(graph: Graph, start: str) -> set[str]:
    found, left = set(), [start]
    while left:
        for name in graph[left.pop()] - found:
            found.add(name)
            left.append(name)
    return found


def floors(graph: Graph) -> int:
    """Length of the longest chain of imports, in nodes. Imports that point up are left out; see `upward_imports`."""
    height: dict[str, int] = {}
    for part in circles(graph):
        below = {name for node in part for name in graph[node]} - part
        height |= dict.fromkeys(part, 1 + max((height[name] for name in below), default=0))
    return max(height.values(), default=0)


def upward_imports(weights: Weights) -> list[tuple[str, str]]:
    """Pairs of rooms whose imports point up in the best order of the rooms; those of the package itself always do.

    The best order is the one with the fewest such imports.
    """
    found = [pair for pair in weights if pair[1] == "__init__"]
    rest = Counter({pair: count for pair, count in weights.items() if pair[1] != "__init__"})
    graph: Graph = {room: set() for pair in rest for room in pair}
    for importing, imported in rest:
        graph[importing].add(imported)
    for part in circles(graph):
        order = _best_order(sorted(part), rest)
        found += [(low, high) for low, high in itertools.combinations(order, 2) if (low, high) in rest]
    return sorted(found)


def _best_order(rooms: list[str], weights: Weights) -> list[str]:
    """Rooms that import one another, lowest first, so that as few imports as possible point up."""
    if len(rooms) > 16:
        raise ValueError(f"{len(rooms)} rooms import one another, expected at most 16: all orders of them are tried")
    # By subsets: the cheapest way to stack these rooms, whichever of them is on top.
    best: dict[int, tuple[int, list[str]]] = {0: (0, [])}
    for subset in range(1, 1 << len(rooms)):
        stacks = []
        for top in (index for index in range(len(rooms)) if subset >> index & 1):
            cost, below = best[subset ^ (1 << top)]
            stacks.append((cost + sum(weights[room, rooms[top]] for room in below), [*below, rooms[top]]))
        best[subset] = min(stacks)
    return best[(1 << len(rooms)) - 1][1]


def room_graph(weights: Weights) -> Graph:
    """For each room those that it imports, without the imports that point up."""
    upward = set(upward_imports(weights))
    graph: Graph = {room: set() for pair in weights for room in pair}
    for importing, imported in weights.keys() - upward:
        graph[importing].add(imported)
    return graph


# ---- functions, files, trainers


def functions(package: Path) -> list[Function]:
    """All functions and methods, longest first; decorators don't count, those within another count in both."""
    found = []
    for path in modules(package).values():
        place = path.relative_to(package.parent).as_posix()
        for node in _nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(Function(node.end_lineno - node.lineno + 1, node.name, place))
    return sorted(found, key=lambda function: (-function.lines, function.file, function.name))


def files_by_length(package: Path) -> list[tuple[int, str]]:
    """Lines and path of each Python file, longest first."""
    found = [
        (len(path.read_text().splitlines()), path.relative_to(package.parent).as_posix())
        for path in modules(package).values()
    ]
    return sorted(found, key=lambda entry: (-entry[0], entry[1]))


def classes(package: Path) -> dict[str, tuple[ast.ClassDef, str]]:
    """Every class by its name, with the path of its file."""
    return {
        node.name: (node, path.relative_to(package.parent).as_posix())
        for path in modules(package).values()
        for node in _nodes(path)
        if isinstance(node, ast.ClassDef)
    }


def levels_below_trainer(package: Path, trainer: str) -> list[str]:
    """Classes of the package between `transformers.Trainer` and a trainer, the nearest to the trainer first.

    Raises:
        ValueError: If the class is no Trainer.
    """
    known, level, found = classes(package), [trainer], []
    while level and "Trainer" not in (bases := [base for name in level for base in _bases(known[name][0])]):
        level = [name for name in bases if name in known]
        found += level
    if not level:
        raise ValueError(f"{trainer} does not inherit from transformers.Trainer")
    return found


def _bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rpartition(".")[2] for base in node.bases]


def private_overrides(package: Path) -> dict[str, list[str]]:
    """Private methods of `transformers.Trainer` that trainers of the package override, by file."""
    spec = importlib.util.find_spec("transformers")  # found, not imported
    source = _nodes(Path(spec.origin).with_name("trainer.py"))
    [theirs] = (node for node in source if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    private = {name for name in _methods(theirs) if re.match(r"_[^_]", name)}
    known, found = classes(package), {}
    for name in {name for trainer in TRAINERS for name in [trainer, *levels_below_trainer(package, trainer)]}:
        node, file = known[name]
        if overrides := private & _methods(node):
            found[file] = sorted(overrides.union(found.get(file, ())))
    return found


def _methods(node: ast.ClassDef) -> set[str]:
    return {each.name for each in node.body if isinstance(each, ast.FunctionDef)}


# ---- what a change touches


def files_that_name(package: Path, pattern: str) -> list[str]:
    """Files of the package in whose code a name occurs, or whose own name it is.

    Templates count. Docstrings and messages don't, and neither does what an `__init__` only imports and lists.

    Args:
        package: Folder of the package.
        pattern: Regular expression of whole words, separated by anything but letters and digits.
    """
    word = re.compile(rf"(?<![a-z0-9])({pattern})(?![a-z0-9])", re.IGNORECASE)
    texts = {path: _names(path) for path in modules(package).values()}
    texts |= {path: path.read_text() for path in package.rglob("*") if path.suffix in (".md", ".html")}
    places = {path.relative_to(package.parent).as_posix(): text for path, text in texts.items()}
    return sorted(place for place, text in places.items() if word.search(text) or word.search(Path(place).stem))


@functools.cache
def _names(path: Path) -> str:
    """Identifiers, and strings without a space: keys, choices, names of options; sentences are for people."""
    passed_on = {id(node) for node in _passed_on(path)} if path.stem == "__init__" else set()
    found = set()
    for node in _nodes(path):
        if id(node) in passed_on:
            continue
        values = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")]
        if isinstance(node, ast.Constant):
            values.append(node.value)
        found |= {value for value in values if isinstance(value, str) and not re.search(r"\s", value)}
    return " ".join(sorted(found))


def _passed_on(path: Path) -> Iterable[ast.AST]:
    """Everything in a module's imports and in its `__all__`."""
    for statement in _nodes(path)[0].body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or ast.unparse(statement).startswith("__all__"):
            yield from ast.walk(statement)


def python_starts(tests: Path) -> int:
    """Places in the tests that start Python by its path; a place may be reached many times, or start many."""
    return sum(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable"
        for path in tests.rglob("*.py")
        for node in _nodes(path)
    )


# ---- the table


def rows(checkout: Path) -> dict[str, str]:
    """What is counted, in words, and what it is in a checkout."""
    package = checkout / "hf_icckd"
    graph = import_graph(package)
    weights = room_imports(graph)
    rooms = {room_of(module) for module in graph} - {"__init__"}
    folders = {room for room in rooms if (package / room).is_dir()}
    lengths, lines = functions(package), files_by_length(package)
    overrides = private_overrides(package)
    found = {
        "Python files in the package": str(len(lines)),
        "lines in them": f"{sum(count for count, _ in lines):,}",
        "rooms: folders and single files at the top": f"{len(folders)} + {len(rooms - folders)}",
        "floors of rooms": str(floors(room_graph(weights))),
        "imports that point up, between rooms": str(sum(weights[pair] for pair in upward_imports(weights))),
        "floors of files": str(floors({module: names - {"__init__"} for module, names in graph.items()})),
        f"functions over {LONG_FUNCTION} lines": str(sum(each.lines > LONG_FUNCTION for each in lengths)),
        "the three longest": ", ".join(f"`{each.name}` {each.lines}" for each in lengths[:3]),
        f"files over {LONG_FILE} lines": str(sum(count > LONG_FILE for count, _ in lines)),
        "the three longest files": ", ".join(f"`{Path(file).name}` {count}" for count, file in lines[:3]),
    }
    for trainer in TRAINERS:
        between = levels_below_trainer(package, trainer)
        found[f"classes between `transformers.Trainer` and `{trainer}`"] = str(len(between))
    found["files that override private methods of `transformers.Trainer`"] = str(len(overrides))
    for what, pattern in EXAMPLES.items():
        found[f"files that name an existing {what}"] = str(len(files_that_name(package, pattern)))
    found["places in the tests that start Python"] = str(python_starts(checkout / "tests"))
    return found


def table(columns: dict[str, Path]) -> str:
    """Markdown table with a column for each checkout."""
    counted = {title: rows(checkout) for title, checkout in columns.items()}
    lines = [f"| what | {' | '.join(counted)} |", f"| --- |{' ---: |' * len(counted)}"]
    for what in next(iter(counted.values())):
        lines.append(f"| {what} | {' | '.join(column[what] for column in counted.values())} |")
    return "\n".join(lines)


def names(checkout: Path) -> str:
    """What stands behind the counts of a checkout, a line each."""
    package = checkout / "hf_icckd"
    long = [f"{each.name} ({each.file}) {each.lines}" for each in functions(package) if each.lines > LONG_FUNCTION]
    found = {
        "imports that point up": [" -> ".join(pair) for pair in upward_imports(room_imports(import_graph(package)))],
        "long functions": long,
        "long files": [f"{file} {lines}" for lines, file in files_by_length(package) if lines > LONG_FILE],
        **{f"levels below {trainer}": levels_below_trainer(package, trainer) for trainer in TRAINERS},
        "private overrides": [f"{file}: {' '.join(each)}" for file, each in private_overrides(package).items()],
        **{what: files_that_name(package, pattern) for what, pattern in EXAMPLES.items()},
    }
    return "\n".join(f"{what}: {', '.join(each) or 'none'}" for what, each in found.items())


def main() -> None:
    """Print the table and, if asked to, the names behind its counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", default=["."], help="FOLDER or TITLE=FOLDER; default: this checkout")
    parser.add_argument("--names", action="store_true", help="also list what was counted, for each checkout")
    options = parser.parse_args()
    pairs = [checkout.rpartition("=") for checkout in options.checkouts]
    columns = {title or Path(folder).resolve().name: Path(folder) for title, _, folder in pairs}
    sys.stdout.write(f"{table(columns)}\n")
    for title, checkout in columns.items() if options.names else ():
        sys.stdout.write(f"\n{title}\n{names(checkout)}\n")


if __name__ == "__main__":
    main()
