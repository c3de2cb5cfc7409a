"""Command lines: an optional YAML file, then `--option value` pairs that override it. Errors are one line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from transformers import HfArgumentParser

from hf_icckd.options.checks import type_text
from hf_icckd.options.commands import COMMANDS
from hf_icckd.options.help import asks_for_help, command_help
from hf_icckd.options.others import name_here
from hf_icckd.options.pairs import with_nets
from hf_icckd.options.renamed import RENAMED, new_spelling
from hf_icckd.utils import distributed
from hf_icckd.utils.text import name_encoding_hint, show, suggest
from hf_icckd.utils.yaml_files import read_yaml

logger = logging.getLogger(__name__)

Choose: TypeAlias = Callable[[argparse.Namespace, Collection[str]], Mapping[str, Any]]

DIVERGED = 3  # exit code of a run whose loss or weights are no longer finite


class UserError(SystemExit):
    """Ends the program with one line that says what is wrong and how to fix it."""

    def __init__(self, message: object):
        super().__init__(f"error: {message}")


@contextlib.contextmanager
def readable_errors(place: str = "folder with --output_dir") -> Iterator[None]:
    """End the program with one line for errors that a user can fix; `--log_level debug` shows the traceback.

    Args:
        place: What to choose another of, in the message about a place that can't be written to.
    """
    try:
        yield
    except (ValueError, ImportError) as error:  # ImportError: an optimiser or a logger that is not installed
        logger.debug("the error in full", exc_info=True)
        raise UserError(error) from error
    except FloatingPointError as error:
        logger.debug("the error in full", exc_info=True)
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(DIVERGED) from error
    except RuntimeError as error:
        if "to be installed" in str(error):  # transformers' loggers say it so
            raise UserError(error) from error
        if not distributed.is_lost_connection(error):
            raise
        logger.debug("the error in full", exc_info=True)
        raise UserError(
            f"another process is gone ({' '.join(str(error).split())[:200]}); see what it wrote last; the same "
            "command resumes from the last checkpoint"
        ) from error
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command resumes, from the last checkpoint if there is one\n")
        raise SystemExit(130) from None
    except OSError as error:  # a full disk, a folder that can't be written
        logger.debug("the error in full", exc_info=True)
        raise UserError(f"{error}; fix that, or choose another {place}") from error


class ArgumentParser(HfArgumentParser):
    """HfArgumentParser whose errors are one line instead of a page of usage."""

    def parse_known_args(self, args=None, namespace=None):
        """As argparse; a word that the locale could not decode is an error here and not somewhere later."""
        args = list(sys.argv[1:] if args is None else args)
        for word in args:
            if (hint := name_encoding_hint()) and any("\udc80" <= character <= "\udcff" for character in word):
                self.error(f"{word!r} can't be read: {hint}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse_command(
    name: str, argv: list[str] | None = None, types: list[Any] | None = None, choose: Choose | None = None
) -> tuple[Any, ...]:
    """Read the command line of a command of `hf-icckd`; values of some options need no names.

    Args:
        name: The command.
        argv: Words of the command line; None for `sys.argv`.
        types: Dataclasses of options; None for the command's own.
        choose: As for `parse_arguments`.

    Returns:
        One object of each type.

    Raises:
        UserError: If the file or an option can't be read, or a value is refused.
        SystemExit: If help is asked for, after it was printed.
    """
    command, argv = COMMANDS[name], own_words() if argv is None else list(argv)
    answer_help(name, argv)
    types = list(command.options) if types is None else types
    config = argv[:1] if argv and _is_config(argv[0], command.positional) else []
    words = with_names(argv[len(config) :], command.positional, option_kinds(types))
    return parse_arguments(types, command.summary, config + words, choose)


def answer_help(name: str, argv: list[str]) -> None:
    """Print what a command line asks to be explained, and end the program; nothing if it does not ask.

    Raises:
        UserError: If it asks about an option that is unknown.
    """
    if asks_for_help(argv):
        try:
            show(command_help(name, argv))
        except ValueError as error:
            raise UserError(error) from error
        raise SystemExit(0)


def option_names(types: list[Any]) -> set[str]:
    """Options of a command line, without dashes."""
    options = ArgumentParser(types, add_help=False)._option_string_actions
    return {option.removeprefix("--") for option in options if option.startswith("--")}


def option_kinds(types: list[Any]) -> dict[str, str]:
    """Type of each option as text."""
    return {each.name: type_text(each) for kind in types for each in dataclasses.fields(kind)}


def with_names(argv: list[str], positional: Sequence[str], kinds: dict[str, str]) -> list[str]:
    """Put the names of options in front of the values that stand alone.

    Args:
        argv: Words of a command line.
        positional: Names of the options whose values may stand alone, in this order; one that is a list takes all
            that are left.
        kinds: Types of the options, which say how many values belong to one.

    Raises:
        UserError: If there are more values than names, or an option is given twice.

    Example:
        >>> from hf_icckd.options.commands import PushArguments
        >>> with_names(["--private", "runs/student"], ["folder"], option_kinds([PushArguments]))
        ['--private', '--folder', 'runs/student']
    """
    several = {name for name, kind in kinds.items() if kind.startswith("list")}
    words, values = [], []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not is_option(word):
            values.append(word)
            continue
        words.append(word)
        name, equals, _ = word.removeprefix("--").partition("=")
        most = len(rest) if name in several else 0 if equals else 1
        if kinds.get(name, "").startswith("bool") and rest[:1] and rest[0].lower() not in _BOOLEANS:
            most = 0
        while rest and most and not is_option(rest[0]):
            words.append(rest.pop(0))
            most -= 1
    for name in positional:
        taken = len(values) if name in several else 1
        if values[:taken]:
            if _is_config(values[0], positional):
                raise UserError(f"{values[0]} stands after options; give the YAML file first")
            if f"--{name}" in (word.partition("=")[0] for word in words):
                raise UserError(f"{values[0]!r} is taken as --{name}, which is given too; leave one of them out")
            words += [f"--{name}", *values[:taken]]
            values = values[taken:]
    if values:
        alone = " ".join(map(str.upper, positional))
        expected = f"only {alone} without the name of an option" if alone else "the name of an option in front of it"
        raise UserError(f"{values[0]!r} is one word too many, expected {expected if kinds else 'none'}")
    return words


_BOOLEANS = ("true", "false", "yes", "no", "t", "f", "y", "n", "1", "0")  # those of HfArgumentParser


def _is_config(word: str, positional: Sequence[str]) -> bool:
    """Whether a word is a YAML file of options; that of a study is its description."""
    return word.endswith((".yaml", ".yml")) and "study" not in positional


def is_option(word: str) -> bool:
    """Whether a word of a command line is an option, with one dash or two, and no value."""
    return word.startswith("-") and not re.fullmatch(r"-\d+|-\d*\.\d+", word)  # a negative number, as for argparse


def parse_arguments(
    types: list[Any], description: str, argv: list[str] | None = None, choose: Choose | None = None
) -> tuple[Any, ...]:
    """Read a command line `[CONFIG.yaml] [--option value ...]` into dataclasses.

    Args:
        types: Dataclasses of options.
        description: First line of `--help`.
        argv: Words of the command line; None for `sys.argv`.
        choose: Returns defaults in place of those of the dataclasses, from the values that were read and the names of
            the options that the user gave.

    Returns:
        One object of each type.

    Raises:
        UserError: If the file or an option can't be read, or a value is refused.
    """
    argv = own_words() if argv is None else list(argv)
    usage = "%(prog)s [CONFIG.yaml] [--option value ...]"
    # Without abbreviations: --weight 0 should be an error and not --weight_decay 0.
    parser = ArgumentParser(types, description=description, usage=usage, allow_abbrev=False)
    options = {option for option in parser._option_string_actions if option.startswith("--")}
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = yaml_words(Path(argv[0]), {option.removeprefix("--") for option in options}) + argv[1:]
    try:
        argv = with_nets(argv, types)
        if choose is not None:
            given = {word.removeprefix("--").partition("=")[0] for word in argv if word.startswith("--")}
            parser.set_defaults(**choose(parser.parse_known_args(argv)[0], given))
        *arguments, unknown = parser.parse_args_into_dataclasses(
            argv, look_for_args_file=False, return_remaining_strings=True
        )
    except (ValueError, ImportError) as error:
        raise UserError(error) from error
    if unknown:
        raise UserError(unknown_option(unknown, options))
    return tuple(arguments)


def own_words() -> list[str]:
    """Words of the command line that are meant for this program; Jupyter's kernel has some of its own."""
    program, *words = sys.argv
    return [] if Path(program).name.endswith("kernel_launcher.py") else words


