"""torchvision's own decoder and its transforms v2 on uint8, in torch's DataLoader, as its documentation advises."""

from __future__ import annotations

import itertools

import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks.arms.common import Spec, TorchvisionImages, device, load_pipeline, main
from benchmarks.arms.meter import Meter
from hf_icckd import ImagePipeline


class DecodedByTorchvision(TorchvisionImages):
    """Views of an image as (V, 3, S, S) float, and its label."""

    views = 1

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        content = torch.frombuffer(bytearray(self.stored[index]), dtype=torch.uint8)
        image = torchvision.io.decode_image(content, torchvision.io.ImageReadMode.RGB)
        return torch.stack([self.transform(image) for _ in range(self.views)]), self.labels[index]


def transform_of(pipeline: ImagePipeline) -> v2.Compose:
    """Our augmentation in the terms of transforms v2."""
    augmentation, size = pipeline.augmentation, pipeline.image_size
    steps = [v2.RandomResizedCrop(size, scale=(augmentation.min_crop_scale, 1.0), antialias=True)]
    if augmentation.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip())
    mean, std = pipeline.channel_statistics()
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def train(spec: Spec, meter: Meter) -> None:
    """Load until the meter stops it."""
    pipeline = load_pipeline(spec)
    dataset = DecodedByTorchvision(pipeline, transform_of(pipeline))
    dataset.views = spec.views
    loader = DataLoader(
        dataset,
        spec.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=spec.workers,
        persistent_workers=spec.workers > 0,
        pin_memory=device().type == "cuda",
    )
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader)):
        images.to(device()).flatten(0, 1)
        meter.step(len(labels))


if __name__ == "__main__":
    main(train, "torch", "torchvision")
