"""Progress of a training: one bar, and one line per evaluation."""

from __future__ import annotations

import contextlib
from typing import Any

from tqdm.auto import tqdm
from transformers.trainer_callback import TrainerCallback

from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.utils.progress_bars import progress_bar
from hf_icckd.utils.text import printable

_OF_CLASSES = ("balanced_accuracy", "lowest_recall")
_SHOWN = ("top1", *_OF_CLASSES, "nll", "ece", "agreement")
_IMBALANCE = 2  # training images of the largest class for one of the smallest, from which on top-1 may mislead


class ProgressLine(TrainerCallback):
    """A progress bar with the loss, its terms and the speed; every evaluation leaves a line above it."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.latest: dict[str, float] = {}
        self.shown = _SHOWN

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Open the bar."""
        if not _imbalanced(train_dataloader):
            self.shown = tuple(name for name in _SHOWN if name not in _OF_CLASSES)
        if state.is_world_process_zero and not args.disable_tqdm:
            self.bar = progress_bar(total=state.max_steps, initial=state.global_step, unit="step", leave=True)

    def on_step_end(self, args, state, control, **kwargs):
        """Move the bar."""
        if self.bar is not None:
            with _survive_closed_pipe():
                self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show loss and speed in the bar."""
        if logs and "images_per_second" in logs:
            self.latest = dict(logs)
            if self.bar is not None:
                with _survive_closed_pipe():
                    self.bar.set_postfix_str(f"loss {logs['loss']:.3f}, {logs['images_per_second']:,.0f} img/s")

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        """Print a line for the evaluation."""
        if not state.is_world_process_zero or not metrics or not state.max_steps:
            return
        # Of several evaluation sets each has its name behind `eval_`.
        prefix = next((name.removesuffix("top1") for name in metrics if name.endswith("_top1")), "eval_")
        parts = [f"epoch {state.epoch:>3.4g}/{state.num_train_epochs}"]
        terms = [f"{name.removeprefix('loss/')} {value:.3f}" for name, value in self.latest.items() if "/" in name]
        if self.latest:
            parts.append(f"loss {self.latest['loss']:.3f} ({', '.join(terms)})")
        parts += [prefix.removeprefix("eval_").removesuffix("_")] if prefix != "eval_" else []
        parts += [
            f"{METRICS[name].name} {METRICS[name].show(metrics[f'{prefix}{name}'], 3)}"
            for name in self.shown
            if f"{prefix}{name}" in metrics
        ]
        if "gated_fraction" in self.latest:
            parts.append(f"gated {self.latest['gated_fraction']:.2f}")
        with _survive_closed_pipe():
            tqdm.write(printable("  ".join(parts)))

    def on_train_end(self, args, state, control, **kwargs):
        """Close the bar."""
        if self.bar is not None:
            with _survive_closed_pipe():
                self.bar.close()
            self.bar = None


def _imbalanced(loader: Any) -> bool:
    """Whether classes of the training images differ in size, as far as that is known."""
    labels = None if loader is None else loader.dataset.class_labels()
    if labels is None or not (labels >= 0).any():
        return False
    images = labels[labels >= 0].bincount()
    return len(images) > 0 and bool(images.max() >= _IMBALANCE * images[images > 0].min())


def _survive_closed_pipe() -> contextlib.suppress:
    """Ignore a closed pipe (Ctrl-C ends `| tee log` too) or a full disk under a log: neither should end a run."""
    return contextlib.suppress(OSError)
