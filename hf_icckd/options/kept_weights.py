"""Options of the weights that a run keeps. Light: nothing here imports torch, so that help comes at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_icckd.options.checks import check_number
from hf_icckd.utils.text import suggest

# What others call metrics of the catalogue.
_ALSO_CALLED = {"loss": "nll", "acc": "top1", "acc1": "top1", "accuracy": "top1", "acc5": "top5", "f1": "macro_f1"}
_READ_BY = {
    "model_ema": ("model_ema_decay", "model_ema_warmup"),
    "load_best_model_at_end": (
        "metric_for_best_model", "greater_is_better", "early_stopping_patience", "early_stopping_threshold",
    ),
    "early_stopping_patience": ("early_stopping_threshold",),
}  # fmt: skip


@dataclass
class KeptWeights:
    """Which weights are measured and exported: those of the last step, unless something else is asked for."""

    title: ClassVar[str] = "Kept weights"

    model_ema: bool = field(
        default=False,
        metadata={"help": "Measure and export an exponential moving average of the weights (timm's ModelEmaV3)."},
    )
    model_ema_decay: float = field(
        default=0.9998, metadata={"help": "Share of the average that stays at each optimiser step."}
    )
    model_ema_warmup: bool = field(
        default=False,
        metadata={"help": "Start with a small decay, as timm does with this option: for runs of few steps."},
    )
    load_best_model_at_end: bool = field(
        default=False,
        metadata={"help": "Keep the weights of the best evaluation; needs a validation split (validation_fraction)."},
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "Metric that says which evaluation is best: top1, top5, balanced_accuracy, macro_f1, "
            "lowest_recall, nll, ece, for students also agreement and kl_to_teacher; default: top1.",
            "metavar": "METRIC",
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many evaluations without a better one; needs load_best_model_at_end."},
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "What an evaluation must gain to count as better for early stopping."}
    )


def check_kept_weights(args: Any, changed: Mapping[str, Any], directions: Mapping[str, bool]) -> None:
    """Check the options, and fill in the metric that decides and its direction.

    Args:
        args: Options of a trainer.
        changed: Those that differ from their defaults.
        directions: Metrics of an evaluation while training, and whether higher is better.

    Raises:
        ValueError: If an option is out of range, unread, or does not go together with another one.
    """
    check_number("model_ema_decay", args.model_ema_decay, 0, 1, exclude_low=True, exclude_high=True)
    check_number("early_stopping_patience", args.early_stopping_patience, 1)
    check_number("early_stopping_threshold", args.early_stopping_threshold, 0, math.inf, exclude_high=True)
    for reader, options in _READ_BY.items():
        if unread := [name for name in options if name in changed and not getattr(args, reader)]:
            raise ValueError(
                f"{unread[0]} is {changed[unread[0]]!r} but {reader} is {getattr(args, reader)!r}, so nothing reads "
                f"it; add --{reader} {'3' if reader.endswith('patience') else 'true'}, or leave it out"
            )
    if args.model_ema and args.sharded:
        raise ValueError(
            "model_ema is true but accelerate was told to use FSDP, expected DDP: an average of sharded weights was "
            "never tried; leave one of them out"
        )
    if args.load_best_model_at_end:
        _check_best(args, directions)


def _check_best(args: Any, directions: Mapping[str, bool]) -> None:
    if getattr(args.eval_strategy, "value", args.eval_strategy) == "no":
        raise ValueError(
            "load_best_model_at_end is true but eval_strategy is 'no', so nothing would be compared; add "
            "--eval_strategy epoch, or leave it out"
        )
    asked = args.metric_for_best_model or "top1"
    metric = asked.removeprefix("eval_")
    if metric not in directions:
        here = _ALSO_CALLED.get(metric)
        hint = f" (here it is {here!r})" if here else suggest(metric, directions)
        raise ValueError(f"metric_for_best_model is {asked!r}, expected one of {', '.join(directions)}{hint}")
    if args.greater_is_better not in (None, directions[metric]):
        better = "higher" if directions[metric] else "lower"
        raise ValueError(
            f"greater_is_better is {args.greater_is_better} but metric_for_best_model is {metric!r}, of which "
            f"{better} values are better; leave it out"
        )
    args.metric_for_best_model, args.greater_is_better = metric, directions[metric]
