"""The table that is printed when a run has finished."""

from __future__ import annotations

from typing import Any

from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.utils.text import format_table


def summary_table(results: dict[str, Any], title: str, split: str = "test") -> str:
    """Return the most important results of a run as a table."""
    measured = results[split]
    rows = [(f"{split} top-1", f"{_shown(measured, 'top1')} ({measured['images']:,} images)")]
    if f"teacher_{split}" in results:
        rows.append(("teacher's top-1", _shown(results[f"teacher_{split}"], "top1")))
        rows.append(("agreement with teacher", _shown(measured, "agreement")))
    rows.append((f"{split} top-5", _shown(measured, "top5")))
    rows.append((f"{split} NLL, ECE", _shown(measured, "nll", "ece")))
    if "distance_ratio" in measured:
        information = _shown(measured, "soft_label_information", "soft_label_information_t4")
        rows.append(("distance ratio (intra / inter)", _shown(measured, "distance_ratio")))
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
        rows.append(("anchors past the gate", f"{results['training']['gated_fraction']:.1%}"))
    cost = results["cost"]
    rows.append(
        ("parameters, FLOPs, latency", f"{cost['parameters']:,}, {cost['flops']:,}, {cost['latency_ms']:.2f} ms")
    )
    return format_table(rows, title)


def _shown(measured: dict[str, float], *names: str) -> str:
    return ", ".join(METRICS[name].show(measured[name]) for name in names)
