"""Decode with threads within a loading worker, or with more workers? Images per second, in turns.

    python results/2026-12-01-loaders/threads.py runs/photos-2 --steps 40

The folder is one of `benchmarks/photos.py`. Batches of 16 are loaded at 224 pixels, one view, one thread of torch.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.arms.common import Spec, load_pipeline
from hf_icckd import ImagePipeline
from hf_icckd.data.decoded import CroppedImages
from hf_icckd.data.loading import make_loader
from hf_icckd.utils.machine import keep_freed_memory

BATCH, WARM = 16, 6
one_by_one = CroppedImages._crop


@cache  # of each process: workers are forked before they decode
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2)


def with_threads(self: CroppedImages, images, epoch, pixel_ids, into) -> None:
    boxes = zip(*self._boxes(images, self.augmentation, epoch, pixel_ids), strict=True)

    def crop(row, image, of_image):
        into[row] = image.crops(of_image, self.framing.size, self.framing.interpolation)

    list(pool().map(crop, range(len(images)), images, boxes))


def rate(pipeline: ImagePipeline, workers: int, crop, steps: int) -> float:
    """Images per second after some steps."""
    pool.cache_clear()
    CroppedImages._crop = crop
    dataset = pipeline.dataset("train", training=True)
    sampler = dataset.batch_sampler(BATCH, 0)
    loader, done, start = make_loader(dataset, sampler, workers), 0, 0.0
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        for _ in loader:
            done += 1
            if done == WARM:
                start = time.perf_counter()
            if done == WARM + steps:
                return steps * BATCH / (time.perf_counter() - start)
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(Spec(task="input", dataset=args.photos, image_size=224, batch_size=BATCH))
    keep_freed_memory()
    for number in range(3):
        ways = {
            "two workers": (2, one_by_one),
            "one worker with two threads": (1, with_threads),
            "two workers with two threads": (2, with_threads),
        }
        rates = [f"{name} {rate(pipeline, *way, args.steps):.0f}" for name, way in ways.items()]
        print(f"round {number + 1}: {', '.join(rates)} images per second", flush=True)


if __name__ == "__main__":
    main()
