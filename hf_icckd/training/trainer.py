"""What both trainers share: named loss terms, optimiser and schedule, evaluation, logs, export."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from huggingface_hub import CommitInfo
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.trainer_utils import PredictionOutput

from hf_icckd import metrics
from hf_icckd.data.loading import make_loader
from hf_icckd.data.plain import as_batches, check_evaluation_sets, chosen_dataset
from hf_icckd.data.sampling import BatchDataset
from hf_icckd.evaluation.split import SplitOutputs, measure_split, predict_split
from hf_icckd.hub import push_to_hub
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.convolutions import guard_strided_convolutions
from hf_icckd.models.pretrained import save_pretrained
from hf_icckd.options.refused import refuse_unread
from hf_icckd.options.schedule import check_schedule
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.training.best_weights import best_weights
from hf_icckd.training.frozen_backbone import FrozenBackbone, check_trains
from hf_icckd.training.hub_callback import HubCallback
from hf_icckd.training.loss_averages import LossAverages
from hf_icckd.training.not_taken import refuse_arguments
from hf_icckd.training.optimisation import check_layer_decay, make_schedule, parameter_groups
from hf_icckd.training.progress import ProgressLine
from hf_icckd.training.resumable import ResumableTrainer
from hf_icckd.training.sharding import prepare_sharding
from hf_icckd.training.weight_average import UpdateAverage, average_of
from hf_icckd.utils import distributed

logger = logging.getLogger(__name__)


class DistillationTrainer(ResumableTrainer):
    """Common base of `TeacherTrainer` and `StudentTrainer`; subclasses define `compute_terms`.

    Args:
        model: The module that is trained.
        classifier: The classifier in it, which is evaluated and saved, or whose average is.
        args: Options.
        train_dataset: Data set whose `__getitems__` takes a `BatchKey`; see `hf_icckd.data.ImagePipeline`.
        eval_dataset: Data set for evaluation while training, or several by name.
        callbacks: Further callbacks.
        frozen: Modules that are not trained but get the same memory layout.

    Attributes:
        average: Moving average of the classifier's weights, if the options ask for it.
        notes: Sentences about the run that readers of its metrics should know.
    """

    def __new__(cls, *args: Any, **options: Any):
        """Say how to get what transformers' Trainer has an argument for; without this it would only be unexpected."""
        refuse_arguments(cls.__name__, options)
        return super().__new__(cls)

    def __init__(
        self,
        model: nn.Module,
        classifier: ImageClassifier,
        args: DistillationTrainingArguments,
        train_dataset: BatchDataset,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        frozen: tuple[nn.Module, ...] = (),
    ):
        check_evaluation_sets(eval_dataset, classifier.spec.label_names)
        if args.sync_batchnorm and args.world_size > 1:
            convert_sync_batchnorm(model)  # in place
        channels_last = args.channels_last and not args.sharded  # torch shards contiguous weights only
        for module in (model, *frozen):
            module.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            guard_strided_convolutions(module)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=[HubCallback(), *(callbacks or [])],
        )
        if args.optim != "sgd":
            refuse_unread(args, args.changed, self.get_optimizer_cls_and_kwargs)  # before the run's folder is taken
        check_schedule(args)
        check_layer_decay(classifier, args)
        if args.sharded:
            prepare_sharding(self)
        self.classifier = classifier
        self.average = average_of(classifier, args)
        self.best = best_weights(args, eval_dataset, self.measured_classifier)
        self.stateful |= {name: part for name in ("average", "best") if (part := getattr(self, name)) is not None}
        self.loss_is_scaled_for_ga = False  # terms are means over a micro-batch
        self.model_accepts_loss_kwargs = False
        self.averages = self.stateful["averages"] = LossAverages()
        self.term_weights: dict[str, float] = {}
        self.notes: list[str] = []
        self._images_seen, self._clock = 0, time.perf_counter()
        for callback in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(ProgressLine)
        if args.freeze_backbone or args.freeze_epochs:
            self.add_callback(FrozenBackbone(self))
        if self.average is not None:
            self.add_callback(UpdateAverage(self.average, classifier))

    @property
    def measured_classifier(self) -> ImageClassifier:
        """The classifier that is evaluated and exported: the trained one, or the moving average of its weights."""
        return self.classifier if self.average is None else self.average.module

    # ---- one step

    def progress(self, device: torch.device) -> Tensor:
        """() fraction of the training that is done, 0 to 1."""
        return torch.full((), self.state.global_step / max(self.state.max_steps, 1), device=device)

    def compute_terms(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Terms of the loss, one for each name in `self.term_weights`, and further scalars that are only logged."""
        raise TypeError(f"{type(self).__name__} must define compute_terms(model, batch)")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Weighted sum of the named terms of a batch; they are logged under `loss/`, further scalars as they are."""
        try:
            scalars = self.compute_terms(model, inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"a step has {len(inputs['labels'])} image for this process, and BatchNorm needs two where the last "
                "feature map is one pixel; take a --per_device_train_batch_size or --max_train_samples with a larger "
                "last batch"
            ) from error
        if self.args.freeze_backbone and self.state.global_step == 0:
            check_trains(scalars, self.term_weights)
        loss = sum(weight * scalars[name] for name, weight in self.term_weights.items())
        # Not 1 where a short last batch does not split evenly over processes or micro-batches.
        share = distributed.local_share(len(inputs["labels"]), inputs["global_rows"]) * inputs.get("weight", 1)
        if share != 1:
            loss = loss * share
        named = {f"loss/{name}" if name in self.term_weights else name: value for name, value in scalars.items()}
        self.averages.add({name: value * share for name, value in named.items()}, self.state.global_step + 1)
        self._images_seen += inputs["global_rows"]
        return (loss, None) if return_outputs else loss

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True):
        """Half precision, if asked for, for the terms of the loss. Evaluation is in the precision of the weights."""
        return self.accelerator.autocast()

    # ---- optimiser and schedule

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """SGD with momentum, or what `optim` names, with the groups of `parameter_groups`."""
        if self.optimizer is not None:
            return self.optimizer
        groups = parameter_groups(self.model, self.classifier.net, self.args)
        if self.args.optim == "sgd":
            fused = self.args.device.type == "cuda" and not self.args.sharded  # torch has no fused SGD for shards
            self.optimizer = torch.optim.SGD(
                groups, lr=self.args.learning_rate, momentum=self.args.momentum, fused=fused or None
            )
        else:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """The schedule of the arguments; see `make_schedule`."""
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = make_schedule(self.args, optimizer, num_training_steps, self.steps_per_epoch)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # ---- data

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Micro-batches of a step, each with its weight in it: a short one counts for fewer images."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        mean_rows = sum(batch["global_rows"] for batch in batches) / max(len(batches), 1)
        for batch in batches:
            batch["weight"] = batch["global_rows"] / mean_rows
        return batches, num_items

    # ---- evaluation

    def predict_split(self, dataset: Dataset, description: str | None = None) -> SplitOutputs:
        """Outputs of the measured classifier for a data set."""
        return self._predict(self.measured_classifier, dataset, description)

    def _predict(self, model: ImageClassifier, dataset: Dataset, description: str | None) -> SplitOutputs:
        return predict_split(model, dataset, **self._evaluation_options(description))

    def _evaluation_options(self, description: str | None) -> dict[str, Any]:
        return {"batch_size": self.args.eval_batch_size, "description": description, **self.args.loading}

    def evaluation_teacher(self, dataset: Dataset) -> SplitOutputs | None:
        """Outputs of the teacher for a data set, if there is a teacher."""
        return None

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the classifier.

        Args:
            eval_dataset: Data set, several by name, or the name of one given at construction; None for those.
            ignore_keys: Not used.
            metric_key_prefix: Prefix of the names; that of one of several data sets follows it, as in `eval_val_top1`.

        Returns:
            Metrics of `hf_icckd.metrics`, their names with the prefix.
        """
        dataset = chosen_dataset(eval_dataset, self.eval_dataset)
        if dataset is None or (isinstance(dataset, dict) and not dataset):
            raise ValueError("there is no data set to evaluate on; give eval_dataset, or set --eval_strategy no")
        if isinstance(dataset, dict):
            each = [self.evaluate(one, ignore_keys, f"{metric_key_prefix}_{name}") for name, one in dataset.items()]
            return {name: value for measured in each for name, value in measured.items()}
        start = time.perf_counter()
        description = None if self.args.disable_tqdm else "evaluating"
        teacher = self.evaluation_teacher(dataset)
        logits = None if teacher is None else teacher.logits
        measured = measure_split(self.measured_classifier, dataset, logits, **self._evaluation_options(description))
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self._clock += time.perf_counter() - start  # images per second are those of training
        self.log(prefixed)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, prefixed)
        return prefixed

    def predict(
        self, test_dataset: Dataset, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Logits and labels of a data set as NumPy arrays, in its order, and their metrics; nothing is logged.

        Args:
            test_dataset: Data set with labels.
            ignore_keys: Not used.
            metric_key_prefix: Prefix of the names of metrics.
        """
        outputs = self.predict_split(test_dataset, None if self.args.disable_tqdm else "predicting")
        measured = metrics.mean_metrics(metrics.sample_metrics(outputs.logits, outputs.labels))
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        return PredictionOutput(outputs.logits.cpu().numpy(), outputs.labels.cpu().numpy(), prefixed)

    def get_eval_dataloader(self, eval_dataset: Dataset | str | None = None) -> DataLoader:  # type: ignore[override]
        """Batches of a data set as evaluation reads them; None for the only one given at construction."""
        images = as_batches(chosen_dataset(eval_dataset, self.eval_dataset), self.classifier.spec.label_names)
        return make_loader(images, images.batch_sampler(self.args.eval_batch_size), **self.args.loading)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """As `get_eval_dataloader`."""
        return self.get_eval_dataloader(test_dataset)

    # ---- logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the named terms and images per second to the Trainer's training logs."""
        if "train_loss" in logs:  # the Trainer divides by the steps since the last resume
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        if "loss" in logs and "learning_rate" in logs:
            logs |= self.averages.drain() | self.extra_logs()
            now = time.perf_counter()
            logs["images_per_second"] = self._images_seen / max(now - self._clock, 1e-9)
            self._images_seen, self._clock = 0, now
        super().log(logs)

    def extra_logs(self) -> dict[str, float]:
        """Scalars that are read only when logging."""
        return {}

    # ---- checkpoints and export

    def begin_sums(self) -> None:
        """Start the clock; forget what an earlier training noted unless this one resumes it."""
        self._images_seen, self._clock = 0, time.perf_counter()
        if not self._restored:
            self.averages.reset()
            if self.best is not None:
                self.best.reset()
        super().begin_sums()

    def check_finite(self) -> None:
        """Raise FloatingPointError if a term or a weight is not finite on any process. This waits for the device."""
        self.averages.check()
        super().check_finite()

    def export(self, folder: str) -> None:
        """Write the classifier as a folder that timm and transformers load."""
        self.check_finite()
        classifier = self.measured_classifier
        state = distributed.gather_shards(classifier.net.state_dict())
        if self.args.should_save:
            save_pretrained(folder, classifier, state)

    def push_to_hub(  # type: ignore[override]  # always blocking, and the first process alone pushes
        self,
        commit_message: str | None = None,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> CommitInfo | None:
        """Export to the output folder and push what belongs on the Hub; all processes must call this.

        Args:
            commit_message: First line of the commit; None for one that names the package.
            token: Token; None for the one in the arguments.
            revision: Branch; None for the one in the arguments.
            private: Whether a new repository is private; None for what the arguments say.

        Returns:
            The commit; None on other processes than the first.

        Raises:
            HubError: If the Hub can't be reached or refuses.
        """
        self.save_model()
        if not self.is_world_process_zero():
            return None
        args = self.args
        self.callback_handler.on_push_begin(args, self.state, self.control)
        return push_to_hub(
            args.output_dir,
            args.hub_repo_id,
            private=args.hub_private_repo if private is None else private,
            revision=revision or args.hub_revision,
            commit_message=commit_message,
            token=token or args.hub_token,
        )
