"""The weights of the best evaluation on a validation split, and when to stop because no better one comes."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor
from transformers.trainer_callback import DefaultFlowCallback, TrainerControl, TrainerState

from hf_icckd.data.splits.words import split_name
from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.utils import distributed

logger = logging.getLogger(__name__)

_COUNTS = ("step", "last_step", "evaluations", "waited")


class BestWeights:
    """Keeps the weights of the best evaluation so far, as part of every checkpoint.

    So the best weights outlive the removal of old checkpoints, and a run resumes from any checkpoint alone. Of equal
    evaluations the first one is best.

    Args:
        args: Options: the metric, its direction, and when to stop early.
        metric: Name of the metric in an evaluation, such as `eval_top1`.
        classifier: The classifier that is measured.

    Attributes:
        value: Best value; None before the first evaluation.
        step: Optimiser steps done at that evaluation.
        last_step: Those done at the last evaluation.
        evaluations: How many there were.
        waited: How many of them have passed since one that counts as better for early stopping.
    """

    def __init__(self, args: DistillationTrainingArguments, metric: str, classifier: ImageClassifier):
        self.args, self.metric, self.classifier = args, metric, classifier
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.value: float | None = None
        self.step = self.last_step = self.evaluations = self.waited = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Whether training has to end, as transformers' `EarlyStoppingCallback` decides it."""
        patience = self.args.early_stopping_patience
        return patience is not None and self.waited >= patience

    def note(self, metrics: dict[str, float], step: int) -> None:
        """Compare an evaluation with the best one; all processes call this, and the first one's value counts."""
        value = distributed.on_first_rank(lambda: float(metrics[self.metric]))
        gain = math.inf if self.value is None else value - self.value
        if self.value is not None and not self.args.greater_is_better:
            gain = -gain
        self.evaluations, self.last_step = self.evaluations + 1, step
        improved = gain > 0 and not math.isnan(value)
        self.waited = 0 if improved and gain > self.args.early_stopping_threshold else self.waited + 1
        if improved:
            self.value, self.step = value, step
            self.keep()

    def keep(self) -> None:
        """Copy the weights as they are."""
        self.weights = {name: value.detach().clone() for name, value in self.classifier.state_dict().items()}

    def restore(self) -> None:
        """Give the classifier the best weights."""
        if self.value is None:
            logger.warning("no evaluation gave a number for %s: the last weights are kept", self.metric)
            return
        metric = METRICS[self.args.metric_for_best_model or ""]
        logger.info(
            "kept: the weights after step %d, the best %s (%s) of %d evaluations",
            self.step, metric.name, metric.show(self.value), self.evaluations,
        )  # fmt: skip
        now = self.classifier.state_dict()
        self.classifier.load_state_dict(
            {name: distributed.shard_like(value, now[name]) for name, value in self.weights.items()}
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors, whole on the first process; all processes call this."""
        weights = distributed.gather_shards(self.weights)
        counts = {name: torch.tensor(getattr(self, name)) for name in _COUNTS}
        value = {} if self.value is None else {"value": torch.tensor(self.value, dtype=torch.float64)}
        return {**counts, **value, **{f"weights.{name}": tensor for name, tensor in weights.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: If a checkpoint of a run that kept its last weights is resumed.
        """
        if not state:
            raise ValueError(
                "load_best_model_at_end is true but the checkpoint does not say which evaluation was best; resume "
                "with the options that it was written with"
            )
        self.value = state["value"].item() if "value" in state else None
        for name in _COUNTS:
            setattr(self, name, int(state[name]))
        prefix = "weights."
        self.weights = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}

    def check_evaluated(self, steps: int, steps_per_epoch: int) -> None:
        """Raise ValueError if no evaluation comes within a training of so many steps."""
        args = self.args
        if args.eval_strategy == "steps":
            every = args.eval_steps or 0.0  # below 1 a share of the steps
            interval = int(every) if every >= 1 else math.ceil(every * steps)
            # Some versions of transformers evaluate after the last step too, whatever the interval.
            state = TrainerState(global_step=steps, max_steps=steps, eval_steps=interval)
            at_the_end = DefaultFlowCallback().on_step_end(args, state, TrainerControl()).should_evaluate
            evaluated = at_the_end or steps // interval * interval >= max(args.eval_delay, 1)
        else:
            evaluated = steps / steps_per_epoch >= args.eval_delay
        if not evaluated:
            raise ValueError(
                f"load_best_model_at_end is true but no evaluation comes in {steps} steps (eval_steps "
                f"{args.eval_steps}, eval_delay {args.eval_delay}); evaluate earlier, for example with "
                "--eval_strategy epoch"
            )

    def record(self, steps: int, steps_per_epoch: int) -> dict[str, Any]:
        """What metrics.json says of the choice, at the end of a run of at most so many steps."""
        if self.value is None:
            return {}
        return {
            "metric": self.args.metric_for_best_model,
            "value": self.value,
            "step": self.step,
            "epoch": self.step / steps_per_epoch,
            "evaluations": self.evaluations,
            "stopped_after": self.waited if self.stopped and self.last_step < steps else None,
        }


def best_weights(
    args: DistillationTrainingArguments, eval_dataset: Any, classifier: ImageClassifier
) -> BestWeights | None:
    """What the options ask for; None if the last weights are kept.

    Args:
        args: Options.
        eval_dataset: Data set for evaluation, or several by name. One is for validation if its name says so; the only
            one, if it is such a split of an `ImagePipeline` or of a `datasets.Dataset`.
        classifier: The classifier that is measured.

    Raises:
        ValueError: If no data set, or more than one, is for validation.
    """
    if not args.load_best_model_at_end:
        return None
    several = isinstance(eval_dataset, dict)
    names = [name for name in eval_dataset if _is_validation(name)] if several else []
    if not several and any(_is_validation(getattr(eval_dataset, name, None)) for name in ("split_name", "split")):
        return BestWeights(args, f"eval_{args.metric_for_best_model}", classifier)
    if len(names) == 1:
        return BestWeights(args, f"eval_{names[0]}_{args.metric_for_best_model}", classifier)
    if names:
        raise ValueError(
            f"load_best_model_at_end is true but {' and '.join(names)} are for validation, expected one data set to "
            "choose by; call the others something else"
        )
    raise ValueError(
        "load_best_model_at_end is true but the run is not evaluated on a validation split: the last epoch is what is "
        "kept and reported, the best one on test data flatters; add --validation_fraction 0.1 (from Python: "
        "eval_dataset={'validation': data}), or leave it out"
    )


def _is_validation(name: Any) -> bool:
    found = split_name(str(name)) if name else None
    return found is not None and found.role == "validation"
