"""How a model was trained, in a phrase, and the papers behind it."""

from __future__ import annotations

from typing import Any

from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS, describe_terms, term_arguments
from hf_icckd.losses.class_balance import LOGIT_ADJUSTMENT_CITATION
from hf_icckd.metrics.catalogue import METRICS


def how_trained(method: dict[str, Any] | None) -> str:
    """How a model was trained, in a phrase.

    Args:
        method: Options of its run, or `hf_icckd.runs.records.method_of` them; None if they are not known.
    """
    if not method:
        return "not recorded"
    if method["recipe"] == "student":
        own = [] if method.get("unlabeled_only") else [f"{method['ce_weight']:g} x cross-entropy"]
        text = " + ".join([*own, *(f"`{spec}`" for spec in method["objectives"])])
        if method.get("unlabeled_dataset"):
            text += f", on images without labels{' alone' if method.get('unlabeled_only') else ' too'}"
    else:
        text = " + ".join(["cross-entropy", *describe_terms(method["terms"])])
        text += ", two views" if method["num_views"] == 2 else ", one view"
    if method["label_smoothing"]:
        text += f", label smoothing {method['label_smoothing']:g}"
    if method.get("freeze_backbone"):
        text += ", classification layer only"
    if method.get("model_ema"):
        text += f", moving average of the weights (EMA, decay {method['model_ema_decay']:g})"
    if method.get("load_best_model_at_end"):
        text += f", best epoch by validation {METRICS[method['metric_for_best_model']].name}"
    text += describe_balance(method)
    if method.get("start_from"):
        return f"{text}, from a trained classifier"
    return text + (", from pretrained weights" if method["pretrained"] else "")


def describe_balance(method: dict[str, Any]) -> str:
    """What made up for classes of different sizes, as the end of a phrase; empty if nothing did."""
    if weights := method.get("class_weights"):
        return f", class weights {' '.join(weights)}"
    if factor := method.get("logit_adjustment"):
        return f", logit adjustment {factor:g}"
    return f", {method['sampling'].replace('_', ' ')} sampling" if method.get("sampling", "all") != "all" else ""


def citations(method: dict[str, Any], *earlier: dict[str, Any]) -> list[str]:
    """BibTeX of the methods a run used, then of the methods that earlier runs used.

    Args:
        method: Options of the run, as in `how_trained`.
        *earlier: Options of its teacher and of the classifier that training started from, where they are known.
    """
    if method["recipe"] == "student":
        found = [OBJECTIVES[spec.partition(":")[0]].citation for spec in method["objectives"]]
    else:
        found = [TEACHER_TERMS[name].citation for name in term_arguments(method["terms"])]
    found += [LOGIT_ADJUSTMENT_CITATION] if method.get("logit_adjustment") else []
    for each in earlier:
        found += citations(each)
    return list(dict.fromkeys(filter(None, found)))
