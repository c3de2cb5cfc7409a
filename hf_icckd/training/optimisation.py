"""Groups of parameters, which learn at rates of their own, and the schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.options.schedule import multistep_factor, warmup_steps
from hf_icckd.options.training import DistillationTrainingArguments


def parameter_groups(model: nn.Module, net: nn.Module, args: DistillationTrainingArguments) -> list[dict[str, Any]]:
    """Groups of an optimiser, for all parameters that need a gradient.

    With `layer_decay` the groups of the net are timm's, each with its learning rate. Parameters outside of the net,
    such as those of an objective, learn at the full rate. The group of the last layer is the first one, because the
    Trainer logs its rate.

    Args:
        model: All that is trained.
        net: The timm net in it.
        args: Weight decay and its policy, learning rate and layer decay.

    Reference:
        Layer-wise decay: Clark, Luong, Le, Manning: ELECTRA. ICLR 2020, arXiv 2003.10555; for images: Bao, Dong, Piao,
        Wei: BEiT. ICLR 2022, arXiv 2106.08254.
    """
    if args.layer_decay is None:
        return _groups((each for each in model.parameters() if each.requires_grad), args)
    groups = [
        {
            "params": group["params"],
            "weight_decay": group["weight_decay"],
            "lr": args.learning_rate * group["lr_scale"],
        }
        for group in sorted(_by_layer(net, args, args.layer_decay), key=lambda group: -group["lr_scale"])
    ]
    own = {id(parameter) for parameter in net.parameters()}
    others = [each for each in model.parameters() if each.requires_grad and id(each) not in own]
    return groups + (_groups(others, args) if others else [])


def check_layer_decay(classifier: ImageClassifier, args: DistillationTrainingArguments) -> None:
    """Raise ValueError if the rate is to decay over layers and timm knows only one layer of the net."""
    if args.layer_decay is None or args.layer_decay == 1:
        return
    if len({group["lr_scale"] for group in _by_layer(classifier.net, args, args.layer_decay)}) == 1:
        raise ValueError(
            f"layer_decay is {args.layer_decay} but timm does not divide {classifier.spec.architecture} into layers; "
            "leave it out"
        )


def _by_layer(net: nn.Module, args: DistillationTrainingArguments, decay: float) -> list[dict[str, Any]]:
    # Names of embeddings, which timm's optimisers don't decay either.
    embeddings: Any = getattr(net, "no_weight_decay", tuple)
    return param_groups_layer_decay(
        net,
        weight_decay=args.weight_decay,
        no_weight_decay_list=() if args.decay_norm_and_bias else embeddings(),
        weight_decay_exclude_1d=not args.decay_norm_and_bias,
        layer_decay=decay,
    )


def _groups(parameters: Iterable[nn.Parameter], args: DistillationTrainingArguments) -> list[dict[str, Any]]:
    parameters = list(parameters)
    decayed = [each for each in parameters if args.decay_norm_and_bias or each.ndim > 1]
    undecayed = [each for each in parameters if not args.decay_norm_and_bias and each.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}]
    return groups + ([{"params": undecayed, "weight_decay": 0.0}] if undecayed else [])


def make_schedule(
    args: DistillationTrainingArguments, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
) -> LambdaLR:
    """One of the Trainer's schedules, or multistep if `lr_milestones` is given, after the warm-up of the arguments.

    Args:
        steps: Optimiser steps of the training; with `lr_schedule_epochs` the schedule is longer.
        steps_per_epoch: Optimiser steps in an epoch.
    """
    if args.lr_schedule_epochs is not None:
        steps = round(steps * args.lr_schedule_epochs / args.num_train_epochs)
    warmup = warmup_steps(args, steps, steps_per_epoch)
    if args.lr_milestones is None:
        further: Any = args.lr_scheduler_kwargs  # a dictionary, once transformers has read it
        return get_scheduler(args.lr_scheduler_type, optimizer, warmup, steps, scheduler_specific_kwargs=further)
    milestones = [share * steps for share in args.lr_milestones]

    def factor(step: int) -> float:  # a function: of other callables, checkpoints would hold a state
        return multistep_factor(step, warmup, milestones)

    return LambdaLR(optimizer, factor)
