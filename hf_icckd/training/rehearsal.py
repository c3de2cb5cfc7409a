"""The rehearsal: before the first step, all is tried that could otherwise fail at the end of an epoch or a run."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hf_icckd.data.loading import make_loader
from hf_icckd.data.plain import as_batches, first_dataset
from hf_icckd.data.sampling import BatchDataset, BatchKey
from hf_icckd.data.streamed import StreamBatchSampler
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.split import split_metrics
from hf_icckd.models.classifier import ClassifierSpec
from hf_icckd.models.pretrained import WEIGHTS_FILE
from hf_icckd.models.reload import check_reload
from hf_icckd.options.schedule import steps_in_epoch, training_steps
from hf_icckd.runs import checkpoints
from hf_icckd.training.resumable import OPTIMIZER_FILE
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.training.untouched import untouched
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import contiguous_state, existing_folder

logger = logging.getLogger(__name__)

_STEP_ROWS, _EVALUATION_ROWS = 2, 4  # images per process
_LONGEST, _END = 400, 140  # characters of a message, and of its end if it has to be shortened
_LEAVE_OUT = "; --rehearsal false leaves the rehearsal out"


def rehearse(trainer: DistillationTrainer) -> None:
    """Try saving, a training step, an evaluation, the cost metrics and a checkpoint, unless `rehearsal` is false.

    The trainer and all that it trains stay as they are, bit for bit. Nothing is compiled. All processes call this
    together.

    Raises:
        ValueError: If something can't work, or nothing is evaluated that the best weights could be chosen by; the
            message has the reason.
        FloatingPointError: If the loss or a gradient is not finite.
        OSError: If there is no room for a checkpoint.
    """
    args = trainer.args
    distributed.check_equal(
        {
            "rehearsal": args.rehearsal,
            "model": trainer.classifier.spec.architecture,
            "terms": trainer.term_weights,
            "per_device_train_batch_size": args.per_device_train_batch_size,
        }
    )
    if not args.rehearsal:
        return
    start = time.perf_counter()
    if trainer.best is not None:
        batches = len(trainer.train_dataset.batch_sampler(args.train_batch_size, args.seed))
        steps_per_epoch = steps_in_epoch(batches, args)
        steps = training_steps(args.num_train_epochs, args.max_steps, steps_per_epoch)
        trainer.best.check_evaluated(steps, steps_per_epoch)
    with untouched(trainer), torch.compiler.set_stance("force_eager"):
        for name, part in _PARTS.items():
            began = time.perf_counter()
            with _one_line(name):
                part(trainer)
            logger.debug("rehearsal of %s: %.2f s", name, time.perf_counter() - began)
    logger.info("rehearsal: %.1f s", time.perf_counter() - start)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Context that turns any error into one line that names the part of the rehearsal."""
    try:
        yield
    except (FloatingPointError, OSError):  # the program says what to do about these
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and distributed.is_lost_connection(error):
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        text = f"{name} would fail: {kind}{' '.join(str(error).split())}"
        room = _LONGEST - len(_LEAVE_OUT)
        if len(text) > room:  # the end stays: it often has the fix
            text = f"{text[: room - _END - 5]} ... {text[-_END:]}"
        raise ValueError(text + _LEAVE_OUT) from error


