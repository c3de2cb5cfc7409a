"""The table that is printed when a run has finished."""

from __future__ import annotations

import math
from typing import Any

from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.metrics.class_tables import worst_classes, worst_confusions
from hf_icckd.runs.kept_weights import kept_rows
from hf_icckd.utils.text import format_table, percent

_SHOWN_CLASSES = 3
_IMBALANCE = 2  # images of the largest class for one of the smallest, from which on it is worth a line
_LONGEST_NAME = 30


def summary_table(results: dict[str, Any], title: str, split: str = "test") -> str:
    """Return the most important results of a run as a table."""
    measured = results[split]
    rows = [(f"{split} top-1", f"{_shown(measured, 'top1')} ({measured['images']:,} images)")]
    if f"teacher_{split}" in results:
        rows.append(("teacher's top-1", _shown(results[f"teacher_{split}"], "top1")))
        rows.append(("agreement with teacher", _shown(measured, "agreement")))
    if results.get("per_class", {}).get(split, {}).get("classes", math.inf) > 5:  # else it is 100 % of any model
        rows.append((f"{split} top-5", _shown(measured, "top5")))
    rows += _class_rows(results, split)
    rows.append((f"{split} NLL, ECE", _shown(measured, "nll", "ece")))
    if "distance_ratio" in measured:
        rows.append(("distance ratio (intra / inter)", _shown(measured, "distance_ratio")))
    if "soft_label_information" in measured:
        information = _shown(measured, "soft_label_information", "soft_label_information_t4")
        rows.append(("soft-label information, T = 1, 4", f"{information} nats"))
    if "validation" in results and split != "validation":
        rows.append(("validation top-1", _shown(results["validation"], "top1")))
    if "nc1" in results.get("train", {}) and split != "train":
        rows.append(("training top-1, NC1", _shown(results["train"], "top1", "nc1")))
    if "fine_probe" in results and split == "test":
        probe = results["fine_probe"]
        rows.append(
            (
                "finer class, by a linear probe",
                f"{probe['embeddings']:.2f} % from embeddings, {probe['soft_labels']:.2f} % from soft labels "
                f"(chance {probe['chance']:.2f} %)",
            )
        )
    if "gated_fraction" in results.get("training", {}):
        rows.append(("anchors past the gate", percent(results["training"]["gated_fraction"], 1)))
    rows += kept_rows(results)
    cost = results["cost"]
    flops = f"{cost['flops']:,}" if "flops" in cost else "not counted"
    rows.append(("parameters, FLOPs, latency", f"{cost['parameters']:,}, {flops}, {cost['latency_ms']:.2f} ms"))
    return format_table(rows, title)


def _class_rows(results: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """What the mean over images hides; nothing for a run of a version that didn't measure it."""
    if "per_class" not in results:
        return []
    per_class = results["per_class"]
    table = per_class[split]
    rows = [(f"{split} balanced accuracy, macro F1", _shown(results[split], "balanced_accuracy", "macro_f1"))]
    worst = worst_classes(per_class, split, _SHOWN_CLASSES)
    if never := table["zero_recall"]:
        names = ", ".join(_quoted(row.name) for row in worst[:never])
        verb, start = "has" if never == 1 else "have", ", such as" if never > len(worst) else ":"
        text = f"{never:,} of {table['classes']:,} classes {verb} 0 % recall{start} {names}"
        rows.append(("never recognised", text))
    elif worst:
        rows.append(("lowest recall", ", ".join(f"{row.recall:.2f} % ({_quoted(row.name)})" for row in worst)))
    for most in worst_confusions(per_class, split, 1):
        text = f"{_quoted(most.name)} taken for {_quoted(most.predicted)} ({most.images:,} of {most.of:,} images)"
        rows.append(("most frequent mistake", text))
    counted = "train" if "train" in per_class else split
    images = per_class[counted]
    if images["ratio"] >= _IMBALANCE:
        smallest, largest = (
            f"{images[name]['images']:,} ({_quoted(images[name]['class'])})" for name in ("smallest", "largest")
        )
        text = f"{smallest} to {largest}, ratio {images['ratio']:.1f}"
        rows.append((f"{'training' if counted == 'train' else counted} images per class", text))
    return rows


def _quoted(name: str) -> str:
    """Name of a class, shortened, with signs that a terminal would act on shown as escapes."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…")


def _shown(measured: dict[str, float], *names: str) -> str:
    return ", ".join(METRICS[name].show(measured[name]) for name in names)
