"""A run that is asked to become longer or shorter: whether it can, and what to do if not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_icckd.options.schedule import learning_rate, training_steps
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.runs import checkpoints
from hf_icckd.runs.identity import LENGTH


def check_length(
    folder: Path, before: dict[str, Any], args: DistillationTrainingArguments, scheduled: str | None, way: str
) -> None:
    """Raise ValueError unless a run can end at another length as if it had been begun with it.

    It can if no step that was done would have been another: the learning rate of each would be the same, and nothing
    else depends on the length.

    Args:
        folder: Folder of the run, which is not finished.
        before: Its recorded options.
        args: Options of now.
        scheduled: Name of an objective or term that may depend on the share of the run that is done.
        way: What to do instead.
    """
    checkpoint = checkpoints.newest_intact(folder)
    if checkpoint is None:  # nothing has been done that would be kept
        return
    step, steps_per_epoch = checkpoints.position(checkpoint)
    was, now = ({name: values[name] for name in LENGTH} for values in (before, vars(args)))
    asked = f"{str(folder)!r} was begun with {_words(was)}, and {_words(now)} {{}}; {way}"
    if scheduled is not None:
        raise ValueError(
            asked.format(
                f"would have changed its steps: {scheduled} may depend on the share of the run that is "
                "done (its reads_progress is true)"
            )
        )
    rates = [learning_rate(args, each["num_train_epochs"], each["max_steps"], steps_per_epoch) for each in (was, now)]
    for done in range(step):
        first, second = (rate(done) for rate in rates)
        if first != second:
            last, other = (rate(step - 1) for rate in rates)
            raise ValueError(
                asked.format(
                    f"would have changed its learning rate from step {done + 1} on (at step {step}: {last:.4g}, with "
                    f"the new length {other:.4g})"
                )
            )
    ends = [training_steps(each["num_train_epochs"], each["max_steps"], steps_per_epoch) for each in (was, now)]
    if args.load_best_model_at_end and _evaluated_elsewhere(args, step, step in ends, steps_per_epoch):
        raise ValueError(
            asked.format(f"would have chosen among other evaluations than those that were made up to step {step}")
        )
    if ends[1] < step:
        raise ValueError(
            f"{str(folder)!r} was begun with {_words(was)}, and {_words(now)} is already over: it has done {step} "
            f"steps, {steps_per_epoch} in an epoch; give at least that many"
        )


def _evaluated_elsewhere(args: DistillationTrainingArguments, step: int, at_end: bool, steps_per_epoch: int) -> bool:
    """Whether a run of another length may have been evaluated at other steps: a run is after its last step, too."""
    if args.eval_strategy == "epoch":
        return at_end and step % steps_per_epoch > 0
    every = args.eval_steps or 0
    return every < 1 or (at_end and step % every > 0)  # below 1 it is a share of the length


def _words(length: dict[str, Any]) -> str:
    if length["max_steps"] > 0:
        return f"max_steps {length['max_steps']}"
    return f"num_train_epochs {length['num_train_epochs']:g}"
