"""Options of fine-tuning: which parameters are trained, and how fast. Light: nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_icckd.options.checks import check_range


@dataclass
class FineTuning:
    """What of a pretrained net is trained, and how fast its layers learn."""

    title: ClassVar[str] = "Fine-tuning"

    freeze_epochs: int = field(
        default=0,
        metadata={
            "help": "Train only the classification layer in this many first epochs: the backbone's weights and "
            "BatchNorm statistics stay as they are."
        },
    )
    freeze_backbone: bool = field(
        default=False,
        metadata={"help": "Train only the classification layer in all epochs, as in a linear probe."},
    )
    layer_decay: float | None = field(
        default=None,
        metadata={
            "help": "Layer-wise decay of the learning rate, as in timm: the last layer learns at learning_rate, each "
            "layer before it at this times the rate of the next; 0.75 is common for ViTs."
        },
    )


def check_fine_tuning(args: Any) -> None:
    """Raise ValueError if options of fine-tuning are out of range or contradict one another.

    Args:
        args: Options of a trainer.
    """
    check_range(args, "freeze_epochs", 0, math.inf)
    check_range(args, "layer_decay", 0, 1, exclude_low=True)
    check_range(args, "warmup_epochs", 0, math.inf)
    if args.warmup_epochs is not None and args.warmup_steps:
        raise ValueError(
            f"warmup_epochs is {args.warmup_epochs} but warmup_steps {args.warmup_steps}, expected one of them; leave "
            "the other out"
        )
    if args.freeze_backbone and args.freeze_epochs:
        raise ValueError(
            f"freeze_epochs is {args.freeze_epochs} but freeze_backbone is true, which freezes in all epochs; leave "
            "one of them out"
        )
    if args.freeze_backbone and args.layer_decay is not None:
        raise ValueError(
            f"layer_decay is {args.layer_decay} but freeze_backbone is true: only one layer is trained; leave one of "
            "them out"
        )
    if args.max_steps <= 0 and args.freeze_epochs >= args.num_train_epochs:
        raise ValueError(
            f"freeze_epochs is {args.freeze_epochs} but num_train_epochs {args.num_train_epochs:g}, expected fewer: "
            "nothing but the classification layer would ever be trained; if that is meant, give --freeze_backbone true"
        )
    if args.freeze_epochs and args.ddp_static_graph:
        raise ValueError(
            f"freeze_epochs is {args.freeze_epochs} but ddp_static_graph is true: what is trained changes; leave one "
            "of them out"
        )


def check_start(args: FineTuning, pretrained: bool, start_from: str | None) -> None:
    """Raise ValueError if the backbone of a net with new weights is to be frozen: there is nothing to keep."""
    if (args.freeze_backbone or args.freeze_epochs) and not pretrained and start_from is None:
        asked = "freeze_backbone is true" if args.freeze_backbone else f"freeze_epochs is {args.freeze_epochs}"
        raise ValueError(
            f"{asked} but the weights are new, so there is nothing to keep; add --pretrained true or --start_from, or "
            "leave it out"
        )


# At batches of 64. The transformer's rate is that of MAE, 5e-4 for 256 images (arXiv 2111.06377, table 9).
_ADAMW = {"optim": "adamw_torch", "weight_decay": 0.05, "decay_norm_and_bias": False, "warmup_steps": 0.1}
_RATES = {("cnn", True): 3e-4, ("transformer", True): 1e-4, ("transformer", False): 5e-4}
# With SGD, as the literature of distillation trains its light nets (RepDistiller, after arXiv 1910.10699).
_LIGHT = {"learning_rate": 0.01}


def defaults_for(kind: str, pretrained: bool) -> dict[str, Any]:
    """Options that suit a kind of net better than the defaults, which are those of CIFAR nets from scratch.

    Pretrained nets and transformers are trained with AdamW, weight decay 0.05 except for norms and biases, and a
    warm-up over a tenth of the training. CNNs from scratch keep SGD; light nets of CIFAR get a lower rate.

    Args:
        kind: cnn, light or transformer.
        pretrained: Whether the net starts from trained weights.

    Example:
        >>> defaults_for("cnn", pretrained=True)["learning_rate"], defaults_for("cnn", pretrained=False)
        (0.0003, {})
    """
    if kind == "light":
        if not pretrained:
            return _LIGHT
        kind = "cnn"
    rate = _RATES.get((kind, pretrained))
    return {} if rate is None else {**_ADAMW, "learning_rate": rate}


def not_given(suitable: Mapping[str, Any], given: Collection[str], schedule: str) -> dict[str, Any]:
    """Those suitable options that fit what the user gave.

    Who chooses an optimiser, by name or by its momentum, chooses its rate too; who chooses a warm-up gets no other.

    Args:
        suitable: What `defaults_for` returned.
        given: Names of the options that the user gave.
        schedule: The chosen schedule; constant has no warm-up.
    """
    if "optim" in given or "momentum" in given:
        return {}
    excluded = {*given}
    if "warmup_epochs" in given or schedule == "constant":
        excluded.add("warmup_steps")
    return {name: value for name, value in suitable.items() if name not in excluded}
