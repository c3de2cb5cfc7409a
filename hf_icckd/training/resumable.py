"""transformers' Trainer, made so that a run that was cut off ends as one that never was."""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer

from hf_icckd.data.sampling import make_loader
from hf_icckd.models.pretrained import WEIGHTS_FILE
from hf_icckd.runs import checkpoints
from hf_icckd.training.epoch_boundaries import Rhythm
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import contiguous_state

logger = logging.getLogger(__name__)

OPTIMIZER_FILE, SCHEDULE_FILE = "optimizer.pt", "scheduler.pt"


class ResumableTrainer(Trainer):
    """Keyed batches, whole checkpoints, stops on request; subclasses say what is computed.

    Arguments are those of the Trainer.

    Attributes:
        steps_per_epoch: Optimiser steps in an epoch; known when training begins.
        stop_requested: Whether training is to end behind the step under way.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps_per_epoch = 1
        self.stop_requested = self._staging = False
        self._restored: dict[str, Tensor] = {}
        self._whole: dict[str, dict] = {}
        self._rhythm = Rhythm(self)
        self.add_callback(self._rhythm)

    def add_callback(self, callback) -> None:
        """Add a callback; ours that decides what is due at the end of an epoch stays the last one."""
        super().add_callback(callback)
        rhythm = getattr(self, "_rhythm", None)
        if rhythm in self.callback_handler.callbacks:
            self.callback_handler.callbacks.remove(rhythm)
            self.callback_handler.callbacks.append(rhythm)

    def train(self, resume_from_checkpoint: str | bool | None = None, trial=None, ignore_keys_for_eval=None):
        """Train.

        Args:
            resume_from_checkpoint: Checkpoint to go on from; True for the newest whole one in the output folder.
            trial: Not used.
            ignore_keys_for_eval: Not used.

        Returns:
            What the Trainer returns.

        Raises:
            ValueError: If the checkpoint is damaged or holds more than plain data, or there is none.
        """
        if resume_from_checkpoint is True:
            newest = checkpoints.newest_whole(self.args.output_dir)
            if newest is None:
                raise ValueError(f"there is no whole checkpoint in {self.args.output_dir!r}; leave out the resume")
            resume_from_checkpoint = str(newest)
        elif resume_from_checkpoint:
            checkpoints.verify(resume_from_checkpoint)
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        finally:
            self.stop_requested = False

    def request_stop(self) -> None:
        """Have training end behind the step under way, with a checkpoint; one process may ask for all."""
        self.stop_requested = True

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors beyond model and optimiser that a checkpoint must hold."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `extra_state` gave."""

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Keyed batches; the sampler knows the processes, so accelerate must not cut them again."""
        sampler = self.train_dataset.batch_sampler(self.args.train_batch_size, self.args.seed)
        if sampler.num_used < sampler.num_samples:
            logger.info(
                "%d images of every epoch stay out: too few for a batch", sampler.num_samples - sampler.num_used
            )
        self.steps_per_epoch = math.ceil(len(sampler) / self.args.gradient_accumulation_steps)
        return make_loader(self.train_dataset, sampler, self.args.dataloader_num_workers)

    def _run_epoch(self, *args, **kwargs):
        # A run that was cut off behind its last checkpoint has no step left; the Trainer would do one before it looks.
        if self.state.global_step >= self.state.max_steps:
            return
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)
        elif self.state.global_step and self.args.save_strategy != "no":  # `begin_epoch` was asked to stop
            newest = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            if not distributed.on_first_rank(newest.is_dir):
                self._save_checkpoint(self.model, None)

    # ---- checkpoints

    def check_finite(self) -> None:
        """Raise FloatingPointError if a weight is not finite on any process. This waits for the device."""
        weights = {name: distributed.own_shard(value) for name, value in self.model.named_parameters()}
        finite = torch.stack([value.isfinite().all() for value in weights.values()]).tolist()
        wrong = [name for name, is_finite in zip(weights, finite, strict=True) if not is_finite]
        if distributed.any_rank(bool(wrong)):
            raise FloatingPointError(
                f"{wrong[0] if wrong else 'a weight of another process'} is not finite after step "
                f"{self.state.global_step}, so it is not saved; lower learning_rate or train in float32; the last "
                "checkpoint is kept"
            )

    def _get_output_dir(self, trial) -> str:
        return str(checkpoints.staging_folder(self.args.output_dir)) if self._staging else self.args.output_dir

    def store_flos(self) -> None:
        """Nothing: nets here don't count operations in training, and processes would wait for each other."""

    def _save_checkpoint(self, model, trial) -> None:
        """Write a checkpoint beside its final place and move it there when it is whole."""
        self.check_finite()
        # All that processes must gather is gathered first: one that can't write must not leave the others waiting.
        state = self._training_state()
        self._whole = distributed.gather_shards(
            {"weights": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        )
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        failure = None
        self._staging = True
        try:
            if self.args.should_save:
                output_dir.stat()  # a folder that has vanished is not made anew: what else was in it is missing
                checkpoints.clear_staging(output_dir)
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                checkpoints.publish(output_dir, step, state)
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch and safetensors have errors of their own for those of the disk; others are none of it.
            if isinstance(error, RuntimeError) and (
                type(error) is not RuntimeError or distributed.is_lost_connection(error)
            ):
                raise
            failure = error
        finally:
            self._staging, self._whole = False, {}
        if distributed.any_rank(failure is not None):
            if self.args.should_save:
                checkpoints.clear_staging(output_dir)
            reason = " ".join(str(failure or "see process 0").split())[:200]
            raise OSError(
                f"the checkpoint of step {step} can't be written to {str(output_dir)!r}: {reason}; earlier ones are "
                "as they were"
            ) from failure
        if self.args.should_save:
            checkpoints.prune(output_dir, step, self.args.save_total_limit)

    def _training_state(self) -> dict[str, Tensor]:
        """What the Trainer leaves out: our own state and the running sums of its logs; all ranks must call this."""
        return {
            **{f"own.{name}": value for name, value in self.extra_state().items()},
            "loss": distributed.gather_ranks(self._tr_loss),
            "total_loss": torch.tensor(self._total_loss_scalar, dtype=torch.float64),
            "last_logged": torch.tensor(self._globalstep_last_logged),
            "steps_per_epoch": torch.tensor(self.steps_per_epoch),
        }

    # The Trainer would write and read other files where weights are sharded. Here a checkpoint holds whole tensors in
    # any case, so that any number of processes, sharded or not, goes on with it.

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights of a checkpoint; subclasses say what else a saved model is.

        Args:
            output_dir: Folder; None for that of the run.
            _internal_call: Set by the Trainer for the weights of a checkpoint.
        """
        state = self._whole.get("weights") or distributed.gather_shards(self.model.state_dict())
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            # No training_args.bin beside it: it is a pickle.
            save_file(contiguous_state(state), folder / WEIGHTS_FILE, metadata={"format": "pt"})

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.args.should_save:
            torch.save(self._whole["optimizer"], Path(output_dir) / OPTIMIZER_FILE)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULE_FILE)

    def _load_from_checkpoint(self, checkpoint: str, model=None) -> None:
        model = self.model if model is None else model
        with _plain_data_only(checkpoint):
            now, state = model.state_dict(), load_file(Path(checkpoint) / WEIGHTS_FILE)
        model.load_state_dict({name: distributed.shard_like(value, now.get(name)) for name, value in state.items()})

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        with _plain_data_only(checkpoint):
            state = torch.load(Path(checkpoint) / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
            schedule = torch.load(Path(checkpoint) / SCHEDULE_FILE, weights_only=True)
            self._restored = checkpoints.load_extra_state(checkpoint)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, moments in state["state"].items():
            for name, value in moments.items():
                moments[name] = distributed.shard_like(value, parameters[index])
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(schedule)
        state = self._restored
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise ValueError(
                f"{checkpoint} has {state['steps_per_epoch']} steps in an epoch, this run {self.steps_per_epoch}; go "
                "on with the images, batch size and number of processes it was written with"
            )
        self.load_extra_state(checkpoints.part_of(state, "own."))

    def begin_sums(self) -> None:
        """Take back the running sums behind the logs, which the Trainer sets to zero when it starts."""
        if self._restored:
            self._tr_loss += distributed.own_part(self._restored["loss"]).to(self._tr_loss.device)
            self._total_loss_scalar = self._restored["total_loss"].item()
            self._globalstep_last_logged = int(self._restored["last_logged"])
        self._restored = {}

    def _load_scaler(self, checkpoint: str | None) -> None:
        with _plain_data_only(checkpoint):
            super()._load_scaler(checkpoint)

    def begin_epoch(self, epoch: int) -> bool:
        """Make what must be there before the first batch of an epoch, also where a run goes on within it.

        Args:
            epoch: Epoch.

        Returns:
            False if a process has `stop_requested` before all was made: then training ends here, with a checkpoint.
        """
        return True

    # Nothing draws from a generator whose state would have to be kept: see `Rhythm.on_step_begin`.
    def _save_rng_state(self, output_dir: str) -> None:
        pass

    def _load_rng_state(self, checkpoint: str | None) -> None:
        pass


@contextlib.contextmanager
def _plain_data_only(checkpoint: str | None) -> Iterator[None]:
    """Say in one line that a checkpoint holds what its format does not allow."""
    try:
        yield
    except (pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"{checkpoint} holds more than plain data ({str(error).splitlines()[0]}); nothing of it was run; delete "
            "the checkpoint"
        ) from error
