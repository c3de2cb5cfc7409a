"""Convert files of earlier versions, which have options such as `intra_class_weight`, to `terms`.

`python -m hf_icckd.study.convert FILE ...` takes plans of studies, records.jsonl, configurations of teacher runs,
all_args.yaml, metrics.json and other JSON files that hold options or command lines. It says what it changed; a file
without such options stays as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hf_icckd.losses import TEACHER_TERMS, full_specs
from hf_icckd.options.command_line import readable_errors
from hf_icckd.runs.layout import ARGS_FILE
from hf_icckd.study.run import taught_by
from hf_icckd.study.terms import FORMER_TERMS, OLD_OPTIONS, from_old_options, short_specs
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.yaml_files import read_yaml

_Edit = tuple[int, int, str]  # start and end of what is replaced, and the new text
_OLD = "|".join(OLD_OPTIONS)
_SWEPT_NAME = re.compile(rf"([^/\s\"']+),({_OLD})=")  # of a swept teacher: base,option=value
_COMMAND_OPTION = re.compile(rf" --({_OLD})[ =](\S+)")
_JSON_STYLES: tuple[dict[str, Any], ...] = ({}, {"indent": 2}, {"indent": 2, "ensure_ascii": False}, {"indent": 1})


def main(argv: list[str] | None = None) -> None:
    """Convert the files of a command line in place, and say what was changed."""
    parser = argparse.ArgumentParser("python -m hf_icckd.study.convert", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="Files to convert in place.")
    with readable_errors():
        for path in parser.parse_args(argv).files:
            changes = convert_file(path)
            told = f"{changes.total()} change{'s' * (changes.total() > 1)}" if changes else "nothing to convert"
            sys.stdout.write(f"{path}: {told}\n")
            sys.stdout.writelines(f"  {count} x {change}\n" for change, count in changes.items())


def convert_file(path: Path) -> Counter[str]:
    """Convert a file in place.

    Returns:
        What was changed, and how often.

    Raises:
        ValueError: If it can't be read, or can't be written again without changing anything else.
    """
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist; check the path")
    changes: Counter[str] = Counter()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        new = "".join(_rewritten(path, line, json.loads, _json_style, _record, changes) for line in _lines(text))
    elif path.suffix == ".json":
        new = _rewritten(path, text, json.loads, _json_style, _converted, changes)
    elif path.name == ARGS_FILE:
        new = _rewritten(path, text, yaml.safe_load, _yaml_style, _arguments, changes)
    elif path.suffix in (".yaml", ".yml"):
        new = _yaml(text, read_yaml(path, "file"), changes)
    else:
        raise ValueError(f"{str(path)!r} is of an unknown kind, expected .yaml, .json or .jsonl; leave it out")
    if changes:
        write_text(path, new)
    return changes


# ---- values


def _converted(value: Any, changes: Counter[str]) -> Any:
    """A value of JSON or YAML with its options, names and commands converted."""
    if isinstance(value, dict):
        return _options({key: _converted(item, changes) for key, item in value.items()}, changes)
    if isinstance(value, list):
        return [_converted(item, changes) for item in value]
    return _command(_names(value, changes), changes) if isinstance(value, str) else value


def _record(record: dict[str, Any], changes: Counter[str]) -> dict[str, Any]:
    """A record of a study; its arguments name every argument of a term, as they always did."""
    new = _converted(record, changes)
    if record.get("arguments", {}).keys() & OLD_OPTIONS:
        new["arguments"]["terms"] = full_specs(new["arguments"]["terms"])
    return new


def _arguments(arguments: dict[str, Any], changes: Counter[str]) -> dict[str, Any]:
    """All options of a run; terms name every argument, as such a file always did."""
    new = _converted(arguments, changes)
    return new | {"terms": full_specs(new["terms"])} if arguments.keys() & OLD_OPTIONS else new


def _options(options: dict[str, Any], changes: Counter[str]) -> dict[str, Any]:
    """Options with `terms` in place of the first old one, or in alphabetical order if they are in it."""
    old = {name: value for name, value in options.items() if name in OLD_OPTIONS}
    if not old:
        return options
    specs = _specs(old, changes)
    new: dict[str, Any] = {}
    for name, value in options.items():
        if name not in old:
            new[name] = value
        elif "terms" not in new:
            new["terms"] = specs
    return dict(sorted(new.items())) if list(options) == sorted(options) else new


def _specs(old: dict[str, Any], changes: Counter[str], inherited: dict[str, Any] | None = None) -> list[str]:
    specs = short_specs(from_old_options((inherited or {}) | old))
    told = ", ".join(f"{name} {value}" for name, value in old.items() if value is not None)
    changes[f"{told or 'no branches'} -> terms {' '.join(specs)}"] += 1
    return specs


def _names(text: str, changes: Counter[str]) -> str:
    """Text with the options in names of swept teachers converted."""

    def renamed(found: re.Match[str]) -> str:
        base, old = found.groups()
        if base.partition(":")[0] in TEACHER_TERMS:  # a spec, with an argument that kept its name
            return found[0]
        changes[f"{old} -> {OLD_OPTIONS[old]} in a name"] += 1
        return f"{base},{OLD_OPTIONS[old]}="

    return _SWEPT_NAME.sub(renamed, text)


def _command(text: str, changes: Counter[str]) -> str:
    """A command line with its options converted."""
    old = {name: yaml.safe_load(value) for name, value in _COMMAND_OPTION.findall(text)}
    if not old:
        return text
    words = [f" --terms {' '.join(_specs(old, changes))}"]
    return _COMMAND_OPTION.sub(lambda _: words.pop() if words else "", text)


# ---- files that programs write


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _rewritten(
    path: Path,
    text: str,
    parse: Callable[[str], Any],
    style: Callable[[str, Any], Callable[[Any], str] | None],
    convert: Callable[[Any, Counter[str]], Any],
    changes: Counter[str],
) -> str:
    """Text with its value converted, in the style it was written in."""
    try:
        value = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{str(path)!r} can't be read ({' '.join(str(error).split())}); repair it first") from error
    found: Counter[str] = Counter()
    new = convert(value, found)
    if not found:
        return text
    write = style(text, value)
    if write is None:
        raise ValueError(f"{str(path)!r} is not as a program writes it; convert it by hand")
    changes.update(found)
    return write(new)


def _json_style(text: str, value: Any) -> Callable[[Any], str] | None:
    """The way of writing JSON that gives this text; None if there is none."""
    end = "\n" if text.endswith("\n") else ""
    for options in _JSON_STYLES:
        if json.dumps(value, **options) + end == text:
            return lambda new: json.dumps(new, **options) + end
    return None


def _yaml_style(text: str, value: Any) -> Callable[[Any], str] | None:
    """The way of writing YAML that gives this text; None if there is none."""
    return yaml.safe_dump if yaml.safe_dump(value) == text else None


# ---- YAML that people write: only the options themselves are replaced


def _yaml(text: str, values: Any, changes: Counter[str]) -> str:
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or not isinstance(values, dict):
        return text
    if "teachers" in values:
        edits = _plan_edits(text, root, values, changes)
    else:
        edits = _option_edits(text, root, values, {}, changes, as_list=True)
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return _names(text, changes)


def _plan_edits(text: str, root: yaml.MappingNode, plan: dict[str, Any], changes: Counter[str]) -> list[_Edit]:
    """What to replace in the plan of a study; a teacher inherits the options of all, which `terms` replace at once."""
    nodes = {key.value: value for key, value in root.value}
    shared = plan.get("options") or {}
    edits = _option_edits(text, nodes.get("teacher_options"), plan.get("teacher_options"), shared, changes)
    for group, inherited in (("teachers", shared | (plan.get("teacher_options") or {})), ("alone", shared)):
        for name, node in nodes[group].value if plan.get(group) else ():
            options = _entry(plan[group], name.value) or {}
            edits += _option_edits(text, node, options, inherited, changes)
            silent = not (options | inherited).keys() & {*OLD_OPTIONS, "terms"} and taught_by(options) is None
            if silent and _is_earlier(plan) and (edit := _added(node, f"terms: {FORMER_TERMS}")) not in edits:
                changes[f"nothing -> terms {FORMER_TERMS}"] += 1
                edits.append(edit)
    for _, sweep in nodes["sweeps"].value if plan.get("sweeps") else ():
        for key, value in sweep.value:
            if key.value == "option" and value.value in OLD_OPTIONS:
                changes[f"sweep over {value.value} -> {OLD_OPTIONS[value.value]}"] += 1
                edits.append((value.start_mark.index, value.end_mark.index, OLD_OPTIONS[value.value]))
    return edits


def _is_earlier(plan: Any) -> bool:
    """Whether an old option stands anywhere in a plan, as its name or as what a sweep is over."""
    if isinstance(plan, dict):
        return any(name in OLD_OPTIONS or _is_earlier(value) for name, value in plan.items())
    return plan in OLD_OPTIONS if isinstance(plan, str) else False


def _added(node: yaml.Node, entry: str) -> _Edit:
    """Put an entry in front of those of a mapping, or in the place of nothing."""
    if not isinstance(node, yaml.MappingNode):
        return node.start_mark.index, node.end_mark.index, f" {{{entry}}}"
    if not node.value:  # {}
        return node.end_mark.index - 1, node.end_mark.index - 1, entry
    first = node.value[0][0].start_mark  # not the mapping's own: an anchor or a tag may stand there
    return first.index, first.index, f"{entry}, " if node.flow_style else f"{entry}\n{' ' * first.column}"


def _entry(values: dict[Any, Any], name: str) -> Any:
    return next(value for key, value in values.items() if str(key) == name)


def _option_edits(
    text: str,
    node: yaml.Node | None,
    options: dict[str, Any] | None,
    inherited: dict[str, Any],
    changes: Counter[str],
    as_list: bool = False,
) -> list[_Edit]:
    """What to replace in a mapping: its first old option becomes `terms`, the others go."""
    old = {name: value for name, value in (options or {}).items() if name in OLD_OPTIONS}
    if node is None or not old:
        return []
    specs = _specs(old, changes, {name: value for name, value in inherited.items() if name in OLD_OPTIONS})
    words = [f'"{spec}"' if ":" in spec else spec for spec in specs]
    terms = f"[{', '.join(words)}]" if as_list or len(words) > 1 else words[0]
    first, *others = [
        (key.start_mark.index, value.end_mark.index) for key, value in node.value if key.value in OLD_OPTIONS
    ]
    remove = _without_comma if node.flow_style else _without_line
    return [(*first, f"terms: {terms}"), *(remove(text, *other) for other in others)]


def _without_comma(text: str, start: int, end: int) -> _Edit:
    """Remove an entry of a flow mapping that is not its first, and the comma before it."""
    return text.rindex(",", 0, start), end, ""


def _without_line(text: str, start: int, end: int) -> _Edit:
    """Remove the line of an entry, with a comment that may follow it."""
    line_end = text.find("\n", end)
    return text.rfind("\n", 0, start) + 1, len(text) if line_end < 0 else line_end + 1, ""


if __name__ == "__main__":
    main()
