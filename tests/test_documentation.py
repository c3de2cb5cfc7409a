"""What README, CONTRIBUTING and docs show can be run as it stands, and what they name and link to exists."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import shlex
import string
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image

from hf_icckd import export_onnx, export_openvino, save_pretrained
from hf_icckd.losses import OBJECTIVES, parse_objectives, parse_terms
from hf_icckd.options.command_line import UserError, parse_arguments, parse_command
from hf_icckd.options.commands import COMMANDS
from hf_icckd.options.distill_words import PARTS, read_command
from hf_icckd.options.others import name_here
from hf_icckd.options.recipes import RECIPES
from hf_icckd.study import load_plan
from tests import ROOT

README, CONTRIBUTING, CHANGELOG = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
INDEX, MOVING, COMING = (ROOT / "docs" / f"{name}.md" for name in ("index", "moving-to-0.2", "coming-from"))
PAGES = [README, CONTRIBUTING, *DOCS, ROOT / "model_cards" / "README.md", ROOT / "benchmarks" / "GPU.md"]
LAUNCHERS = {
    "signals_to_handle",
    "quiet",
    "config_file",
    "num_processes",
    "multi_gpu",
    "mixed_precision",
    "nproc_per_node",
    "signal",
}  # accelerate, torchrun, SLURM
# Words that `CONTRIBUTING.md` rules out by "plain English", where a word alone decides.
RIDDLES = (
    r"anew", r"mend(s|ed|ing)?", r"figures", r"go(es|ing)? on (with|from|at)", r"gone on with", r"again and again",
    r"borders? of (steps|epochs)", r"what (it|they) (was|were) made (from|of)", r"behind (its|their) own",
    r"whole or not at all",
)  # fmt: skip


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def prose(page: Path) -> str:
    """A page without blocks of code, and a page about other names without those in the first column of its tables."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE) if page in (MOVING, COMING) else text


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= 1300


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name_of)
def test_pages_speak_plainly(page):
    text = re.sub(r"`[^`\n]+`", "", prose(page))
    found = [match[0] for words in RIDDLES for match in re.finditer(rf"\b{words}\b", text, re.IGNORECASE)]
    assert not found, f"{name_of(page)}: say it plainly, without {', '.join(found)}"


def test_code_speaks_plainly():
    """Docstrings, comments and messages too; a word is ruled out as a name as well."""
    found = [
        f"{name_of(file)}: {match[0]}"
        for folder in ("hf_icckd", "recipes", "benchmarks")
        for file in sorted((ROOT / folder).rglob("*.[pm][yd]"))
        for words in RIDDLES
        for match in re.finditer(rf"\b{words}\b", file.read_text(), re.IGNORECASE)
    ]
    assert not found


def test_every_page_is_reached_from_the_first_one():
    assert "](docs/index.md)" in README.read_text()
    text = INDEX.read_text()
    assert [page.name for page in DOCS if page != INDEX and f"]({page.name}" not in text] == []


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name_of)
def test_what_is_linked_exists(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_modules_that_are_named_exist(page):
    rooms = "benchmarks|docs|hf_icckd|recipes|tests"
    for code in inline_code(page):
        for path in re.findall(rf"(?<![\w/.-])(?:{rooms})/[\w./-]*", code):
            assert (ROOT / path).exists(), path
        for dotted in re.findall(r"(?<![\w/])hf_icckd(?:\.\w+)+", code):
            # A module by its place, so that no program is started; anything else by looking it up.
            parent, _, _ = dotted.rpartition(".")
            is_module = parent_is_package(parent) and importlib.util.find_spec(dotted) is not None
            assert is_module or pkgutil.resolve_name(dotted) is not None


def parent_is_package(name: str) -> bool:
    spec = importlib.util.find_spec(name) if name == "hf_icckd" or parent_is_package(name.rpartition(".")[0]) else None
    return spec is not None and spec.submodule_search_locations is not None


def test_every_promise_names_its_test():
    rows = re.findall(r"^\| (?!promise|---)(.+) \| (.+) \|$", (ROOT / "docs" / "exact.md").read_text(), re.MULTILINE)
    assert len(rows) > 10
    assert [promise for promise, tried in rows if "`tests/" not in tried and tried != "not run"] == []


# Python


@pytest.mark.parametrize(
    ("page", "code"),
    [(page, code) for page in (README, *DOCS) if page.stem != "study" for code in blocks(page, "python")],
    ids=lambda value: name_of(value) if isinstance(value, Path) else value.split("\n")[0],
)
def test_python_runs(page, code, tmp_path, monkeypatch, tiny_classifier):
    for name in ("teacher", "student"):
        save_pretrained(tmp_path / "runs" / name, tiny_classifier())
    if "openvino" in code:
        export_openvino(tmp_path / "runs" / "student", tmp_path / "runs" / "student" / "model.xml", num_images=1)
    if "onnxruntime" in code:
        export_onnx(tmp_path / "runs" / "student", tmp_path / "runs" / "student" / "model.onnx", num_images=1)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name_of(page), "exec"), {})


