"""A trial of some steps: what a training takes in time and memory, before it begins."""

from __future__ import annotations

import logging
import statistics
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_icckd.runs.checkpoints import size_of
from hf_icckd.training.rehearsal import first_batch, further_state
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.training.untouched import untouched
from hf_icckd.utils import distributed
from hf_icckd.utils.machine import free_memory
from hf_icckd.utils.text import size_text

logger = logging.getLogger(__name__)

_SECONDS, _MOST_STEPS = 2.0, 10
_PART = 8  # of a batch, from which the memory of all of it is estimated
_KERNELS = 1.15  # what torch's kernels take besides, by one process that was killed


class Trial(NamedTuple):
    """What was measured.

    Attributes:
        loading: Seconds to read and augment the images of a batch in one process.
        first_loading: The same for the first time, when copies of large images are made.
        step: Seconds of forward pass, backward pass and optimiser step with a batch.
        evaluation: Seconds to classify one image.
        memory: Bytes of weights, gradients, optimiser state, batch and activations, on the device of the training;
            with an average of the weights, the best ones, and what terms keep.
        checkpoint: Bytes of a checkpoint: weights, optimiser state and what else must survive a resume.
    """

    loading: float
    first_loading: float
    step: float
    evaluation: float
    memory: int
    checkpoint: int


def try_steps(trainer: DistillationTrainer) -> Trial:
    """Train a few steps with the first batch; afterwards the trainer is as before, bit for bit.

    The first step counts what the backward pass keeps, and pays once for memory and kernels: a large net takes several
    times as long for it. The others are timed, one of them if it takes long.

    Raises:
        ValueError: If the device has too little memory for a step.
    """
    with untouched(trainer), torch.compiler.set_stance("force_eager"):
        try:
            return _try(trainer)
        # Not shared with other processes: they may wait for this one in the middle of a step, and end with it.
        except torch.OutOfMemoryError as error:
            rows, times = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
            raise ValueError(
                f"the device has too little memory for a step of {rows} images; take a smaller "
                f"--per_device_train_batch_size and more --gradient_accumulation_steps, such as {rows // 2} and "
                f"{2 * times}, or --bf16 true"
            ) from error


def _try(trainer: DistillationTrainer) -> Trial:
    loading = []
    for _ in range(2):
        start = time.perf_counter()
        batch = trainer._prepare_input(first_batch(trainer, trainer.args.train_batch_size))
        loading.append(time.perf_counter() - start)
    free = free_memory()
    optimizer = trainer.create_optimizer()
    trainer.model.train()
    few = max(2, trainer.args.train_batch_size // _PART)
    if trainer.args.device.type == "cpu" and few < trainer.args.train_batch_size:
        part = trainer._prepare_input(first_batch(trainer, few))
        _warn_of_memory(trainer, _counted(trainer, optimizer, part)[1] / len(part["labels"]), free)
    first, kept = _counted(trainer, optimizer, batch)
    seconds = [first]
    # Terms may gather images, so all processes take the same number of steps: until the slowest has had its time.
    while len(seconds) < 2 or (distributed.any_rank(sum(seconds[1:]) < _SECONDS) and len(seconds) <= _MOST_STEPS):
        seconds.append(_step(trainer, optimizer, batch))
    state = size_of([trainer.model.state_dict(), optimizer.state_dict(), further_state(trainer)])
    gradients = size_of([parameter.grad for parameter in trainer.model.parameters()])
    teacher = getattr(trainer, "teacher", None)
    frozen = 0 if teacher is None else size_of(teacher.state_dict())
    return Trial(
        loading[1],
        loading[0],
        statistics.median(seconds[1:]),
        _evaluation(trainer, batch["pixel_values"][:, 0]) / len(batch["labels"]),
        state + gradients + frozen + size_of(batch) + kept,
        state,
    )


def _counted(
    trainer: DistillationTrainer, optimizer: torch.optim.Optimizer, batch: dict[str, Any]
) -> tuple[float, int]:
    """Seconds of a step, and the bytes that it keeps for the backward pass."""
    kept = _Kept(trainer.model)
    with torch.autograd.graph.saved_tensors_hooks(kept.add, lambda tensor: tensor):
        return _step(trainer, optimizer, batch), kept.bytes


def _warn_of_memory(trainer: DistillationTrainer, of_image: float, free: int) -> None:
    """Warn before a step that may be the last: the system ends a process that takes too much, without a word."""
    rows, times = trainer.args.train_batch_size, trainer.args.gradient_accumulation_steps
    needed = _KERNELS * rows * of_image
    if needed > free:
        logger.warning(
            "a step of %s images takes about %s, and %s are free: the system may end this process; take a smaller "
            "--image_size, or --per_device_train_batch_size %s and --gradient_accumulation_steps %s",
            *(rows, size_text(needed), size_text(free), max(rows // 2, 1), 2 * times),
        )


class _Kept:
    """Counts the memory of tensors that autograd keeps for the backward pass, each once, and not the weights."""

    def __init__(self, model: torch.nn.Module):
        self.bytes = 0
        self._seen = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _step(trainer: DistillationTrainer, optimizer: torch.optim.Optimizer, batch: dict[str, Any]) -> float:
    start = time.perf_counter()
    optimizer.zero_grad()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    optimizer.step()
    _wait(trainer)
    return time.perf_counter() - start


@torch.no_grad()
def _evaluation(trainer: DistillationTrainer, images: Tensor) -> float:
    trainer.classifier.eval()
    start = time.perf_counter()
    trainer.classifier(images)
    _wait(trainer)
    return time.perf_counter() - start


def _wait(trainer: DistillationTrainer) -> None:
    if trainer.args.device.type != "cpu":
        torch.accelerator.synchronize(trainer.args.device)
