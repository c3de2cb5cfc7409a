"""Which words of the command line of `distill` are for the teacher, for the student, and for the command itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from hf_icckd.options.command_line import (
    UserError,
    answer_help,
    is_option,
    option_kinds,
    option_names,
    own_words,
    parse_arguments,
    unknown_option,
    with_names,
    yaml_words,
)
from hf_icckd.options.commands import COMMANDS
from hf_icckd.options.distill import NEVER, DistillOptions
from hf_icckd.options.others import name_here
from hf_icckd.options.recipes import RECIPES
from hf_icckd.utils.atomic_files import user_path

PARTS = ("teacher", "student")
# Both parts have it: only its default is another one here.
_OWN = {each.name for each in dataclasses.fields(DistillOptions)} - {"pretrained"}
_OF_WEIGHTS = {"teacher_model", "teacher_weights", "teacher_mean", "teacher_std"}
_OF_ONE_PART = {"control", "hub_model_id", "push_to_hub", "run_name", "start_from"}


class DistillWords(NamedTuple):
    """Words of a command line by what they are for.

    Attributes:
        own: For the command itself.
        teacher: For the teacher's part.
        student: For the student's part.
    """

    own: list[str]
    teacher: list[str]
    student: list[str]


def read_command(argv: list[str] | None = None) -> tuple[DistillOptions, DistillWords]:
    """Read the command line of `distill`: a YAML file or a data set may come first.

    Raises:
        UserError: If an option is unknown or its value is refused.
    """
    argv = own_words() if argv is None else list(argv)
    answer_help("distill", argv)
    names = {part: option_names(RECIPES[part]) for part in PARTS}
    kinds = {part: option_kinds(RECIPES[part]) for part in PARTS}
    of_one = {f"{part}_{name}": kind for part in PARTS for name, kind in kinds[part].items()}
    known = _known(names)
    words = []
    if argv and argv[0].endswith((".yaml", ".yml")):
        words, argv = yaml_words(Path(argv[0]), known), argv[1:]
    own_kinds = option_kinds([DistillOptions])
    all_kinds = of_one | kinds["teacher"] | kinds["student"] | own_kinds
    words += with_names(argv, COMMANDS["distill"].positional, all_kinds)
    _check_known(words, known)
    try:
        own = [word for name, given in _options(words) if name in _OWN for word in given]
        (options,) = parse_arguments([DistillOptions], COMMANDS["distill"].summary, own)
        return options, split_words(words, names, trains_a_teacher(options))
    except ValueError as error:
        raise UserError(error) from error


def trains_a_teacher(options: DistillOptions) -> bool:
    """Whether `--teacher` names an architecture, or nothing, and not a classifier that is trained already.

    Example:
        >>> [trains_a_teacher(DistillOptions(name)) for name in ("resnet18", "me/teacher", "net.pth")]
        [True, False, False]
    """
    name = options.teacher
    weights = (".pth", ".pt", ".pth.tar", ".safetensors")
    return name is None or not ("/" in name or ":" in name or name.endswith(weights) or user_path(name).exists())


def split_words(words: list[str], names: dict[str, set[str]], trained: bool) -> DistillWords:
    """Sort the words of a command line by what they are for.

    An option is for both parts if both have it, for one of them with `teacher_` or `student_` in front.

    Args:
        words: `--option value ...`.
        names: Options of each part.
        trained: Whether a teacher is trained.

    Raises:
        ValueError: If an option is for no part here, or has to be given for each of them.

    Example:
        >>> names = {"teacher": {"seed", "terms"}, "student": {"seed"}}
        >>> split_words(["--student_seed=2", "--seed", "1", "--terms", "none"], names, trained=True)
        DistillWords(own=[], teacher=['--seed', '1', '--terms', 'none'], student=['--seed', '1', '--seed=2'])
    """
    shared, single = DistillWords([], [], []), DistillWords([], [], [])
    for name, given in _options(words):
        part, option = _part_of(name, names, trained)
        first = given[0].replace(name, option, 1)
        if name in _OWN:
            shared.own.extend(given)
        elif part:
            getattr(single, part).extend([first, *given[1:]])
        elif trained and name in _OF_WEIGHTS:
            raise ValueError(f"--{name} is for a teacher that is a file of weights; name the file with --teacher")
        elif name in _OF_ONE_PART:
            raise ValueError(f"--{name} is for one part: give --teacher_{name} or --student_{name}")
        else:
            parts = [part for part in PARTS if name in names[part] and (trained or part == "student")]
            if not parts:
                raise ValueError(_not_trained(name))
            for part in parts:
                getattr(shared, part).extend(given)
    # What is for one part comes last, where it counts.
    return DistillWords(*(before + after for before, after in zip(shared, single, strict=True)))


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option of a command line, without dashes, with its words."""
    starts = [index for index, word in enumerate(words) if is_option(word)]
    for start, end in itertools.pairwise([*starts, len(words)]):
        yield words[start].removeprefix("--").partition("=")[0], words[start:end]


def _part_of(name: str, names: dict[str, set[str]], trained: bool) -> tuple[str, str]:
    """The part that an option is for, empty unless it is one alone, and what it is called there."""
    start, _, option = name.partition("_")
    if start not in PARTS or name in _OWN or option not in names[start] - NEVER.keys():
        return "", name
    if start == "teacher" and not trained:
        if name not in names["student"]:  # as teacher_image_size is, for a teacher that is a file of weights
            raise ValueError(_not_trained(name))
        return "", name
    return start, option


def _not_trained(name: str) -> str:
    return (
        f"--{name} is for a teacher that is trained here, but --teacher names one that teaches as it is; leave out "
        f"--{name}, or name an architecture of timm"
    )


def _known(names: dict[str, set[str]]) -> set[str]:
    """All options, without dashes."""
    prefixed = {f"{part}_{name}" for part in PARTS for name in names[part] - NEVER.keys() - _OWN}
    return {*_OWN, *prefixed, *names["teacher"], *names["student"]} - NEVER.keys()


def _check_known(words: Collection[str], known: set[str]) -> None:
    for name, given in _options(list(words)):
        start, _, plain = name.partition("_")
        if name not in known:
            if name in NEVER or plain in NEVER:
                raise UserError(f"--{name} is no option here: {NEVER.get(name) or NEVER[plain]}")
            of_part = {each.removeprefix(f"{start}_") for each in known if each.startswith(f"{start}_")}
            if start in PARTS and (here := name_here(plain, of_part)):
                raise UserError(f"unknown option --{name}: {here} with {start}_ in front")
            raise UserError(unknown_option(given, {f"--{each}" for each in known}))