class FirstImages(BatchDataset):
    """The first images of a data set's first batch, equally many on every process."""

    resident = True  # starting loading workers would take longer than reading the images

    def __init__(self, dataset: BatchDataset, rows: int):
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return min(self.rows * distributed.world_size(), len(self.dataset))

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The batch of the data set."""
        return self.dataset.__getitems__(key)

    def for_classifier(self, spec: ClassifierSpec) -> FirstImages:
        """The same images as a classifier wants them."""
        return FirstImages(self.dataset.for_classifier(spec), self.rows)

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> Any:
        """The one key, which holds at most the number of images that was asked for."""
        key = next(iter(self.dataset.batch_sampler(batch_size, seed)))
        rows = min(self.rows, key.global_rows // distributed.world_size())
        if rows == 0:  # fewer images than processes
            return [key]
        stored = None if key.rows is None else key.rows[:rows]
        return [BatchKey(key.epoch, key.indices[:rows], rows * distributed.world_size(), stored)]


# ---- parts


def _reload(trainer: DistillationTrainer) -> None:
    distributed.on_first_rank(lambda: check_reload(trainer.measured_classifier))


def _step(trainer: DistillationTrainer) -> None:
    """One step with as few images as a batch may have; what fails only with those few is tried with a whole batch."""
    smallest = _smallest_batch(trainer)
    rows = min(_STEP_ROWS, smallest)
    try:
        _try_step(trainer, rows)
    except Exception as error:
        # Other processes may be waiting in the middle of the step, unless all know that something is not finite.
        if rows == smallest or (distributed.world_size() > 1 and not isinstance(error, FloatingPointError)):
            raise
        _try_step(trainer, trainer.args.train_batch_size)


def _smallest_batch(trainer: DistillationTrainer) -> int:
    """Fewest images that a process gets in any step of the run."""
    args = trainer.args
    sampler = trainer.train_dataset.batch_sampler(args.train_batch_size, args.seed)
    last = sampler.num_used % sampler.global_batch_size
    comes_to_it = args.max_steps <= 0 or args.max_steps * args.gradient_accumulation_steps >= len(sampler)
    return last // sampler.world if last and comes_to_it else min(args.train_batch_size, len(trainer.train_dataset))


def first_batch(trainer: DistillationTrainer, rows: int) -> dict[str, Any]:
    """The first images of the training, at most so many for this process; a student's with its teacher's pixels."""
    args = trainer.args
    # A student's own data set, without the teacher's recorded outputs: reading those would need them recorded.
    dataset = trainer.train_dataset
    if isinstance(trainer, StudentTrainer) and trainer.targets is not None:
        dataset = trainer.live_dataset.with_teacher(trainer.teacher.spec)
    first = FirstImages(dataset, rows)
    streamed = isinstance(dataset.batch_sampler(args.train_batch_size), StreamBatchSampler)
    seed = None if streamed else args.seed  # in order: shuffling reads far ahead
    return next(iter(make_loader(first, first.batch_sampler(args.train_batch_size, seed))))


def _try_step(trainer: DistillationTrainer, rows: int) -> None:
    model, args = trainer.model, trainer.args
    batch = trainer._prepare_input(first_batch(trainer, rows))
    if isinstance(trainer, StudentTrainer):
        trainer.tune_objectives(trial=True)
    model.train()
    model.zero_grad()
    trainer.averages.reset()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, batch)
    _check_finite(_scalars(trainer), batch["global_rows"])
    loss.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not args.fp16:  # without its scaling, half precision overflows at times
        gradients = {name: each.grad for name, each in trained.items() if each.grad is not None}
        _check_finite({f"the gradient of {name}": value for name, value in gradients.items()}, batch["global_rows"])
    if missing := [name for name, parameter in trained.items() if parameter.grad is None]:
        _explain(trainer, missing, batch["pixel_values"][:, 0])


def _scalars(trainer: DistillationTrainer) -> dict[str, Tensor]:
    """Terms of the step that was just tried."""
    sums = trainer.averages.sums
    return {} if sums is None else dict(zip(trainer.averages.names, sums, strict=True))


def _check_finite(values: dict[str, Tensor], images: int) -> None:
    if wrong := distributed.not_finite(values, "a term of another process"):
        raise FloatingPointError(
            f"{wrong} is not finite for the first {images} images, before any training; train in float32, lower the "
            f"term's weight, or start from other weights{_LEAVE_OUT}"
        )


def _explain(trainer: DistillationTrainer, missing: list[str], images: Tensor) -> None:
    """Raise ValueError if parameters that get no gradient should get one, or DDP would wait for it; else warn."""
    args, net, architecture = trainer.args, trainer.classifier.net, trainer.classifier.spec.architecture
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    with trainer.compute_loss_context_manager():
        outputs = net(trainer.classifier.preprocess(images))
    torch.stack([tensor.float().sum() for tensor in tree_leaves(outputs)]).sum().backward()
    read = {names[parameter] for parameter in net.parameters() if parameter.grad is not None}
    lost = [name for name in missing if name in read]
    if lost:
        raise ValueError(
            f"{_count(lost)} would never be trained: no term of the loss reads what {architecture} computes with it; "
            "choose another --model"
        )
    if args.world_size > 1 and not (args.sharded or args.ddp_find_unused_parameters):
        raise ValueError(
            f"{_count(missing)} gets no gradient, and DDP would wait for it; give --ddp_find_unused_parameters true"
        )
    logger.warning("%s gets no gradient and keeps its first value: nothing in the net reads it", _count(missing))


def _count(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {len(names)} parameters ({names[0]}, ...)"


def _evaluation(trainer: DistillationTrainer) -> None:
    dataset = first_dataset(trainer.eval_dataset)
    if dataset is None:
        return
    first = FirstImages(as_batches(dataset, trainer.classifier.spec.label_names), _EVALUATION_ROWS)
    outputs, teacher = trainer.predict_split(first), trainer.evaluation_teacher(first)
    for name, each in (("net", outputs), ("teacher", teacher)):
        if each is not None and not each.logits.isfinite().all():
            raise ValueError(f"logits of the {name} are not finite; take another --model or other weights")
    split_metrics(outputs, teacher)


def _cost(trainer: DistillationTrainer) -> None:
    distributed.on_first_rank(lambda: cost_metrics(trainer.measured_classifier, repeats=1))


def _checkpoint(trainer: DistillationTrainer) -> None:
    """Write what a checkpoint holds beside the run's folder, read it again and remove it."""
    extra = further_state(trainer)  # all processes together
    distributed.on_first_rank(lambda: _try_checkpoint(trainer, extra))


