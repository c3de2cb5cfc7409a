"""What each objective costs over KD: a training step with it, as a ratio, measured in turn in one process.

    python benchmarks/objectives.py --output results/DATE-objectives/cost [--pair resnet32x4-resnet8x4] [--rounds 7]

A step is the teacher's forward pass, forward and backward pass of the student with cross-entropy and the objective,
and an update; images are noise, 32 x 32 pixels, of 100 classes. Each round times every objective for some steps, in
another order; the ratio of a round is over KD in that round, and the table shows the median, smallest and largest. On
a CPU in float32, on a GPU in bf16.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.report import machine
from hf_icckd import OBJECTIVES, create_classifier
from hf_icckd.losses import parse_objectives
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.embedding_teacher import output_shapes
from hf_icckd.options.pairs import PAIRS
from hf_icckd.training.student_checks import made_up_outputs
from hf_icckd.training.student_with_objective import StudentWithObjective
from hf_icckd.utils.machine import best_device

CLASSES, SIZE, IMAGES = 100, 32, 50_000
LIMIT = 1.5  # over KD; whoever is above it says why in docs/objectives.md


class Steps:
    """Training steps of a student with one objective."""

    def __init__(
        self, name: str, teacher: ImageClassifier, student: ImageClassifier, batch: int, progress: float = 0.5
    ):
        objectives = parse_objectives([name])
        maps = "feature_maps" in objectives.teacher_outputs
        objectives.build(output_shapes(student, maps), output_shapes(teacher, maps), seed=0, num_images=IMAGES)
        for objective in objectives:
            objective.tune(lambda: made_up_outputs(teacher))
        self.device = next(teacher.parameters()).device
        layer = teacher.classification_layer if objectives.reads_teacher_layer else None
        self.trained = StudentWithObjective(copy.deepcopy(student), objectives, layer).to(self.device).train()
        self.teacher, self.weights, self.maps = teacher, objectives.term_weights, maps
        self.optimizer = torch.optim.SGD(self.trained.parameters(), lr=0.001, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (batch, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        labels = torch.randint(CLASSES, (batch,), generator=generator)
        ids = torch.randperm(IMAGES, generator=generator)[:batch]
        self.images, self.labels, self.ids = (each.to(self.device) for each in (images, labels, ids))
        self.progress = torch.tensor(0.5, device=self.device)

    def seconds(self, steps: int) -> float:
        """Seconds of some steps."""
        self._wait()
        start = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu"):
                with torch.no_grad():
                    taught = self.teacher(self.images, self.maps)
                output, terms = self.trained(
                    self.images, taught, self.labels, self.ids, self.progress, len(self.labels)
                )
                loss = F.cross_entropy(output.logits.float(), self.labels)
                loss = loss + sum(weight * terms[name] for name, weight in self.weights.items())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Measure, and write cost.json and README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pair", default="resnet32x4-resnet8x4", choices=PAIRS)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps of an objective in a round")
    args = parser.parse_args()
    names = [str(each) for each in range(CLASSES)]
    torch.manual_seed(0)
    teacher, student = (create_classifier(each, names, image_size=SIZE) for each in PAIRS[args.pair])
    device = torch.device(best_device())
    teacher = teacher.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    student = student.to(memory_format=torch.channels_last)
    arms = {name: Steps(name, teacher, student, args.batch_size) for name in OBJECTIVES}
    for arm in arms.values():
        arm.seconds(2)
    rounds = []
    for number in range(args.rounds):
        order = random.Random(number).sample(sorted(arms), len(arms))
        taken = {name: arms[name].seconds(args.steps) for name in order}
        rounds.append({name: taken[name] / taken["kd"] for name in arms})
        print(f"round {number + 1} of {args.rounds}", flush=True)
    ratios = {name: [each[name] for each in rounds] for name in arms}
    args.output.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/objectives.py {' '.join(sys.argv[1:])}"
    record = {"pair": args.pair, "batch_size": args.batch_size, "ratios": ratios, "machine": machine()}
    (args.output / "cost.json").write_text(json.dumps(record | {"command": command}, indent=1) + "\n")
    (args.output / "README.md").write_text(page(record, command))
    print((args.output / "README.md").read_text())


def page(record: dict, command: str) -> str:
    """The table."""
    here = record["machine"]
    lines = [f"# Cost of a step over KD: {record['pair']}, {record['batch_size']} images of {SIZE} pixels", ""]
    lines += ["| objective | median | smallest | largest |", "| --- | ---: | ---: | ---: |"]
    for name, values in record["ratios"].items():
        lines.append(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    above = [name for name, values in record["ratios"].items() if statistics.median(values) > LIMIT]
    lines += ["", f"Above {LIMIT}: {', '.join(above) or 'none'}."]
    lines += ["", f"    {command}", "", f"{here['device']}, {here['cores']} cores, {here['instructions']}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