def test_differences_of_a_study_are_those_that_the_pages_tell(monkeypatch, capsys):
    first, second = blocks(ROOT / "docs" / "study.md", "python")
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(compile(first, "study.md", "exec"), names)
    shown = re.search(r"# mean (\S+), low (\S+), high (\S+)", first).groups()
    taken = names["difference"](names["taught"], names["alone"])
    assert [f"{taken[name]:.2f}" for name in ("mean", "low", "high")] == list(shown)
    exec(compile(second, "study.md", "exec"), names)
    assert "intra-no-gate" in capsys.readouterr().out
    found = names["differences"](names["plan"], names["frame"][names["same"]])
    withstand = found[~found.primary & (found.holm < 0.05)]
    # docs/evidence.md: "without these only no gate, one view and label smoothing withstand correction, by KD"
    assert set(zip(withstand.student, withstand.teacher, strict=True)) == {
        ("kd", "intra-no-gate"),
        ("kd", "ce-one-view"),
        ("kd", "label-smoothing"),
    }


def test_the_example_of_a_new_objective_works(monkeypatch):
    """The file, its line in the table and its test, put where CONTRIBUTING says that they go."""
    source, test = blocks(CONTRIBUTING, "python")
    path = re.match(r"# (\S+)\.py\n", source)[1]
    module = types.ModuleType(path.replace("/", "."))
    exec(compile(source, f"{path}.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    (change,) = blocks(CONTRIBUTING, "diff")
    table = (ROOT / re.search(r"Then its line in `(\S+)`", CONTRIBUTING.read_text())[1]).read_text()
    assert "\n".join(line[1:] for line in change.splitlines() if not line.startswith("+")) in table
    (added,) = re.findall(r'^\+ +"(\w+)": (\w+),$', change, re.MULTILINE)
    monkeypatch.setitem(OBJECTIVES, added[0], getattr(module, added[1]))
    assert parse_objectives(["kd", f"{added[0]}:weight=0.1"], OBJECTIVES).term_weights == {"kd": 1, added[0]: 0.1}
    assert set(OBJECTIVES[added[0]].term_weights) == {added[0]} and OBJECTIVES[added[0]].citation.startswith("@")
    for words in commands():
        if any(word.startswith(added[0]) for word in words):
            check_command(words)

    names: dict = {}
    exec(compile(test, re.match(r"# (\S+)\n", test)[1], "exec"), names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert len(tests) >= 4
    for each in tests:
        each()


# Commands


def commands() -> list[list[str]]:
    """Every command of this repository in a block of any page, with the variables of that block filled in."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            values: dict[str, str] = {}
            for line in block.replace("\\\n", " ").replace("&&", "\n").splitlines():
                line = string.Template(line.partition(" #")[0]).safe_substitute(values)
                if match := re.fullmatch(r'(\w+)="(.*)"', line.strip()):
                    values[match[1]] = match[2]
                elif re.search(r"\brecipes/|\bbenchmarks/|-m hf_icckd\.|^\s*hf-icckd ", line):
                    found.append(shlex.split(line))
    return found


def check_command(words: list[str]) -> None:
    """The script exists, and takes these options with these values."""
    if "recipes/slurm.sh" in words:  # it starts the recipe that follows
        words = ["hf-icckd", *words[words.index("recipes/slurm.sh") + 1 :]]
    if "--config_file" in words:
        assert (ROOT / words[words.index("--config_file") + 1]).is_file()
    started = (".py", "hf-icckd"), "hf_icckd."
    place = next(i for i, word in enumerate(words) if word.endswith(started[0]) or word.startswith(started[1]))
    script, argv = words[place], words[place + 1 :]
    if script.endswith(".py"):
        assert (ROOT / script).is_file()
    if script == "hf-icckd":
        name, *argv = argv
    else:
        name = Path(script).stem if script.endswith(".py") else script.removeprefix("hf_icckd.")
        name = {"hub": "push", "model_card": "card"}.get(name, name)
        argv = argv[1:] if argv[:1] == ["push"] else argv
    if name == "distill":
        _, found = read_command(argv)
        for part in RECIPES:
            parse_arguments(RECIPES[part], "", getattr(found, part))
    elif name in COMMANDS:
        parsed = parse_command(name, argv, RECIPES.get(name))
        if name == "study":
            load_plan(parsed[0].study)
    else:
        given = {word.removeprefix("--") for word in argv if word.startswith("--")}
        source = script if script.endswith(".py") else script.replace(".", "/") + ".py"
        assert given <= options_in(ROOT / source), words


def options_in(source: Path) -> set[str]:
    """Options that a script defines with argparse."""
    return set(re.findall(r'"--(\w+)"', source.read_text()))


def names_of(groups: list[type]) -> set[str]:
    return {each.name for group in groups for each in fields(group)}


def needs_gpus(names: set[str]) -> bool:
    return "sync_batchnorm" in names and not torch.cuda.is_available()


def its_own(words: list[str]) -> bool:
    """Whether a command is one of this package, not of the objective that only the example in CONTRIBUTING adds."""
    return not any(word.startswith("logit_mse") for word in words)


@pytest.mark.parametrize("words", filter(its_own, commands()), ids=" ".join)
def test_commands_have_options_that_exist(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_are_named_exist(page):
    known = LAUNCHERS | names_of([group for recipe in RECIPES.values() for group in recipe])
    known |= names_of([group for command in COMMANDS.values() for group in command.options])
    known |= {f"{part}_{name}" for part in PARTS for name in names_of(RECIPES[part])}
    for source in (ROOT / "benchmarks").glob("*.py"):
        known |= options_in(source)
    for code in inline_code(page):
        for option in re.findall(r"(?<![\w-])--(\w+)", code):
            assert option in known | {"help"}, f"--{option}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_are_named_take_these_values(page):
    for code in inline_code(page):
        words = shlex.split(code) if code.startswith("--") else []
        names = {word.removeprefix("--") for word in words if word.startswith("--")}
        recipe = next((kind for kind in RECIPES if names and names <= names_of(RECIPES[kind])), None)
        if recipe is None or len(words) == len(names) or not its_own(words) or needs_gpus(names):
            continue
        *_, args = parse_arguments(RECIPES[recipe], "", words)
        parse_objectives(args.objectives) if recipe == "student" else parse_terms(args.terms)


def options_that_moved() -> list[tuple[list[str], list[str]]]:
    rows = re.findall(r"^\| `(--[^`]+)` \| `(--terms [^`]+)` \|$", MOVING.read_text(), re.MULTILINE)
    assert len(rows) >= 9, "the table of options on the page about moving is not as this test reads it"
    return [(old.split(), new.split()) for old, new in rows]


@pytest.mark.parametrize(("old", "new"), options_that_moved(), ids=" ".join)
def test_an_old_option_is_an_error_that_gives_the_new_spelling(old, new):
    with pytest.raises(UserError, match=re.escape(" ".join(new))):
        parse_arguments(RECIPES["teacher"], "", old[-2:])  # the one option, or the one that decides
    *_, args = parse_arguments(RECIPES["teacher"], "", new)
    assert args.terms == new[1:]
    parse_terms(args.terms)


def test_options_of_other_programs_are_answered():
    """What the page about other programs lists is what the error about such an option knows."""
    known = names_of([group for recipe in RECIPES.values() for group in recipe])
    cells = re.findall(r"^\|([^|]*)\|", COMING.read_text(), re.MULTILINE)
    options = {
        option.replace("-", "_") for cell in cells for option in re.findall(r"(?<![\w-])--([a-zA-Z][\w-]+)", cell)
    }
    assert len(options) > 20
    assert sorted(name for name in options if name not in known and name_here(name, known) is None) == []
