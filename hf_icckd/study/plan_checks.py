"""Checks of single entries of a plan: folder names, options of the recipes, teacher terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from hf_icckd.losses import parse_terms
from hf_icckd.options.data import DataArguments
from hf_icckd.options.recipes import defaults
from hf_icckd.study.run import started_from, taught_by
from hf_icckd.study.terms import OLD_OPTIONS, as_specs, from_old_options, short_specs
from hf_icckd.utils.text import suggest

_DATA_OPTIONS = {each.name for each in dataclasses.fields(DataArguments)}
_SET_BY_THE_STUDY = {"seed", "output_dir", "teacher", "teacher_targets_dir", "num_threads", "disable_tqdm"}
_CONVERT = "or run python -m hf_icckd.study.convert on the file"


def check_folder_names(names: Iterable[str]) -> None:
    """Raise ValueError if a name can't be the name of a folder."""
    for name in names:
        if not name or name.startswith(".") or "/" in name:
            raise ValueError(f"name {name!r} can't be the name of a folder; choose one without / and leading dots")


def check_options(recipe: str, where: str, options: dict[str, Any]) -> None:
    """Raise ValueError if a recipe does not have such options, or they belong in another place of the plan.

    Args:
        recipe: `teacher` or `student`.
        where: Key of the plan that holds them. Data options must be in `options`: they are the same for all runs, or
            splits would differ.
        options: The options.
    """
    known = defaults(recipe)
    for name, value in options.items():
        if name not in known:
            close = suggest(name, known)
            raise ValueError(f"{where} has {name!r}{close}, which is not an option of the {recipe} recipe")
        if name in ("fold", "cross_fitted_with"):
            raise ValueError(
                f"{where} has {name!r}, but all runs of a study have the same images; train cross-fitted teachers and "
                "their student with hf-icckd teacher and hf-icckd student"
            )
        if name in _SET_BY_THE_STUDY:
            raise ValueError(f"{where} has {name!r}, which the study itself sets; leave it out")
        if isinstance(value, str) and isinstance(known[name], (int, float)):  # bool is an int
            raise ValueError(
                f"{where} has {name} {value!r}, which is text, expected a value such as {known[name]}, without quotes"
            )
        if name in _DATA_OPTIONS and where != "options":
            raise ValueError(f"{where} has {name!r}, which must be the same for all; put it into options")


def check_terms(where: str, options: dict[str, Any], student: str) -> None:
    """Raise ValueError if terms can't be read, or are written as in earlier versions.

    Args:
        where: Key of the plan that holds the options.
        options: The options.
        student: Architecture that `{student}` stands for.
    """
    if old := {name: value for name, value in options.items() if name in OLD_OPTIONS}:
        names = ", ".join(f"{name} {value!r}" for name, value in old.items())
        specs = short_specs(from_old_options(old))
        new = specs[0] if len(specs) == 1 else specs
        raise ValueError(f"{where} has {names}, now part of terms; write terms: {new}, {_CONVERT}")
    try:
        parse_terms([spec.replace("{student}", student) for spec in as_specs(options.get("terms", "none"))])
    except ValueError as error:
        raise ValueError(f"{where} has wrong terms: {error}") from error


def check_chains(variants: dict[str, dict[str, Any]], teachers: dict[str, dict[str, Any]]) -> None:
    """Raise ValueError if a teacher starts from, or learns from, one that can't be trained before it.

    Args:
        variants: Options of all teachers by name, swept ones included.
        teachers: Those that the plan names.
    """
    for name, options in variants.items():
        start = started_from(options)
        if start is not None and (start not in teachers or started_from(teachers[start])):
            raise ValueError(
                f"teacher {name!r} starts from {start!r}{suggest(start, teachers)}, expected one of the study's "
                "teachers that does not itself start from another"
            )
    for name, options in teachers.items():
        if started_from(options) and taught_by(options):
            raise ValueError(
                f"teacher {name!r} both starts from another teacher and learns from one, expected one of the two; an "
                "assistant starts from scratch or from pretrained weights"
            )
        chain = [name]
        while (above := taught_by(teachers[chain[-1]])) is not None:
            if above not in teachers:
                raise ValueError(
                    f"teacher {chain[-1]!r} learns from {above!r}{suggest(above, teachers)}, expected one of the "
                    f"study's teachers: {', '.join(teachers)}"
                )
            if above in chain:
                raise ValueError(f"teachers learn from one another in a circle: {' from '.join([*chain, above])}")
            chain.append(above)


def check_sweep_option(sweep: str, option: str) -> None:
    """Raise ValueError if a sweep is over an option of earlier versions."""
    if option in OLD_OPTIONS:
        raise ValueError(
            f"sweep {sweep!r} is over {option!r}, now part of terms; write option: {OLD_OPTIONS[option]}, {_CONVERT}"
        )
