"""What benchmarks show: where they ran, ratios as lines, a comparison as a table and as a chart."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.rounds import summary
from hf_icckd.utils.machine import cores

_LIMIT = 1.02  # ours over the bare loop; above it the bare loop is not the limit it should be


def table(record: dict[str, Any]) -> str:
    """Speed, ratio, memory, loss and settings of every arm, as text."""
    spec, machine = record["spec"], record["machine"]
    nets = f"{spec['teacher']} to {spec['student']}" if spec["task"] == "student" else spec["teacher"]
    lines = [
        f"{spec['task']}, {nets}, {spec['dataset']}, batch {spec['batch_size']}, setting {record['setting']}",
        f"{machine['device']}, {machine['cores']} cores, {spec['threads']} threads, {record['date']}",
        "",
    ]
    ratios = {row["other"]: row for row in record["comparisons"]}
    rows = [("arm", "images/s (min to max)", f"{record['base']} / arm", "memory", "loss", "how")]
    for arm in record["arms"]:
        turns = [turn for turn in arm["rounds"] if turn is not None]
        if not turns:
            rows.append((arm["name"], "failed", "", "", "", ""))
            continue
        speed, ratio = summary([turn["images_per_second"] for turn in turns]), ratios.get(arm["name"])
        memory = max(turn["peak_memory_bytes"] or 0 for turn in turns)
        loss = turns[-1]["loss"]
        rows.append(
            (
                arm["name"],
                f"{speed['median']:,.0f} ({speed['min']:,.0f} to {speed['max']:,.0f})",
                f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else "",
                f"{memory / 2**20:,.0f} MiB" if memory else "unknown",
                "unknown" if loss is None else f"{loss:.3f}",
                how(arm["spec"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    further = {f"{row['base']} / {row['other']}": row["ratios"] for row in record["further"]}
    lines += ["", format_ratios(further)] if further else []
    for row in record["comparisons"] + record["further"]:
        # The loop with the same arithmetic; an arm that has no teacher to run is not compared with it.
        if row["other"] == row["base"].replace("ours", "bare") and row["median"] > _LIMIT:
            lines += ["", f"The bare loop is no limit: {row['base']} is {row['median']:.2f} times as fast; fix it."]
    lines += [f"\n{arm['name']} failed: {arm['error']}" for arm in record["arms"] if arm["error"]]
    lines += [f"\n{name} left out: {reason}" for name, reason in record["left_out"].items()]
    return "\n".join(lines)


def how(spec: dict[str, Any]) -> str:
    """The settings in which arms differ."""
    layout = "channels last" if spec["channels_last"] else "contiguous"
    compiled = [f"compiled ({spec['compile']})"] if spec["compile"] else []
    tuned = ["allocator tuned"] if spec["keep_memory"] else []
    return ", ".join([spec["precision"], layout, f"{spec['workers']} workers", *compiled, *tuned])


def machine() -> dict[str, Any]:
    """What everything ran on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []  # not Linux
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "cpu": cpu,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "system": platform.system(),
    }


def format_ratios(ratios: dict[str, list[float]]) -> str:
    """A line for each: median, minimum and maximum of the rounds."""
    width = max(map(len, ratios))
    summaries = {name: summary(values) for name, values in ratios.items()}
    return "\n".join(
        f"{name:<{width}}  {each['median']:.3f} ({each['min']:.3f} to {each['max']:.3f})"
        for name, each in summaries.items()
    )


def chart(record: dict[str, Any], file: Path) -> None:
    """A bar for every arm that ran: median of the rounds, whiskers from the slowest to the fastest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    speeds = {
        arm["name"]: summary([turn["images_per_second"] for turn in arm["rounds"] if turn is not None])
        for arm in record["arms"]
        if any(arm["rounds"])
    }
    names = sorted(speeds, key=lambda name: speeds[name]["median"])
    medians = [speeds[name]["median"] for name in names]
    below = [speeds[name]["median"] - speeds[name]["min"] for name in names]
    above = [speeds[name]["max"] - speeds[name]["median"] for name in names]
    ratios = {row["other"]: row["median"] for row in record["comparisons"]}

    # An opaque background that is neither white nor black, so that the chart can stand on pages of both kinds.
    figure, axis = plt.subplots(figsize=(7, 1.5 + 0.45 * len(names)), layout="constrained", facecolor="#eeeeea")
    axis.set_facecolor("#eeeeea")
    colors = ["#1f5a93" if name.startswith("ours") else "#8a8a85" for name in names]
    axis.barh(names, medians, xerr=(below, above), color=colors, ecolor="#222222", capsize=3, height=0.65)
    for place, name in enumerate(names):
        note = f"  {medians[place]:,.0f}" + (f"  ({record['base']} is {ratios[name]:.2f}x)" if name in ratios else "")
        axis.text(speeds[name]["max"], place, note, va="center", fontsize=8, color="#222222")
    spec, rounds = record["spec"], len(record["arms"][0]["rounds"])
    nets = f"{spec['teacher']} to {spec['student']}" if spec["task"] == "student" else spec["teacher"]
    axis.set_xlim(0, 1.45 * max(speeds[name]["max"] for name in names))
    axis.set_xlabel(f"training images per second; median, minimum and maximum of {rounds} rounds")
    axis.set_ylabel("arm")
    axis.set_title(f"{nets}, batch {spec['batch_size']}, {record['setting']} setting", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    plt.close(figure)