def unknown_option(words: list[str], known: set[str]) -> str:
    """The message about words of a command line that belong to no option."""
    given: dict[str, str | None] = {}
    for word, following in itertools.pairwise([*words, "--"]):
        if word.startswith("--"):
            name, equals, value = word.removeprefix("--").partition("=")
            given[name] = value if equals else None if following.startswith("--") else following
    if "--terms" in known and (spelling := new_spelling(given)):  # a student never had these options
        names = ", ".join(f"--{name}" for name in given if name in RENAMED)
        return f"{names} {'is' if names.count(',') == 0 else 'are'} now written {spelling}"
    word = words[0].partition("=")[0]
    if here := name_here(word.lstrip("-"), {option.removeprefix("--") for option in known}):
        return f"unknown option {word}: {here}"
    return f"unknown option {words[0]}{suggest(words[0], known)}; --help lists all"


def yaml_words(path: Path, known: set[str]) -> list[str]:
    """Options of a YAML file as words of a command line, so that both are checked by the same code."""
    try:
        options = read_yaml(path, "config file") or {}
    except ValueError as error:
        raise UserError(error) from error
    if not isinstance(options, dict):
        raise UserError(f"config file {str(path)!r} holds a {type(options).__name__}, expected `option: value` lines")
    for name in options:
        if name not in known:
            spelling = new_spelling(options) if name in RENAMED and "terms" in known else None
            here = name_here(str(name), known)
            hint = f", which is now written {spelling}" if spelling else f": {here}" if here else None
            hint = suggest(str(name), known) if hint is None else hint
            raise UserError(f"unknown option {name!r} in {str(path)!r}{hint}")
    return option_words(options)


def option_words(options: dict[str, Any]) -> list[str]:
    """Options as words of a command line; None values are left out."""
    words = []
    for name, value in options.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return words


def argument_values(*arguments: Any) -> dict[str, Any]:
    """All options of the dataclasses as plain values for YAML, without secrets."""
    values: dict[str, Any] = {}
    for group in arguments:
        full = group.to_dict() if hasattr(group, "to_dict") else dataclasses.asdict(group)
        values |= {name: value for name, value in full.items() if "token" not in name}
    return values


def set_up_logging(is_main_process: bool = True, debug: bool = False) -> None:
    """Messages of this package go to stderr, from the first process only; libraries warn."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("huggingface_hub").propagate = False  # it writes to stderr itself
    level = logging.DEBUG if debug else logging.INFO
    logging.getLogger("hf_icckd").setLevel(level if is_main_process else logging.ERROR)
