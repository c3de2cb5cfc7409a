"""Wall time of a training."""

from __future__ import annotations

import time

from transformers.trainer_callback import TrainerCallback


class Stopwatch(TrainerCallback):
    """Measures the training of this session.

    Attributes:
        first_step: Optimiser steps that were done before this session.
        seconds: Wall time of training.
    """

    def __init__(self) -> None:
        self.first_step, self.seconds, self._start = 0, 0.0, time.perf_counter()

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Start the clock."""
        self.first_step, self._start = state.global_step, time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self._start
