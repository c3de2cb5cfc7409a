"""The learning rate at a step, for what must be known about a schedule before there is a trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import get_scheduler

from hf_icckd.options.training import DistillationTrainingArguments


def multistep_factor(step: int, warmup: int, milestones: Sequence[float]) -> float:
    """Factor of a multistep schedule: linear warm-up, then a tenth after each milestone, given in steps."""
    return step / max(warmup, 1) if step < warmup else 0.1 ** sum(step >= milestone for milestone in milestones)


def steps_in_epoch(batches: int, args: DistillationTrainingArguments) -> int:
    """Optimiser steps in an epoch of so many batches."""
    return math.ceil(batches / args.gradient_accumulation_steps)


def training_steps(epochs: float, max_steps: int, steps_per_epoch: int) -> int:
    """Optimiser steps of a whole run; `max_steps` counts if it is above 0."""
    return max_steps if max_steps > 0 else math.ceil(epochs * steps_per_epoch)


def warmup_steps(args: DistillationTrainingArguments, steps: int, steps_per_epoch: int) -> int:
    """Steps of linear warm-up.

    Args:
        steps: Length of the schedule.
        steps_per_epoch: Optimiser steps in an epoch.
    """
    if args.warmup_epochs is None:
        return args.get_warmup_steps(steps)
    return round(args.warmup_epochs * steps_per_epoch)


def learning_rate(
    args: DistillationTrainingArguments, epochs: float, max_steps: int, steps_per_epoch: int
) -> Callable[[int], float]:
    """Learning rate as a function of the step, for a run of another length than `args` say.

    Args:
        epochs: Passes over the training split.
        max_steps: Optimiser steps of the whole run; at most 0 to go by the epochs.
        steps_per_epoch: Optimiser steps in an epoch.
    """
    steps = training_steps(epochs, max_steps, steps_per_epoch)
    if args.lr_schedule_epochs is not None:
        steps = round(steps * args.lr_schedule_epochs / epochs)
    warmup = warmup_steps(args, steps, steps_per_epoch)
    if args.lr_milestones is not None:
        milestones = [share * steps for share in args.lr_milestones]
        return lambda step: args.learning_rate * multistep_factor(step, warmup, milestones)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    further: Any = args.lr_scheduler_kwargs  # a dictionary, once transformers has read it
    schedule = get_scheduler(args.lr_scheduler_type, optimizer, warmup, steps, scheduler_specific_kwargs=further)
    (factor,) = schedule.lr_lambdas
    return lambda step: args.learning_rate * factor(step)


def check_schedule(args: DistillationTrainingArguments) -> None:
    """Raise ValueError if the schedule can't be made of its arguments; training would find out."""
    try:
        learning_rate(args, args.num_train_epochs, args.max_steps, steps_per_epoch=1)(0)
    except (TypeError, ValueError) as error:
        kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        raise ValueError(
            f"lr_scheduler_kwargs is {args.lr_scheduler_kwargs!r}, expected what lr_scheduler_type {kind!r} takes: "
            f"{error}"
        ) from error


def set_learning_rates(optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR) -> None:
    """Set those of the next step. A checkpoint holds them too, as they were for the length that its run had then."""
    for group, rate, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = rate * factor(schedule.last_epoch)
