"""What transformers' Trainer takes and the trainers here don't, with the way to the same end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import EarlyStoppingCallback

from hf_icckd.options.checks import check_number
from hf_icckd.options.training import DistillationTrainingArguments

_NOT_TAKEN = {
    "compute_metrics": "evaluate() and predict() give the metrics of hf_icckd.metrics; for others take "
    "trainer.predict(dataset).predictions, or trainer.predict_split(dataset), which has the embeddings too",
    "preprocess_logits_for_metrics": "metrics are computed from the logits as they are",
    "data_collator": "batches are stacked from the rows of the data set, (image, label) each; change images there",
    "processing_class": "the classifier normalises images itself, and saves how; leave it out",
    "tokenizer": "the classifier normalises images itself, and saves how; leave it out",
    "model_init": "a trainer trains one model; make one trainer for each, with an output_dir of its own",
    "compute_loss_func": "the loss is a sum of named terms; register your own as a term or an objective, see "
    "hf_icckd.losses",
    "optimizers": "args.optim names the optimiser, args.lr_scheduler_type the schedule; or override create_optimizer",
    "optimizer_cls_and_kwargs": "args.optim names the optimiser; or override create_optimizer",
}


def refuse_arguments(trainer: str, names: Iterable[str]) -> None:
    """Raise TypeError for an argument that transformers' Trainer has; without this it would only be unexpected."""
    for name in names:
        if name in _NOT_TAKEN:
            raise TypeError(f"{trainer} takes no {name}: {_NOT_TAKEN[name]}")


def without_early_stopping(callbacks: Iterable[Any], args: DistillationTrainingArguments) -> list[Any]:
    """Callbacks without transformers' `EarlyStoppingCallback`, whose numbers become those of the options.

    It is not called itself: its count of evaluations would be lost at a resume.

    Args:
        callbacks: Objects or classes.
        args: Options, which must ask for the best weights.

    Raises:
        ValueError: If the last weights are kept, or it is a subclass, whose own rules nobody would follow.
    """
    others = []
    for callback in callbacks:
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, EarlyStoppingCallback):
            others.append(callback)
        elif kind is not EarlyStoppingCallback:
            raise ValueError(
                f"callbacks hold {kind.__name__}, which is made from EarlyStoppingCallback, expected that one itself; "
                "set args.early_stopping_patience, or let a callback of your own set control.should_training_stop"
            )
        elif not args.load_best_model_at_end:
            raise ValueError(
                f"callbacks hold {kind.__name__}, which needs metric_for_best_model, expected none that chooses a "
                "best epoch: the last one is what is kept and reported; to keep the best one set "
                "load_best_model_at_end=True and give eval_dataset={'validation': data}; to end sooner set "
                "num_train_epochs, with lr_schedule_epochs for the longer schedule, or let a callback of your own "
                "set control.should_training_stop"
            )
        else:
            given = callback() if isinstance(callback, type) else callback
            check_number("early_stopping_patience", given.early_stopping_patience, 1)
            args.early_stopping_patience = given.early_stopping_patience
            args.early_stopping_threshold = given.early_stopping_threshold or 0.0
    return others
