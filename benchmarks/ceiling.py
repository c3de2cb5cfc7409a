"""How much of the device a comparison used: floating-point operations of its images against a large matrix product.

    python benchmarks/ceiling.py runs/throughput/student-cifar_resnet20-cifar_resnet8-64-equal.json

Reads a record of `throughput.py` (tasks `student` and `teacher`) on the machine that it was made on. Small nets stay
far below 1: their layers move more memory than they compute. On a GPU float32 means TF32, as it does in convolutions.
Made for GPUs: on a CPU convolutions may come from a faster library than float32 products, and the share passes 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rounds import summary
from hf_icckd import create_classifier

_SIDE = {"cpu": 2048, "cuda": 8192}
_REPEATS = 20


def matmul_flops(dtype: torch.dtype, device: str) -> float:
    """Operations per second of a product of large square matrices; the fastest of some."""
    side = _SIDE[device]
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        torch.mm(one, other)
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side**3 / fastest


def flops_per_image(spec: dict[str, Any]) -> float:
    """Operations of a training step for an image: forward and backward of what is trained, forward of the teacher."""
    size = spec["image_size"] or (32 if spec["teacher"].startswith("cifar_") else 128)
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    names = [str(index) for index in range(100)]  # the head's part is small, whatever the number of classes
    trained = create_classifier(spec["student" if spec["task"] == "student" else "teacher"], names, image_size=size)
    with FlopCounterMode(display=False) as counter:
        trained(images).logits.sum().backward()
        if spec["task"] == "student" and not spec["replay"]:
            with torch.no_grad():
                create_classifier(spec["teacher"], names, image_size=size).eval()(images)
    views = 2 if spec["task"] == "teacher" else 1
    return views * counter.get_total_flops() / len(images)


def main() -> None:
    """Print a line for every arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file of throughput.py")
    args = parser.parse_args()
    record = json.loads(args.record.read_text())
    torch.set_num_threads(record["spec"]["threads"])
    torch.backends.cuda.matmul.allow_tf32 = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceilings = {
        name: matmul_flops(dtype, device) for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))
    }
    print(", ".join(f"{name} matrix product: {flops / 1e12:.2f} TFLOP/s" for name, flops in ceilings.items()))
    for arm in record["arms"]:
        turns = [turn for turn in arm["rounds"] if turn is not None]
        if turns:
            spec = arm["spec"]
            speed = summary([turn["images_per_second"] for turn in turns])["median"]
            used = speed * flops_per_image(spec)
            share = f"{used / ceilings[spec['precision']]:.1%} ({spec['precision']})"
            print(f"{arm['name']:<13} {used / 1e12:.3f} TFLOP/s, {share}")


if __name__ == "__main__":
    main()
