"""Epoch-boundary callback: evaluate and save once, after the last step of an epoch."""

from __future__ import annotations

from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback

from hf_icckd.utils import distributed
from hf_icckd.utils.keyed_random import generator_seed


class EpochBoundaries(TrainerCallback):
    """Does what is due at the end of an epoch once, after its last step, and seeds every step.

    The Trainer evaluates and saves both after the last step of an epoch and at its end. A run that resumes from a
    checkpoint between the two would skip the second, so here everything is done once, at the end.

    Args:
        trainer: The trainer; `steps_per_epoch`, `stop_requested`, `ended` and `stopped_early` are read, `begin_sums`
            and `begin_epoch` called.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self._reset()

    def _reset(self) -> None:
        self.due = {"evaluate": False, "save": False}
        self.stopping = self.cut_short = False

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the sums of the logs."""
        self.trainer.begin_sums()
        self._reset()
        # A checkpoint's state has the intervals of the run that wrote it.
        state.compute_steps(args, state.max_steps)

    def on_epoch_begin(self, args, state, control, train_dataloader, **kwargs):
        """Tell the sampler, and the trainer, which epoch it is."""
        # The Trainer knows only accelerate's samplers, and not which epoch a resume begins with.
        epoch = state.global_step // self.trainer.steps_per_epoch
        train_dataloader.batch_sampler.set_epoch(epoch)
        if not self.trainer.ended:
            control.should_training_stop |= not self.trainer.begin_epoch(epoch)

    def on_step_begin(self, args, state, control, **kwargs):
        """Seed torch's own generator."""
        # Dropout and drop-path draw from torch's generator. What they draw must depend on the step, not on what was
        # drawn before.
        seed = generator_seed(args.seed, state.global_step, args.process_index)
        torch.default_generator.manual_seed(seed)
        if args.device.type != "cpu":  # torch.manual_seed would look for every kind of device in every step
            torch.get_device_module(args.device).manual_seed(seed)

    def on_step_end(self, args, state, control, **kwargs):
        """Put off what is due until the epoch ends, if this is its last step; stop if asked to."""
        if control.should_epoch_stop:
            raise ValueError(
                "a callback set should_epoch_stop, expected should_training_stop: the next epoch would show the same "
                "images again"
            )
        self.stopping = distributed.any_rank(self.trainer.stop_requested)
        control.should_save |= self.stopping
        if state.global_step % self.trainer.steps_per_epoch == 0 or state.global_step >= state.max_steps:
            self.due = {"evaluate": control.should_evaluate, "save": control.should_save}
            control.should_log = control.should_evaluate = control.should_save = False
        elif self.stopping or control.should_training_stop:  # the latter by some other callback
            control.should_training_stop = self.cut_short = True
            control.should_save |= args.save_strategy != "no"

    def on_epoch_end(self, args, state, control, **kwargs):
        """Do what was put off."""
        # If training was cut short, the resumed run will do what is due at the end of this epoch. If it was stopped
        # early, within the epoch, its last checkpoint is written: nothing may be logged that a resumed run would lack.
        if self.cut_short or self.trainer.stopped_early:
            control.should_log = control.should_evaluate = control.should_save = False
            return
        control.should_log = True  # so that an evaluation stands beside the loss of its own epoch
        control.should_evaluate |= self.due["evaluate"]
        control.should_save |= self.due["save"]
        control.should_training_stop |= self.stopping
        self.due = {"evaluate": False, "save": False}