def further_state(trainer: DistillationTrainer) -> dict[str, Tensor]:
    """What a checkpoint will hold beside weights and optimiser, as after an evaluation; all processes together."""
    if trainer.best is not None:
        trainer.best.keep()
    return checkpoints.state_of(trainer.stateful)


def _try_checkpoint(trainer: DistillationTrainer, extra: dict[str, Tensor]) -> None:
    state: dict[str, Any] = {"weights": trainer.model.state_dict(), "extra": extra}
    # One that was given has a state of its own; shards would be those of other weights.
    optimizer = None if trainer.optimizer is not None or trainer.args.sharded else trainer.create_optimizer()
    if optimizer is not None:
        optimizer.step()  # the first step makes its state
        state["optimizer"] = optimizer.state_dict()
    place = existing_folder(Path(trainer.args.output_dir))
    saves = trainer.args.save_strategy != "no"
    _check_room(trainer, place, checkpoints.size_of(state if saves else state["weights"]))
    with tempfile.TemporaryDirectory(dir=place, prefix=checkpoints.REHEARSED) as name:
        folder = Path(name)
        save_file(contiguous_state(state["weights"]), folder / WEIGHTS_FILE, metadata={"format": "pt"})
        if not saves:
            return
        trainer._load_from_checkpoint(name)
        save_file(contiguous_state(extra), folder / checkpoints.STATE_FILE)
        if optimizer is not None:
            torch.save(state["optimizer"], folder / OPTIMIZER_FILE)
            optimizer.load_state_dict(torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True))


def _check_room(trainer: DistillationTrainer, place: Path, one: int) -> None:
    free, limit = shutil.disk_usage(place).free, trainer.args.save_total_limit
    if free < one:
        raise OSError(f"{str(place)!r} has {free / 1e6:.1f} MB free, and a checkpoint takes {one / 1e6:.1f} MB")
    # A new checkpoint is complete before the oldest one is removed.
    more = (limit or 1) + 1 - len(checkpoints.checkpoints(trainer.args.output_dir))
    if free < more * one:
        logger.warning(
            "%s has %.1f MB free: too little for %d checkpoints of %.1f MB each; --save_total_limit 1 keeps only one",
            place, free / 1e6, more, one / 1e6,
        )  # fmt: skip


# The checkpoint comes last: its optimiser changes the weights.
_PARTS: dict[str, Callable[[DistillationTrainer], None]] = {
    "a training step": _step,
    "an evaluation": _evaluation,
    "the measurement of the cost": _cost,
    "loading the saved model": _reload,
    "writing and reading a checkpoint": _checkpoint,
}
