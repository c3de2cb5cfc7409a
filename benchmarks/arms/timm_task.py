"""timm's own tasks and loader, driven as timm's train.py drives them.

`LogitDistillationTask` (`--kd-model-name`, `--kd-distill-type logit`) for the student, `ClassificationTask` for the
teacher; `create_loader` with its prefetcher, which collates uint8 and normalises batches on the device. The flags
behind the options are `--amp --amp-dtype bfloat16`, `--channels-last`, `--torchcompile`, `-j`. The body of the loop
follows `train_one_epoch`: among it the loss is read at every step (`losses_m.update(loss.item(), ...)`).
"""

from __future__ import annotations

import itertools
import logging
import time

import torch
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask, LogitDistillationTask
from timm.utils import AverageMeter
from torch import nn
from torchvision import transforms

from benchmarks.arms.common import (
    FOREVER,
    LEARNING_RATE,
    LOG_EVERY,
    MOMENTUM,
    TEMPERATURE,
    WEIGHT_DECAY,
    Spec,
    TorchvisionImages,
    TwoViews,
    autocast,
    device,
    load_pipeline,
    main,
    nets,
)
from benchmarks.arms.meter import Meter
from hf_icckd import ImagePipeline

logger = logging.getLogger("train")


def train(spec: Spec, meter: Meter) -> None:
    """Train until the meter stops it."""
    logging.basicConfig(level=logging.INFO)
    torch.backends.cudnn.benchmark = True  # as train.py
    pipeline = load_pipeline(spec)
    if spec.task == "input":
        for _, target in itertools.chain.from_iterable(itertools.repeat(training_loader(spec, pipeline))):
            meter.step(len(target) // spec.views)
    teacher, student = nets(spec, pipeline)
    if spec.task == "student":
        model = student
        task = LogitDistillationTask(
            student,
            teacher,
            criterion=nn.CrossEntropyLoss(),
            distill_loss_weight=1.0,
            task_loss_weight=1.0,
            temperature=TEMPERATURE,
            device=device(),
        )
    else:
        model = teacher
        task = ClassificationTask(teacher, criterion=nn.CrossEntropyLoss(), device=device())
    # timm's `sgd` is Nesterov's, and by default it spares normalisation and biases from decay: as in all arms instead.
    optimizer = create_optimizer_v2(
        model, "momentum", LEARNING_RATE, WEIGHT_DECAY, momentum=MOMENTUM, filter_bias_and_bn=False
    )
    if spec.compile:
        task.compile(mode=spec.compile)
    loader = training_loader(spec, pipeline)
    scheduler, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=FOREVER, updates_per_epoch=len(loader))
    for epoch in itertools.count():
        train_one_epoch(spec, epoch, task, loader, optimizer, scheduler, meter)
        scheduler.step(epoch + 1)


def training_loader(spec: Spec, pipeline: ImagePipeline):
    """timm's training loader with our augmentation."""
    mean, std = pipeline.channel_statistics()
    augmentation, size = pipeline.augmentation, pipeline.image_size
    loader = create_loader(
        TorchvisionImages(pipeline),
        (3, size, size),
        spec.batch_size,
        is_training=True,
        scale=(augmentation.min_crop_scale or 1.0, 1.0),
        hflip=0.5 if augmentation.horizontal_flip else 0.0,
        color_jitter=None,
        interpolation="bilinear",
        mean=mean,
        std=std,
        num_workers=spec.workers,
        pin_memory=device().type == "cuda",
        device=device(),
    )
    if augmentation.crop_padding is not None:
        # timm has no crop with padding; torchvision's takes the place of the random resized crop.
        loader.dataset.transform.transforms[0] = transforms.RandomCrop(size, padding=augmentation.crop_padding)
    if spec.views == 2:
        loader.dataset.transform = TwoViews(loader.dataset.transform)  # timm's collation takes views apart
    return loader


def train_one_epoch(spec: Spec, epoch: int, task, loader, optimizer, scheduler, meter: Meter) -> None:
    """An epoch as in timm's train.py, without what is off by default."""
    update_time, data_time, losses = AverageMeter(), AverageMeter(), AverageMeter()
    task.train()
    if spec.task == "student":
        task.teacher.eval()  # the task of timm 1.0.29 leaves this out, and the teacher takes the batch's statistics
    updates = epoch * len(loader)
    optimizer.zero_grad()
    update_start = data_start = time.time()
    for index, (images, target) in enumerate(loader):
        if spec.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        data_time.update(time.time() - data_start)
        with autocast(spec):
            loss = task(images, target)["loss"]
        loss.backward()  # no loss scaler with bfloat16
        optimizer.step()
        losses.update(loss.item(), images.size(0))
        updates += 1
        optimizer.zero_grad()
        now = time.time()
        update_time.update(now - update_start)
        update_start = now
        if index % LOG_EVERY == 0:
            logger.info(
                f"Train: {epoch} [{index}/{len(loader)}] Loss: {losses.val:#.3g} ({losses.avg:#.3g}) "
                f"Time: {update_time.val:.3f}s ({update_time.avg:.3f}s) LR: {optimizer.param_groups[0]['lr']:.3e} "
                f"Data: {data_time.val:.3f} ({data_time.avg:.3f})"
            )
        scheduler.step_update(num_updates=updates, metric=losses.avg)
        # Two views of an image come as two images.
        meter.step(len(target) // spec.views, losses.val)
        data_start = time.time()


if __name__ == "__main__":
    main(train, "torch", "torchvision", "timm")
