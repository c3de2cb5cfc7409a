"""Licences that a model inherits: of its teacher, of the weights it started from, and of what those came from."""

from __future__ import annotations

import logging
from typing import Any

from hf_icckd.models.licences import model_title, stated_licence, terms_of
from hf_icckd.runs.records import read_options, recorded_metrics, teachers_of
from hf_icckd.utils import distributed

logger = logging.getLogger(__name__)
_START = "start weights"


def inherited_licences(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Licences of the models that a run learns or starts from, the nearest first, as metrics.json holds them.

    Args:
        options: Options of the run, as in all_args.yaml.

    Returns:
        For each model what it is to the run (`of`), its name (`model`) and the identifier of its licence (`licence`),
        None if none is stated. `run` is true for a run of this package that was given none.

    Example:
        >>> inherited_licences({"model": "convnextv2_atto.fcmae_ft_in1k", "pretrained": True})
        [{'of': 'start weights', 'model': 'convnextv2_atto.fcmae_ft_in1k', 'licence': 'cc-by-nc-4.0'}]
    """
    found: list[dict[str, Any]] = []
    for role, name in _models(options):
        licence = stated_licence(name)
        own_run = {"run": True} if licence is None and read_options(name) else {}
        found.append({"of": role, "model": model_title(name), "licence": licence, **own_run})
        found += [{**each, "of": f"{possessive(role)} {each['of']}"} for each in _inherited_by(name)]
    return found


def _models(options: dict[str, Any]) -> list[tuple[str, str]]:
    """Role and name of each model that a run reads."""
    found = list(teachers_of(options).items())
    if options.get("start_from"):
        found.append((_START, options["start_from"]))
    elif options.get("pretrained"):
        found.append((_START, options["model"]))
    return found


def _inherited_by(name: str) -> list[dict[str, Any]]:
    """What a model inherits itself, as its run recorded it."""
    recorded = recorded_metrics(name).get("licences")
    if recorded is not None:
        return recorded
    options = read_options(name)  # of a run before 0.3, whose teacher may lie elsewhere by now
    elsewhere = {"teacher": None, "ensemble_with": None, "cross_fitted_with": None, "start_from": None}
    return inherited_licences(options | elsewhere) if options else []


def possessive(role: str) -> str:
    """A role with 's or ', as in `the teacher's`."""
    return f"{role}'" if role.endswith("s") else f"{role}'s"


def licence_notes(inherited: list[dict[str, Any]], own: str | None) -> list[str]:
    """A sentence or two for each inherited licence that may forbid commercial use, or that nobody stated.

    Args:
        inherited: From `inherited_licences`.
        own: Licence of the model itself; None if none was given.
    """
    notes = []
    for each in inherited:
        licence, terms = each["licence"], terms_of(each["licence"])
        of = f"the {each['of']} ({each['model']})"
        if terms == "non-commercial":
            note = f"The licence of {of} is {licence}, which forbids commercial use; that may bind this model too."
            if own is not None and terms_of(own) != "non-commercial":
                note += f" The licence given to this model, {own}, allows more than that."
            notes.append(note)
        elif licence is None and each.get("run"):
            notes.append(
                f"No licence was given to the {each['of']} ({each['model']}), a run of hf_icckd: whoever did that run "
                "decides whether this model may be used commercially."
            )
        elif licence is None:
            notes.append(f"No licence is stated for {of}, so whether it allows commercial use is not known.")
        elif terms == "unclear":
            notes.append(f"The licence of {of} is {licence}: read its terms before you use this model commercially.")
    return notes


def warn_of_licences(options: dict[str, Any]) -> None:
    """Log what `licence_notes` says of a run, before it trains; on the first process.

    A run on this machine without a licence is not worth a warning: mostly it is the user's own. The card says so.
    """
    if distributed.rank() != 0:
        return
    worth = [each for each in inherited_licences(options) if not each.get("run")]
    for note in licence_notes(worth, options.get("license")):
        logger.warning("%s", note)
