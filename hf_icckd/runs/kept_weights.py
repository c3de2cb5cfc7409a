"""Which weights of a run were measured and exported, in words; all functions take what metrics.json holds."""

from __future__ import annotations

from typing import Any

from hf_icckd.metrics.catalogue import METRICS


def kept_in_words(results: dict[str, Any]) -> str | None:
    """A phrase about the measured weights, for the end of a sentence; None if they are those of the last step.

    Example:
        >>> kept_in_words({"kept_weights": {"average": {"decay": 0.99, "warmup": False}, "epoch": 3.0, "epochs": 3.0}})
        'the moving average of the weights (EMA, decay 0.99) after the last epoch'
    """
    kept = results.get("kept_weights")
    if kept is None:
        return None
    average, best = kept.get("average"), kept.get("best")
    text = f"the moving average of the weights ({_average(average)})" if average else "the weights"
    if best is None:
        return f"{text} after the last epoch"
    metric = METRICS[best["metric"]]
    text += (
        f" of epoch {best['epoch']:.4g}, the best of {best['evaluations']} on the validation split "
        f"({metric.name} {metric.show(best['value'])})"
    )
    if best["stopped_after"] is None:
        return text
    return f"{text}. Training stopped early, {_stop(kept)} of {kept['epochs']:.4g}"


def kept_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table about the measured weights; none if they are those of the last step."""
    kept = results.get("kept_weights", {})
    rows = []
    if average := kept.get("average"):
        rows.append(("weights", f"moving average ({_average(average)})"))
    if best := kept.get("best"):
        name = METRICS[best["metric"]].name
        epochs = f"{best['epoch']:.4g} of {kept['epochs']:.4g}"
        rows.append(("epoch that is kept", f"{epochs}, best validation {name} of {best['evaluations']} evaluations"))
        if best["stopped_after"] is not None:
            rows.append(("stopped early", f"{_stop(kept)} of {kept['epochs']:.4g}"))
    return rows


def _average(average: dict[str, Any]) -> str:
    return f"EMA, decay {average['decay']:g}{' after a warm-up' if average['warmup'] else ''}"


def _stop(kept: dict[str, Any]) -> str:
    count = kept["best"]["stopped_after"]
    evaluations = "one evaluation" if count == 1 else f"{count} evaluations"
    return f"after {evaluations} without a better one, at epoch {kept['epoch']:.4g}"
