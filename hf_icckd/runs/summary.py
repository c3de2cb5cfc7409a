"""The table that a person sees when a run has finished."""

from __future__ import annotations

from typing import Any

from hf_icckd.utils.text import format_table


def summary_table(results: dict[str, Any], title: str, split: str = "test") -> str:
    """The figures a person looks at first."""
    figures = results[split]
    rows = [(f"{split} top-1", f"{figures['top1']:.2f} % ({figures['images']:,} images)")]
    if f"teacher_{split}" in results:
        rows.append(("teacher's top-1", f"{results[f'teacher_{split}']['top1']:.2f} %"))
        rows.append(("agreement with teacher", f"{figures['agreement']:.2f} %"))
    rows.append((f"{split} top-5", f"{figures['top5']:.2f} %"))
    rows.append((f"{split} NLL, ECE", f"{figures['nll']:.4f}, {figures['ece']:.4f}"))
    if "distance_ratio" in figures:
        information = [figures["soft_label_information"], figures["soft_label_information_t4"]]
        rows.append(("distance ratio (intra / inter)", f"{figures['distance_ratio']:.4f}"))
        rows.append(("soft-label information, T = 1, 4", "{:.4f}, {:.4f} nats".format(*information)))
    if "validation" in results and split != "validation":
        rows.append(("validation top-1", f"{results['validation']['top1']:.2f} %"))
    if "nc1" in results.get("train", {}) and split != "train":
        rows.append(("training top-1, NC1", f"{results['train']['top1']:.2f} %, {results['train']['nc1']:.4f}"))
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
