"""Callback that keeps a backbone frozen, for the first epochs or for good."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor
from transformers.trainer_callback import TrainerCallback

from hf_icckd.models.freezing import backbone_parameters, freeze, thaw

logger = logging.getLogger(__name__)


class FrozenBackbone(TrainerCallback):
    """Freezes the backbone for `freeze_epochs`, or for good with `freeze_backbone`.

    Optimiser and schedule stay one: parameters without gradient are passed over, so their momentum begins with zero.
    What is frozen depends on the epoch alone, and so does a run that resumes.

    Args:
        trainer: The trainer; `classifier`, `args` and `steps_per_epoch` are read.

    Raises:
        ValueError: If the classification layer can't be separated.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        epochs = trainer.args.freeze_epochs
        frozen = sum(each.numel() for each in backbone_parameters(trainer.classifier))
        trained = sum(each.numel() for each in trainer.model.parameters()) - frozen
        when = "" if trainer.args.freeze_backbone else f" for {epochs} epoch(s)"
        logger.info(
            "the backbone is frozen%s: %s of %s parameters are trained", when, f"{trained:,}", f"{trained + frozen:,}"
        )
        if trainer.args.freeze_backbone:  # before DDP looks for what is trained
            freeze(trainer.classifier)

    def on_train_begin(self, args, state, control, **kwargs):
        """Warn if the training ends while the backbone is frozen."""
        if state.max_steps <= args.freeze_epochs * self.trainer.steps_per_epoch:
            logger.warning("the training ends before the backbone thaws: only the classification layer is trained")

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Freeze or thaw, by the number of the epoch."""
        if args.freeze_backbone:
            return
        epoch = state.global_step // self.trainer.steps_per_epoch
        if epoch < args.freeze_epochs:
            freeze(self.trainer.classifier)
            return
        if epoch == args.freeze_epochs:
            logger.info("from epoch %d on, all layers are trained", epoch + 1)
        thaw(self.trainer.classifier)

    def on_train_end(self, args, state, control, **kwargs):
        """Leave a net of which all is trained, whenever the training ended."""
        if not args.freeze_backbone:
            thaw(self.trainer.classifier)


def check_trains(terms: dict[str, Tensor], weights: dict[str, float]) -> None:
    """Raise ValueError if a weighted term trains nothing, since all that it compares is frozen for good."""
    idle = [name for name, weight in weights.items() if weight and not terms[name].requires_grad]
    if idle:
        raise ValueError(
            f"freeze_backbone is true but {idle[0]} reads nothing of the classification layer, so it would train "
            "nothing; choose terms or objectives without it, such as --terms none"
        )
