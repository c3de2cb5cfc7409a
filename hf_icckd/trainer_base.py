"""What both trainers share: optimiser and schedule of the field, named terms, evaluation, checkpoints, saving."""

from __future__ import annotations

import logging
import math
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import PrinterCallback, TrainerCallback

from hf_icckd import checkpointing, distributed
from hf_icckd.data.sampling import batch_sampler, make_loader
from hf_icckd.evaluation import SplitOutputs, predict_split, split_metrics
from hf_icckd.hub import contiguous_state, save_pretrained
from hf_icckd.modeling import ImageClassifier
from hf_icckd.progress import ProgressLine
from hf_icckd.rhythm import Rhythm
from hf_icckd.term_averages import TermAverages
from hf_icckd.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)


class DistillationTrainer(Trainer):
    """Common base of `TeacherTrainer` and `StudentTrainer`; subclasses define `compute_terms`.

    Args:
        model: The module that is trained.
        classifier: The classifier in it that is evaluated and saved.
        args: Options.
        train_dataset: Data set whose `__getitems__` takes a `BatchKey`; see `hf_icckd.data.ImagePipeline`.
        eval_dataset: Data set for evaluation while training.
        callbacks: Further callbacks.
        frozen: Modules that are not trained but get the same memory layout.
    """

    def __init__(
        self,
        model: nn.Module,
        classifier: ImageClassifier,
        args: DistillationTrainingArguments,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        callbacks: list[TrainerCallback] | None = None,
        frozen: tuple[nn.Module, ...] = (),
    ):
        if args.sync_batchnorm and args.world_size > 1:
            classifier.net = convert_sync_batchnorm(classifier.net)
        for module in (model, *frozen):
            module.to(memory_format=torch.channels_last if args.channels_last else torch.contiguous_format)
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, callbacks=callbacks
        )
        self.classifier = classifier
        self.loss_is_scaled_for_ga = False  # terms are means over a micro-batch
        self.model_accepts_loss_kwargs = False
        self.terms = TermAverages()
        self.term_weights: dict[str, float] = {}
        self._images_seen, self._clock = 0, time.perf_counter()
        self.steps_per_epoch = 1
        self.stop_requested = self._staging = False
        self._restored: dict[str, Tensor] = {}
        for callback in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(ProgressLine)
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
            ValueError: If the checkpoint is damaged, or there is none.
        """
        if resume_from_checkpoint is True:
            newest = checkpointing.newest_whole(self.args.output_dir)
            if newest is None:
                raise ValueError(f"there is no whole checkpoint in {self.args.output_dir!r}; leave out the resume")
            resume_from_checkpoint = str(newest)
        elif resume_from_checkpoint:
            checkpointing.verify(resume_from_checkpoint)
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        finally:
            self.stop_requested = False

    # ---- one step

    def compute_terms(self, model: nn.Module, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Terms of the loss, each in `self.term_weights`, and further scalars to log."""
        raise TypeError(f"{type(self).__name__} must define compute_terms(model, batch)")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None) -> Tensor:
        """Weighted sum of the named terms of a batch; they are logged under `loss/`."""
        terms, extra = self.compute_terms(model, inputs)
        loss = sum(self.term_weights[name] * term for name, term in terms.items())
        # Not 1 where a short last batch does not split evenly over processes or micro-batches.
        share = distributed.local_share(len(inputs["labels"]), inputs["global_rows"]) * inputs.get("weight", 1)
        if share != 1:
            loss = loss * share
        named = {f"loss/{name}": term for name, term in terms.items()} | extra
        self.terms.add({name: value * share for name, value in named.items()}, self.state.global_step + 1)
        self._images_seen += inputs["global_rows"]
        return (loss, None) if return_outputs else loss

    def _prepare_input(self, data):
        # Loading workers pin their batches, so that nothing has to wait until they are on the device.
        if isinstance(data, Tensor):
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def _get_grad_norm(self, model, grad_norm=None):
        # The Trainer would compute the norm (a pass over all gradients and a wait) even if nothing is clipped.
        return grad_norm

    # ---- optimiser and schedule

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """SGD with momentum, or what `optim` names, with the weight decay policy of the arguments."""
        if self.optimizer is not None:
            return self.optimizer
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        decayed = [p for p in parameters if self.args.decay_norm_and_bias or p.ndim > 1]
        undecayed = [p for p in parameters if not self.args.decay_norm_and_bias and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.args.weight_decay}]
        if undecayed:
            groups.append({"params": undecayed, "weight_decay": 0.0})
        if self.args.optim == "sgd":
            fused = self.args.device.type == "cuda"
            self.optimizer = torch.optim.SGD(
                groups, lr=self.args.learning_rate, momentum=self.args.momentum, fused=fused or None
            )
        else:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """The Trainer's schedules, and multistep if `lr_milestones` is given; all with `warmup_steps`."""
        if self.args.lr_milestones is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            milestones = [share * num_training_steps for share in self.args.lr_milestones]

            def factor(step: int) -> float:
                if step < warmup:
                    return step / max(warmup, 1)
                return 0.1 ** sum(step >= milestone for milestone in milestones)

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Keyed batches; the sampler knows the processes, so accelerate must not cut them again."""
        sampler = batch_sampler(self.train_dataset, self.args.train_batch_size, self.args.seed)
        if sampler.num_used < sampler.num_samples:
            logger.info(
                "%d images of every epoch stay out: too few for a batch", sampler.num_samples - sampler.num_used
            )
        self.steps_per_epoch = math.ceil(len(sampler) / self.args.gradient_accumulation_steps)
        return make_loader(self.train_dataset, sampler, self.args.dataloader_num_workers)

    def _run_epoch(self, *args, **kwargs):
        # A run that was cut off behind its last checkpoint has no step left; the Trainer would do one before it looks.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Micro-batches of a step, each with its weight in it: a short one counts for fewer images."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        mean_rows = sum(batch["global_rows"] for batch in batches) / max(len(batches), 1)
        for batch in batches:
            batch["weight"] = batch["global_rows"] / mean_rows
        return batches, num_items

    # ---- evaluation

    def predict_split(self, dataset: Dataset, description: str | None = None) -> SplitOutputs:
        """Outputs of the classifier for a data set."""
        return self._predict(self.classifier, dataset, description)

    def _predict(self, model: ImageClassifier, dataset: Dataset, description: str | None) -> SplitOutputs:
        return predict_split(
            model,
            dataset,
            batch_size=self.args.eval_batch_size,
            num_workers=self.args.dataloader_num_workers,
            description=description,
        )

    def evaluation_teacher(self, dataset: Dataset) -> SplitOutputs | None:
        """Outputs of the teacher for a data set, if there is a teacher."""
        return None

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        representation: bool = False,
    ) -> dict[str, float]:
        """Measure the classifier.

        Args:
            eval_dataset: Data set; None for the one given at construction.
            ignore_keys: Not used.
            metric_key_prefix: Prefix of the names.
            representation: Whether to add geometry and soft-label figures, which take longer.

        Returns:
            Figures of `hf_icckd.metrics` with the prefix.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("there is no data set to evaluate on; give eval_dataset, or set --eval_strategy no")
        start = time.perf_counter()
        description = None if self.args.disable_tqdm else "evaluating"
        outputs = self.predict_split(dataset, description)
        figures = split_metrics(outputs, self.evaluation_teacher(dataset), representation)
        figures = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self._clock += time.perf_counter() - start  # images per second are those of training
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    # ---- logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the named terms and images per second to the Trainer's training logs."""
        if "train_loss" in logs:  # the Trainer divides by the steps since the last resume
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        if "loss" in logs and "learning_rate" in logs:
            logs |= self.terms.drain() | self.extra_logs()
            now = time.perf_counter()
            logs["images_per_second"] = self._images_seen / max(now - self._clock, 1e-9)
            self._images_seen, self._clock = 0, now
        super().log(logs)

    def extra_logs(self) -> dict[str, float]:
        """Scalars that are read only when logging."""
        return {}

    # ---- checkpoints and saving

    def request_stop(self) -> None:
        """Have training end behind the step under way, with a checkpoint; one process may ask for all."""
        self.stop_requested = True

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors beyond model and optimiser that a checkpoint must hold."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `extra_state` gave."""

    def check_weights(self) -> None:
        """Raise FloatingPointError if a weight is not finite on any process. This waits for the device."""
        weights = dict(self.model.named_parameters())
        finite = torch.stack([value.isfinite().all() for value in weights.values()]).tolist()
        wrong = [name for name, is_finite in zip(weights, finite, strict=True) if not is_finite]
        if distributed.any_rank(bool(wrong)):
            raise FloatingPointError(
                f"{wrong[0] if wrong else 'a weight of another process'} is not finite after step "
                f"{self.state.global_step}, so it is not saved; lower learning_rate or train in float32; the last "
                "checkpoint is kept"
            )

    def _get_output_dir(self, trial) -> str:
        return str(checkpointing.staging_folder(self.args.output_dir)) if self._staging else self.args.output_dir

    def store_flos(self) -> None:
        """Nothing: nets here don't count operations in training, and processes would wait for each other."""

    def _save_checkpoint(self, model, trial) -> None:
        """Write a checkpoint beside its final place and move it there when it is whole."""
        self.terms.check()
        self.check_weights()
        state = self._training_state()
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        failure = None
        self._staging = True
        try:
            if self.args.should_save:
                output_dir.stat()  # a folder that has vanished is not made anew: what else was in it is missing
                checkpointing.clear_staging(output_dir)
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                checkpointing.publish(output_dir, step, state)
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch and safetensors have errors of their own for those of the disk; others are none of it.
            if isinstance(error, RuntimeError) and (
                type(error) is not RuntimeError or distributed.is_lost_connection(error)
            ):
                raise
            failure = error
        finally:
            self._staging = False
        if distributed.any_rank(failure is not None):
            if self.args.should_save:
                checkpointing.clear_staging(output_dir)
            reason = " ".join(str(failure or "see process 0").split())[:200]
            raise OSError(
                f"the checkpoint of step {step} can't be written to {str(output_dir)!r}: {reason}; earlier ones are "
                "as they were"
            ) from failure
        if self.args.should_save:
            checkpointing.prune(output_dir, step, self.args.save_total_limit)

    def _training_state(self) -> dict[str, Tensor]:
        """What the Trainer leaves out: our own state, the running sums of the logs; all ranks must call this."""
        own = {f"own.{name}": value for name, value in self.extra_state().items()}
        terms = {f"terms.{name}": value for name, value in self.terms.state_dict().items()}
        return {
            **own,
            **terms,
            "loss": distributed.gather_ranks(self._tr_loss),
            "total_loss": torch.tensor(self._total_loss_scalar, dtype=torch.float64),
            "last_logged": torch.tensor(self._globalstep_last_logged),
            "steps_per_epoch": torch.tensor(self.steps_per_epoch),
        }

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{checkpoint} holds more than plain data ({str(error).splitlines()[0]}); nothing of it was run; "
                "delete the checkpoint"
            ) from error
        if checkpoint is None:
            return
        state = self._restored = checkpointing.load_extra_state(checkpoint)
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise ValueError(
                f"{checkpoint} has {state['steps_per_epoch']} steps in an epoch, this run {self.steps_per_epoch}; go "
                "on with the images, batch size and number of processes it was written with"
            )
        self.load_extra_state(_part(state, "own."))
        self.terms.load_state_dict(_part(state, "terms."))

    def begin_sums(self) -> None:
        """Start the clock; take back the Trainer's running sums, which it sets to zero when it starts."""
        self._images_seen, self._clock = 0, time.perf_counter()
        if self._restored:
            losses = self._restored["loss"].to(self._tr_loss.device)
            same = len(losses) == distributed.world_size()
            self._tr_loss += losses[distributed.rank()] if same else losses.mean()
            self._total_loss_scalar = self._restored["total_loss"].item()
            self._globalstep_last_logged = int(self._restored["last_logged"])
        else:
            self.terms.load_state_dict({})
        self._restored = {}

    # Nothing draws from a generator whose state would have to be kept: see `Rhythm.on_step_begin`.
    def _save_rng_state(self, output_dir: str) -> None:
        pass

    def _load_rng_state(self, checkpoint: str | None) -> None:
        pass

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # Weights for a checkpoint. No training_args.bin: it is a pickle.
        if self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            state = contiguous_state(self.model.state_dict() if state_dict is None else state_dict)
            save_file(state, Path(output_dir) / "model.safetensors", metadata={"format": "pt"})

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the classifier as a folder that timm and transformers load.

        Args:
            output_dir: Folder; None for that of the run.
            _internal_call: Set by the Trainer for the weights of a checkpoint, which hold all that is trained.
        """
        if _internal_call:
            super().save_model(output_dir, _internal_call=True)
            return
        self.check_weights()
        if self.args.should_save:
            save_pretrained(output_dir or self.args.output_dir, self.classifier)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
