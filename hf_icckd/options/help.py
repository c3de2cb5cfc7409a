"""Help of the commands as text. Light: nothing here imports torch, so that it comes at once."""

from __future__ import annotations

import copy
import dataclasses
import re
import textwrap
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any

from hf_icckd.options.checks import default_of, type_text
from hf_icckd.options.commands import COMMANDS, Command
from hf_icckd.options.others import name_here
from hf_icckd.utils.text import suggest

WIDTH = 100
_INDENT = 28
HELP_WORDS = ("-h", "--help")


def asks_for_help(words: Iterable[str]) -> bool:
    """Whether a command line asks for help."""
    return any(word in HELP_WORDS for word in words)


def overview() -> str:
    """Help of the console command itself: what there is to do."""
    width = max(map(len, COMMANDS))
    lines = [_wrapped(f"  {name:<{width}}  ", command.summary, width + 4) for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hf-icckd COMMAND [--option value ...]",
            "",
            "Train image classifiers whose soft labels teach, and distil small ones from them.",
            "",
            *lines,
            "",
            "hf-icckd COMMAND --help explains a command, hf-icckd --version prints the version.",
        ]
    )


def command_help(name: str, words: list[str]) -> str:
    """Help of one command.

    Args:
        name: The command.
        words: Its command line. What follows `--help` says how much: nothing for the most used options and the names
            of the others, `all` for every option, names for these options.

    Raises:
        ValueError: If there is no such option.
    """
    command = COMMANDS[name]
    place = next(index for index, word in enumerate(words) if word in HELP_WORDS)
    asked = [word.lstrip("-") for word in words[place + 1 :]]
    if not asked:
        return "\n".join([*_head(name, command), *_short(name, command)])
    groups = dict(_groups(command))
    own = {each.name for each in _fields(command)}
    if command.trainer and not own.issuperset(asked):  # "all" is no option either
        groups |= _of_the_trainer(command.recipes or (name,), own | command.never.keys())
    if asked == ["all"]:
        return "\n".join([*_head(name, command), *_explained(groups)])
    known = {each.name: each for group in groups.values() for each in group}
    asked = [_without_part(option, known, command) for option in asked]
    for option in asked:
        if option in command.never:
            raise ValueError(f"--{option} is no option here: {command.never[option]}")
        if option not in known:
            here = name_here(option, set(known))
            hint = f": {here}" if here else f"{suggest(option, known)}; --help all lists all"
            raise ValueError(f"unknown option --{option}{hint}")
    return "\n".join(_entry(known[option]) for option in asked)


def _head(name: str, command: Command) -> list[str]:
    several = {each.name for each in _fields(command) if _is_list(each)}
    words = [f"[{option.upper()}{' ...' if option in several else ''}]" for option in command.positional]
    yaml = ["[CONFIG.yaml]"] if command.trainer else []
    options = ["[--option value ...]"] if command.options else []
    lines = [" ".join(["usage: hf-icckd", name, *yaml, *words, *options]), "", command.summary]
    if command.recipes:
        prefixes = " or ".join(f"{each}_" for each in command.recipes)
        also = (
            f"An option is for {' and '.join(command.recipes)}; with {prefixes} in front it is for one of them, as in "
        )
        lines += [_wrapped("", f"{also}--{command.recipes[0]}_num_train_epochs 5.", 0)]
    return lines


def _short(name: str, command: Command) -> list[str]:
    known = {each.name: each for each in _fields(command)}
    if not known:
        return []
    lines = ["", "Most used" if len(command.common) < len(known) else "Options"]
    lines += [_entry(known[option]) for option in command.common]
    rest = [
        _wrapped(f"  {title:<{_INDENT - 3}} ", "  ".join(names), _INDENT)
        for title, group in _groups(command)
        if (names := [f"--{each.name}" for each in group if each.name not in command.common])
    ]
    if rest:
        lines += ["", "Further options", *rest, ""]
        lines += [f"hf-icckd {name} --help OPTION ... explains some of them, --help all explains all"]
        lines[-1] += ", those of the\ntransformers Trainer too." if command.trainer else "."
    return lines


