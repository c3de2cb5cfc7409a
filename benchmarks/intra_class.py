"""What the intra-class term costs: a teacher's step with it and without, and the term alone for many classes.

    python benchmarks/intra_class.py --threads 2 --output results/FOLDER

Everything runs in turn in one process, so that a machine that slows down slows all of it. Pixels are random: what they
show does not matter to the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

import torch
import torch.nn.functional as F

from benchmarks.report import format_ratios, machine
from benchmarks.rounds import order
from hf_icckd import ClassEmbeddingCache, IntraClassContrastiveLoss, create_classifier
from hf_icckd.utils.machine import keep_freed_memory

ROWS_PER_CLASS = 32


def alternate(functions: dict[str, Callable[[], None]], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each function in each round; the functions take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):  # the first one warms up
        for index in order(len(functions), number):
            name, function = list(functions.items())[index]
            start = time.perf_counter()
            for _ in range(repeats):
                function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return {name: values[1:] for name, values in seconds.items()}


def batches(num_classes: int, batch_size: int, device: str) -> Iterator[tuple[torch.Tensor, ...]]:
    """Endless batches: two views of random images, their labels and which images they are."""
    generator = torch.Generator().manual_seed(0)
    shape = (8, batch_size, 2, 3, 32, 32)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)
    images = images.permute(0, 1, 2, 4, 5, 3).contiguous().permute(0, 1, 2, 5, 3, 4)  # channels last
    labels = torch.randint(num_classes, shape[:2], generator=generator).to(device)
    sample_ids = torch.randint(50_000, shape[:2], generator=generator).to(device)
    while True:
        yield from zip(images, labels, sample_ids, strict=True)


def teacher_step(architecture: str, num_classes: int, weight: float, batch_size: int, device: str) -> Callable:
    """A training step of a teacher on two views, with a full cache if the term has a weight."""
    torch.manual_seed(0)
    model = create_classifier(architecture, [str(index) for index in range(num_classes)], image_size=32).to(device)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    criterion, cache, data = *term(num_classes, model.embedding_dim, device), batches(num_classes, batch_size, device)

    def step() -> None:
        images, labels, sample_ids = next(data)
        output = model(images.flatten(0, 1))
        loss = F.cross_entropy(output.logits, labels.repeat_interleave(2))
        if weight:
            embeddings = output.embeddings.unflatten(0, (-1, 2))
            logits = output.logits.unflatten(0, (-1, 2))
            terms = criterion(logits, embeddings, labels, sample_ids, cache.lookup(labels))
            loss = loss + weight * terms["intra_class"]
            cache.update(embeddings, labels, sample_ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def term_step(num_classes: int, batch_size: int, dim: int, device: str) -> Callable:
    """The term and its gradient alone, and the update of the cache."""
    criterion, cache = term(num_classes, dim, device)
    data = batches(num_classes, batch_size, device)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(batch_size, 2, dim, generator=generator).to(device).requires_grad_()
    # The gate looks at the logits, which have a column a class; how many there are is not what is measured here.
    logits = torch.randn(batch_size, 2, 100, generator=generator).to(device)

    def step() -> None:
        _, labels, sample_ids = next(data)
        cached = cache.lookup(labels)
        criterion(logits, embeddings, labels % 100, sample_ids, cached)["intra_class"].backward()
        cache.update(embeddings, labels, sample_ids)

    return step


def term(num_classes: int, dim: int, device: str) -> tuple[IntraClassContrastiveLoss, ClassEmbeddingCache]:
    """The criterion without its gate, so that every anchor counts, and a cache that is full."""
    cache = ClassEmbeddingCache(num_classes, ROWS_PER_CLASS, dim).to(device)
    torch.nn.init.normal_(cache.embeddings)
    cache.fill_counts.fill_(ROWS_PER_CLASS)
    return IntraClassContrastiveLoss(gate=False), cache


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar_resnet32x4", help="net of the teacher")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="folder for intra_class.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ratios = {}
    for num_classes in (100, 1000):
        seconds = alternate(
            {
                name: teacher_step(args.model, num_classes, weight, args.batch_size, device)
                for name, weight in (("ce", 0.0), ("intra_class", 0.05))
            },
            args.rounds,
            repeats=4,
        )
        pairs = zip(seconds["ce"], seconds["intra_class"], strict=True)
        ratios[f"teacher step, speed with the term / without, {num_classes} classes"] = [
            ce / ours for ce, ours in pairs
        ]
        median = statistics.median(seconds["intra_class"])
        print(f"{args.model}, {num_classes} classes: {1000 * median:.1f} ms a step with the term")
    seconds = alternate(
        {str(num_classes): term_step(num_classes, args.batch_size, 256, device) for num_classes in (100, 1000, 21841)},
        args.rounds,
        repeats=50,
    )
    for many in ("1000", "21841"):
        pairs = zip(seconds[many], seconds["100"], strict=True)
        ratios[f"term alone, time with {many} classes / with 100"] = [large / small for large, small in pairs]
    print(f"term alone, 100 classes: {1000 * statistics.median(seconds['100']):.2f} ms")
    print(format_ratios(ratios))
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        options = {name: value for name, value in vars(args).items() if name != "output"}
        record = {"options": options, "machine": machine(), "ratios": ratios}
        (args.output / "intra_class.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
