"""A loop written by hand over the same resident pixels: the limit of what any trainer can reach.

It has what changes the arithmetic of a step (nets, augmentation, losses, precision, layout, compilation, optimiser) in
common with `ours`, and nothing else: no Trainer, no accelerate, no schedule, no logs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.arms.common import (
    INTRA_CLASS_WEIGHT,
    TEMPERATURE,
    Spec,
    autocast,
    classifiers,
    compiled,
    device,
    load_pipeline,
    main,
    sgd,
)
from benchmarks.arms.meter import Meter
from hf_icckd import ClassEmbeddingCache, ImageClassifier, IntraClassContrastiveLoss, knowledge_distillation_loss
from hf_icckd.data.loading import make_loader
from hf_icckd.utils.machine import keep_freed_memory


def train(spec: Spec, meter: Meter) -> None:
    """Train until the meter stops it."""
    keep_freed_memory()  # as ours: without it the system maps the same pages again in every step
    pipeline = load_pipeline(spec, device())
    layout = torch.channels_last if spec.channels_last else torch.contiguous_format
    teacher, student = (net.to(device(), memory_format=layout) for net in classifiers(spec, pipeline))
    if spec.task == "student":
        trained, loss_of = student, distillation(spec, teacher.eval(), student)
    else:
        trained, loss_of = teacher, classification(spec, teacher)
    trained.train()
    optimizer = sgd(trained.parameters())
    dataset = pipeline.dataset("train", training=True, num_views=1 if spec.task == "student" else 2)
    sampler = dataset.batch_sampler(spec.batch_size, spec.seed)
    loader = make_loader(dataset, sampler, spec.workers)
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        for batch in loader:
            images, labels, ids = (
                batch[name].to(device(), non_blocking=True) for name in ("pixel_values", "labels", "sample_ids")
            )
            loss = loss_of(images, labels, ids)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            meter.step(len(labels), loss.detach())


def distillation(spec: Spec, teacher: ImageClassifier, student: ImageClassifier) -> Callable[..., Tensor]:
    """Cross-entropy and distillation; the teacher sees the same pixels."""
    forward, run_teacher = compiled(spec, student), compiled(spec, teacher)

    def loss_of(images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        images = images[:, 0]
        with autocast(spec):
            with torch.no_grad():
                target = run_teacher(images).logits
            if spec.compile:
                target = target.clone()  # a CUDA graph's output lasts until the next graph runs
            logits = forward(images).logits
        logits = logits.float()
        return F.cross_entropy(logits, labels) + knowledge_distillation_loss(logits, target, TEMPERATURE)

    return loss_of


def classification(spec: Spec, net: ImageClassifier) -> Callable[..., Tensor]:
    """Cross-entropy over two views in one forward pass; with the intra-class term if the specification wants it."""
    forward = compiled(spec, net)
    criterion = IntraClassContrastiveLoss()
    cache = ClassEmbeddingCache(len(net.spec.label_names), 32, net.embedding_dim).to(device())

    def loss_of(images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        with autocast(spec):
            output = forward(images.flatten(0, 1))
        logits = output.logits.float()
        loss = F.cross_entropy(logits, labels.repeat_interleave(2))
        if not spec.intra_class:
            return loss
        candidates = output.embeddings.float().unflatten(0, (-1, 2)), labels, ids
        terms = criterion(logits.unflatten(0, (-1, 2)), *candidates, cache.lookup(labels), *candidates)
        cache.update(*candidates)
        return loss + INTRA_CLASS_WEIGHT * terms["intra_class"]

    return loss_of


if __name__ == "__main__":
    main(train, "torch", "timm")