def _without_part(option: str, known: dict[str, dataclasses.Field], command: Command) -> str:
    """The name of an option without the recipe that stands in front of it."""
    start, _, rest = option.partition("_")
    return rest if option not in known and start in command.recipes and rest in known else option


def _explained(groups: dict[str, list[dataclasses.Field]]) -> Iterator[str]:
    for title, group in groups.items():
        yield from ("", title, *map(_entry, group))


def _fields(command: Command) -> list[dataclasses.Field]:
    return [each for _, group in _groups(command) for each in group]


def _groups(command: Command) -> Iterator[tuple[str, list[dataclasses.Field]]]:
    """Title and options of each group. A group is a class, or one of its bases that has a title of its own."""
    found: dict[str, dict[str, dataclasses.Field]] = {}
    for each in command.options:
        for option in dataclasses.fields(each):
            if option.name in command.never:
                continue
            owner = next(base for base in each.__mro__ if option.name in vars(base).get("__annotations__", {}))
            # Of an option that two groups have, such as output_dir, the first one's default counts.
            if option.init and not any(option.name in group for group in found.values()):
                found.setdefault(vars(owner)["title"], {})[option.name] = option
    for title, group in found.items():
        yield title, list(group.values())


def _of_the_trainer(recipes: tuple[str, ...], own: set[str]) -> dict[str, list[dataclasses.Field]]:
    """Those options of the transformers Trainer that are not refused; importing them takes seconds."""
    from hf_icckd.options.recipes import RECIPES
    from hf_icckd.options.refused import REFUSED, WITHOUT_EFFECT

    kinds = [kind for name in recipes for kind in RECIPES[name]]
    further = {each.name: each for kind in kinds for each in dataclasses.fields(kind) if each.init}
    taken = [each for option, each in further.items() if option not in own and option not in REFUSED]
    return {
        "Trainer": [_idle(each, WITHOUT_EFFECT[each.name]) if each.name in WITHOUT_EFFECT else each for each in taken]
    }


def _idle(option: dataclasses.Field, reason: str) -> dataclasses.Field:
    """An option that changes nothing, with that as its help in place of what transformers says."""
    idle = copy.copy(option)
    idle.metadata, idle.default = MappingProxyType({"help": f"Changes nothing: {reason}."}), None
    return idle


def _entry(option: dataclasses.Field) -> str:
    head = f"  --{option.name}{_values(option)} "
    text = option.metadata.get("help", "").replace("%%", "%")  # transformers writes it for argparse
    default = None if option.default is dataclasses.MISSING and _required(option) else default_of(option)
    if _required(option):
        text += " Required."
    elif "default:" not in text and default not in (None, False, "", []):
        text += f" [{_shown(default)}]"
    if len(head) <= _INDENT:
        return _wrapped(f"{head:<{_INDENT}}", text, _INDENT)
    return head.rstrip() + "\n" + _wrapped(" " * _INDENT, text, _INDENT)


def _required(option: dataclasses.Field) -> bool:
    return option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING


def _is_list(option: dataclasses.Field) -> bool:
    return type_text(option).startswith("list")


def _values(option: dataclasses.Field) -> str:
    kind = type_text(option)
    if kind.startswith("Literal["):
        return " {" + ",".join(re.findall(r"[\w.-]+", kind.removeprefix("Literal"))) + "}"
    if kind.startswith("bool"):
        return " {true,false}"
    word = option.metadata.get("metavar", option.name.rpartition("_")[2].upper())
    return f" {word}" + (" ..." if _is_list(option) else "")


def _shown(default: Any) -> str:
    value = getattr(default, "value", default)
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(head: str, text: str, indent: int) -> str:
    lines = textwrap.TextWrapper(WIDTH, head, " " * indent, break_on_hyphens=False, break_long_words=False)
    return lines.fill(text)
