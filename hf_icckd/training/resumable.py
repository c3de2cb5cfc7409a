"""transformers' Trainer, changed so that an interrupted run ends with the same bits as an uninterrupted one.

Every override of a private method of the Trainer stands in this file, so that a new release of transformers means
reading one file. Checked against transformers 5.24 and accelerate 1.15.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer

from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import BatchDataset
from hf_icckd.models.pretrained import WEIGHTS_FILE
from hf_icckd.options.schedule import set_learning_rates, steps_in_epoch
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.runs import checkpoints
from hf_icckd.training.best_weights import BestWeights
from hf_icckd.training.epoch_boundaries import EpochBoundaries
from hf_icckd.training.not_taken import without_early_stopping
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import contiguous_state

logger = logging.getLogger(__name__)

OPTIMIZER_FILE, SCHEDULE_FILE = "optimizer.pt", "scheduler.pt"


class ResumableTrainer(Trainer):
    """Keyed batches, atomic checkpoints, stops on request. Subclasses define the loss and what `export` writes.

    Attributes:
        steps_per_epoch: Optimiser steps in an epoch, known when training begins.
        stop_requested: Whether training is to end after the current step.
        stopped: Whether the last training ended because it was asked to, be it behind its last step.
        stateful: Further parts with a `state_dict` that checkpoints hold, by name.
        best: The weights of the best evaluation, if they are kept.
    """

    args: DistillationTrainingArguments
    model: nn.Module
    train_dataset: BatchDataset
    eval_dataset: Dataset | dict[str, Dataset] | None
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(self, *args: Any, **options: Any):
        self.stateful: dict[str, checkpoints.Stateful] = {}
        self.best: BestWeights | None = None
        options["callbacks"] = without_early_stopping(options.get("callbacks") or (), options["args"])
        super().__init__(*args, **options)
        self.steps_per_epoch = 1
        self.stop_requested = self.stopped = self._staging = False
        self._restored: dict[str, Tensor] = {}
        self._gathered: dict[str, dict] = {}
        self._epoch_boundaries = EpochBoundaries(self)
        self.add_callback(self._epoch_boundaries)

    def add_callback(self, callback) -> None:
        """Add a callback. The one for epoch boundaries stays last: it decides after all others.

        Raises:
            ValueError: If it is transformers' `EarlyStoppingCallback` and the last weights are kept.
        """
        for each in without_early_stopping([callback], self.args):
            super().add_callback(each)
        last = getattr(self, "_epoch_boundaries", None)
        if last in self.callback_handler.callbacks:
            self.callback_handler.callbacks.remove(last)
            self.callback_handler.callbacks.append(last)

    def train(self, resume_from_checkpoint: str | bool | None = None, trial=None, ignore_keys_for_eval=None):
        """Train.

        Args:
            resume_from_checkpoint: Checkpoint to resume from; True for the newest undamaged one in the output folder.
            trial, ignore_keys_for_eval: Not used.

        Returns:
            What the Trainer returns; its training loss is the mean over all steps, also those before a resume.

        Raises:
            ValueError: If there is no checkpoint, or it is damaged or holds more than plain data.
        """
        if resume_from_checkpoint is True:
            newest = checkpoints.newest_intact(self.args.output_dir)
            if newest is None:
                raise ValueError(f"there is no intact checkpoint in {self.args.output_dir!r}; leave out the resume")
            resume_from_checkpoint = str(newest)
        elif resume_from_checkpoint:
            checkpoints.verify(resume_from_checkpoint)
        self.stopped = False
        try:
            output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        finally:
            self.stop_requested = False
        # The Trainer divides this sum, over all steps, by those since the last resume.
        return output._replace(training_loss=self._total_loss_scalar / max(self.state.global_step, 1))

    def request_stop(self) -> None:
        """End training after the current step, with a checkpoint. One process may ask for all."""
        self.stop_requested = True

    @property
    def stopped_early(self) -> bool:
        """Whether training has ended because no better evaluation came."""
        return self.best is not None and self.best.stopped

    @property
    def ended(self) -> bool:
        """Whether no step is left to do."""
        return self.state.global_step >= self.state.max_steps or self.stopped_early

    def begin_epoch(self, epoch: int) -> bool:
        """Prepare what must exist before the first batch of an epoch, also when resuming within it.

        Returns:
            False if a process has `stop_requested` before all was ready: then training ends here, with a checkpoint.
        """
        return True

    def begin_sums(self) -> None:
        """Restore the running sums of the logs, which the Trainer sets to zero when it starts."""
        if self._restored:
            self._tr_loss += distributed.own_part(self._restored["loss"]).to(self._tr_loss.device)
            self._total_loss_scalar = self._restored["total_loss"].item()
            self._globalstep_last_logged = int(self._restored["last_logged"])
        self._restored = {}

    def check_finite(self) -> None:
        """Raise FloatingPointError if a weight is not finite on any process. This waits for the device."""
        weights = {name: distributed.own_shard(value) for name, value in self.model.named_parameters()}
        if wrong := distributed.not_finite(weights, "a weight of another process"):
            raise FloatingPointError(
                f"{wrong} is not finite after step {self.state.global_step}, so it is not saved; lower learning_rate "
                "or train in float32; the last checkpoint is kept"
            )

    def export(self, folder: str) -> None:
        """Write the trained model to a folder; all ranks call this."""
        raise TypeError(f"{type(self).__name__} must define export(folder)")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Export the trained model.

        Args:
            output_dir: Folder; None for the one of the run.
            _internal_call: Set by the Trainer for the weights of a checkpoint, which hold all that is trained.
        """
        if not _internal_call:
            self.export(output_dir or self.args.output_dir)
        elif self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            # No training_args.bin beside it: it is a pickle.
            save_file(contiguous_state(self._gathered["weights"]), folder / WEIGHTS_FILE, metadata={"format": "pt"})

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Keyed batches; the sampler knows the processes, so accelerate must not split them again."""
        sampler = self.train_dataset.batch_sampler(self.args.train_batch_size, self.args.seed)
        if left_out := sampler.num_samples - sampler.num_used:
            logger.info("%d images of every epoch are left out: too few for a batch", left_out)
        self.steps_per_epoch = steps_in_epoch(len(sampler), self.args)
        if self.train_dataset.resident and self.args.changed.get("dataloader_num_workers"):
            logger.info("the training images are in memory: no loading workers are started")
        return make_loader(self.train_dataset, sampler, **self.args.loading)

    def _prepare_input(self, data):
        # Loading workers pin their batches, so the copy to the device need not wait.
        if isinstance(data, Tensor):
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    # ---- steps and epochs

    def _prepare_for_training(self, *args, **options):
        model, train_dataloader = super()._prepare_for_training(*args, **options)
        # accelerate puts autocast into the module's forward too, which evaluation calls.
        self.accelerator.unwrap_model(model, keep_fp32_wrapper=False, keep_torch_compile=False)
        return model, train_dataloader

    def _run_epoch(self, *args, **kwargs):
        # The Trainer would do a step before it looks: a run that resumes behind its last one has none left.
        self.control.should_training_stop |= self.ended
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)
        elif not self.ended and self.args.save_strategy != "no":
            self._leave_checkpoint()

    def _get_grad_norm(self, model, grad_norm=None):
        # The Trainer would compute the norm (a pass over all gradients and a wait) even if nothing is clipped.
        return grad_norm

    def _determine_best_metric(self, metrics, trial) -> bool:
        # The Trainer would note which checkpoint is best; here each of them holds the best weights.
        if self.best is not None:
            self.best.note(metrics, self.state.global_step)
            if self.best.stopped:
                self.control.should_training_stop = True
                self.control.should_save |= self.args.save_strategy != "no"  # a resumed run must know that it ended
        return False

    def _finalize_training(self, *args):
        self.stopped = distributed.any_rank(self.stop_requested)
        if self.stopped:  # perhaps only after the last step
            self._leave_checkpoint()
        if self.best is not None:
            self.best.restore()
        return super()._finalize_training(*args)

    def store_flos(self) -> None:
        """Nothing: operations are not counted in training, and processes would wait for each other."""

    # ---- checkpoints: written to a staging folder, moved to their place when complete

    def _get_output_dir(self, trial) -> str:
        return str(checkpoints.staging_folder(self.args.output_dir)) if self._staging else self.args.output_dir

    def _leave_checkpoint(self) -> None:
        folder, step = self.args.output_dir, self.state.global_step
        if step and not distributed.on_first_rank(lambda: checkpoints.is_intact(folder, step)):
            self._save_checkpoint(self.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_checkpoint(self, model, trial) -> None:
        self.check_finite()
        # Everything that processes must gather is gathered first: one that can't write must not leave others waiting.
        state = self._training_state()
        self._gathered = distributed.gather_shards(
            {"weights": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        )
        failure = None
        self._staging = True
        try:
            self._write_checkpoint(model, trial, state)
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch and safetensors raise their own types for errors of the disk; other RuntimeErrors are passed on.
            if isinstance(error, RuntimeError) and (
                type(error) is not RuntimeError or distributed.is_lost_connection(error)
            ):
                raise
            failure = error
        finally:
            self._staging, self._gathered = False, {}
        self._finish_checkpoint(failure)

    def _write_checkpoint(self, model, trial, state: dict[str, Tensor]) -> None:
        output_dir = Path(self.args.output_dir)
        if self.args.should_save:
            output_dir.stat()  # not created again if it has vanished: the other files of the run would be missing
            checkpoints.clear_staging(output_dir)
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            checkpoints.publish(output_dir, self.state.global_step, state)

    def _finish_checkpoint(self, failure: Exception | None) -> None:
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        if distributed.any_rank(failure is not None):
            if self.args.should_save:
                checkpoints.clear_staging(output_dir)
            reason = " ".join(str(failure or "see process 0").split())[:200]
            raise OSError(
                f"the checkpoint of step {step} can't be written to {str(output_dir)!r}: {reason}; earlier "
                "checkpoints are unchanged"
            ) from failure
        if self.args.should_save:
            checkpoints.prune(output_dir, step, self.args.save_total_limit)

    def _training_state(self) -> dict[str, Tensor]:
        """What the Trainer leaves out: `stateful` and the running sums of its logs; all ranks call this."""
        return {
            **checkpoints.state_of(self.stateful),
            "loss": distributed.gather_ranks(self._tr_loss),
            "total_loss": torch.tensor(self._total_loss_scalar, dtype=torch.float64),
            "last_logged": torch.tensor(self._globalstep_last_logged),
            "steps_per_epoch": torch.tensor(self.steps_per_epoch),
        }

    # The Trainer would write and read other files for sharded weights. Here a checkpoint always holds whole tensors,
    # so that any number of processes, sharded or not, can resume from it.

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.args.should_save:
            torch.save(self._gathered["optimizer"], Path(output_dir) / OPTIMIZER_FILE)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULE_FILE)

    def _load_from_checkpoint(self, checkpoint: str, model=None) -> None:
        model = self.model if model is None else model
        with checkpoints.plain_data_only(checkpoint):
            now, state = model.state_dict(), load_file(Path(checkpoint) / WEIGHTS_FILE)
        model.load_state_dict({name: distributed.shard_like(value, now.get(name)) for name, value in state.items()})

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        with checkpoints.plain_data_only(checkpoint):
            state = torch.load(Path(checkpoint) / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
            schedule = torch.load(Path(checkpoint) / SCHEDULE_FILE, weights_only=True)
            self._restored = checkpoints.load_extra_state(checkpoint)
        if self._restored["steps_per_epoch"] != self.steps_per_epoch:
            raise ValueError(
                f"{checkpoint} has {self._restored['steps_per_epoch']} steps in an epoch, this run "
                f"{self.steps_per_epoch}; resume with the images, batch size and number of processes it was written "
                "with"
            )
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, moments in state["state"].items():
            for name, value in moments.items():
                moments[name] = distributed.shard_like(value, parameters[index])
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(schedule)
        set_learning_rates(self.optimizer, self.lr_scheduler)
        for name, part in self.stateful.items():
            part.load_state_dict(checkpoints.part_of(self._restored, f"{name}."))

    def _load_scaler(self, checkpoint: str | None) -> None:
        with checkpoints.plain_data_only(checkpoint):
            super()._load_scaler(checkpoint)

    # No generator has a state that would have to be saved: see `EpochBoundaries.on_step_begin`.
    def _save_rng_state(self, output_dir: str) -> None:
        pass

    def _load_rng_state(self, checkpoint: str | None) -> None:
        pass

    # ---- the Trainer's own ways to the Hub, which would send checkpoints, options as a pickle and its own card

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Nothing: `HubCallback` prepares the repository."""

    def create_model_card(self, *args, **options) -> None:
        """Nothing: the card of a run holds its metrics and is written with them."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        pass

    def _finish_current_push(self) -> None:
        pass
