"""What the record of a run says of the weights that were measured and exported."""

from __future__ import annotations

from typing import Any

from hf_icckd.training.trainer import DistillationTrainer


def kept_weights(trainer: DistillationTrainer) -> dict[str, Any]:
    """The entry `kept_weights` of metrics.json; nothing for the weights of the last step.

    Returns:
        `kept_weights` with `average` (`decay`, `warmup`) and `best` (see `BestWeights.record`), each if there is one,
        and the `epoch` at which training ended, of `epochs`.
    """
    record: dict[str, Any] = {}
    if trainer.average is not None:
        record["average"] = {"decay": trainer.average.decay, "warmup": trainer.average.use_warmup}
    state = trainer.state
    if trainer.best is not None and (best := trainer.best.record(state.max_steps, trainer.steps_per_epoch)):
        record["best"] = best
    epochs = state.max_steps / trainer.steps_per_epoch
    return {"kept_weights": record | {"epoch": state.epoch, "epochs": epochs}} if record else {}
