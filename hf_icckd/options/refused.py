"""Options of the transformers Trainer that are refused, each with its reason, and the few that have no effect."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import HubStrategy

from hf_icckd.options.checks import default_of
from hf_icckd.options.launcher import NO_DEEPSPEED

_NO_RECOMPUTING = (
    "BatchNorm would see every batch twice; lower per_device_train_batch_size and raise gradient_accumulation_steps"
)
_LANGUAGE = "it is for language models"
_OWN_ORDER = "the seed alone determines the order of the images"
_OWN_EVALUATION = "evaluation is this package's own: it measures each split in one pass, with fixed metrics"
# Trainer options that would break a promise of this package, with the reason that the user is told.
REFUSED = {
    "eval_on_start": "a resumed run would evaluate once more than an uninterrupted one",
    "auto_find_batch_size": "the batch size decides the result; lower per_device_train_batch_size and raise "
    "gradient_accumulation_steps yourself",
    "deepspeed": NO_DEEPSPEED,
    "fsdp": "sharding is configured through accelerate; use recipes/accelerate/fsdp2.yaml",
    "gradient_checkpointing": _NO_RECOMPUTING,
    "activation_checkpointing": _NO_RECOMPUTING,  # its name in newer versions of transformers
    "use_liger_kernel": _LANGUAGE,
    "neftune_noise_alpha": _LANGUAGE,
    "label_smoothing_factor": "use --label_smoothing, which knows about views",
    "bf16_full_eval": "evaluation is in the precision of the weights: half-precision logits tie, which costs accuracy",
    "fp16_full_eval": "evaluation is in the precision of the weights: half-precision logits tie, which costs accuracy",
    "dataloader_drop_last": "no image is left out of an epoch, except a remainder too small for a batch",
    "data_seed": "--seed determines the order of the images too",
    "resume_from_checkpoint": "--resume auto takes the newest intact checkpoint in output_dir",
    "ignore_data_skip": "a resumed run would see other images than an uninterrupted one",
    "restore_callback_states_from_checkpoint": "it would stop a resumed run where it was stopped before",
    "save_only_model": "a run could not resume from such checkpoints; the last weights are written anyway",
    "save_on_each_node": "checkpoints are written once; give an output_dir that all machines share",
    "enable_jit_checkpoint": "its checkpoints are not atomic",
    "hub_always_push": "only finished runs are pushed",
    "activation_checkpointing_kwargs": _NO_RECOMPUTING,
    "gradient_checkpointing_kwargs": _NO_RECOMPUTING,
    "liger_kernel_config": _LANGUAGE,
    "use_cache": _LANGUAGE,
    "include_num_input_tokens_seen": _LANGUAGE,
    "average_tokens_across_devices": "a loss is a mean over images, of which every process has its share",
    "fsdp_config": "sharding is configured through accelerate; use recipes/accelerate/fsdp2.yaml",
    "parallelism_config": NO_DEEPSPEED,
    "optim_target_modules": "weights are decayed by the kind of parameter and not by the names of modules",
    "dataloader_in_order": "the order of the batches decides the result",
    "train_sampling_strategy": _OWN_ORDER,
    "length_column_name": _OWN_ORDER,
    "label_names": "the names of the classes come from the data; --classes chooses some of them",
    "prediction_loss_only": _OWN_EVALUATION,
    "include_for_metrics": _OWN_EVALUATION,
    "batch_eval_metrics": _OWN_EVALUATION,
    "eval_do_concat_batches": _OWN_EVALUATION,
    "eval_use_gather_object": _OWN_EVALUATION,
    "eval_accumulation_steps": _OWN_EVALUATION,
}
# Options that may be given and change nothing, because what they ask for is done in any case.
WITHOUT_EFFECT = {
    "do_train": "a recipe always trains",
    "do_eval": "--eval_strategy says when a run is evaluated; at its end it always is",
    "do_predict": "the test split is always measured at the end",
    "dataloader_persistent_workers": "loading workers always live as long as the training",
    "local_rank": "launchers say it in the environment",
}
_MUST_STAY_FALSE = {
    "remove_unused_columns": "batches carry sample ids",
    "logging_nan_inf_filter": "a non-finite loss stops the run",
}
_OF_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon", "optim_args")
_UNREAD_BY_SCHEDULE = {
    "constant": ("warmup_steps", "warmup_epochs", "lr_schedule_epochs", "lr_scheduler_kwargs"),
    "constant_with_warmup": ("lr_scheduler_kwargs",),
}


def refuse(args: TrainingArguments, changed: Mapping[str, Any]) -> None:
    """Raise ValueError for the first option that would break a promise of this package or change nothing.

    Args:
        args: Options, before transformers has completed them.
        changed: Those that differ from their defaults.
    """
    defaults = {each.name: default_of(each) for each in fields(args)}
    for name in filter(REFUSED.__contains__, changed):
        if changed[name] or defaults[name] or type(changed[name]) is int:  # transformers turns some None into False
            raise ValueError(f"{name} is {changed[name]!r}, expected it unset: {REFUSED[name]}")
    given = changed.get("accelerator_config")
    default = vars(AcceleratorConfig())
    values = given if isinstance(given, Mapping) or not given else getattr(given, "__dict__", {"": given})
    if values and any(name not in default or value != default[name] for name, value in values.items()):
        raise ValueError(
            f"accelerator_config is {given!r}, expected it unset: batches are cut by this package, not by accelerate"
        )
    for name, reason in _MUST_STAY_FALSE.items():
        if getattr(args, name):
            raise ValueError(f"{name} is true, expected false: {reason}")
    # Compared without str(): a member of transformers' enumeration equals its word, but reads SaveStrategy.BEST.
    if args.save_strategy == "best":
        raise ValueError(
            "save_strategy is 'best', expected no, steps or epoch: a run resumes from its newest checkpoint, and with "
            "load_best_model_at_end each of them holds the best weights so far"
        )
    if HubStrategy(args.hub_strategy) != HubStrategy.END:
        raise ValueError(
            f"hub_strategy is {HubStrategy(args.hub_strategy).value!r}, expected end: only finished runs are "
            "pushed, by --push_to_hub or later by `hf-icckd push FOLDER`"
        )
    _refuse_unused(args, changed)


def _refuse_unused(args: TrainingArguments, changed: Mapping[str, Any]) -> None:
    """Raise ValueError for options of the optimiser or of the schedule that the chosen one does not read."""
    schedule = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    if any(word in schedule for word in ("plateau", "greedy")):
        raise ValueError(
            f"lr_scheduler_type is {schedule!r}, expected a schedule of steps: test data would decide about the "
            "training"
        )
    if args.optim == "sgd" and (unused := [name for name in _OF_ADAM if name in changed]):
        raise ValueError(
            f"{unused[0]} is {changed[unused[0]]!r} but optim is 'sgd', which does not read it; leave it out, or "
            "choose another optimiser, such as --optim adamw_torch"
        )
    if args.optim != "sgd" and "momentum" in changed:
        optim = getattr(args.optim, "value", args.optim)
        raise ValueError(
            f"momentum is {changed['momentum']} but optim is {optim!r}, which does not read it; leave it out"
        )
    for name in _UNREAD_BY_SCHEDULE.get(schedule, ()):
        if name in changed:
            raise ValueError(
                f"{name} is {changed[name]!r} but lr_scheduler_type is {schedule!r}, which does not read it; leave it "
                "out, or choose another schedule, such as --lr_scheduler_type constant_with_warmup or cosine"
            )
    for what in ("eval", "save", "logging"):
        strategy = getattr(args, f"{what}_strategy")
        if f"{what}_steps" in changed and getattr(strategy, "value", strategy) == "epoch":
            raise ValueError(
                f"{what}_steps is {changed[f'{what}_steps']} but {what}_strategy is 'epoch', which does not read it; "
                f"add --{what}_strategy steps, or leave it out"
            )
    context = changed.get("dataloader_multiprocessing_context")
    if context and not args.dataloader_num_workers:
        raise ValueError(
            f"dataloader_multiprocessing_context is {context!r} but dataloader_num_workers is 0: there are no workers "
            "to start; give their number, or leave the option out"
        )
    if getattr(args, "lr_milestones", None) and (
        unused := [n for n in ("lr_scheduler_type", "lr_scheduler_kwargs") if n in changed]
    ):
        raise ValueError(
            f"{unused[0]} is {changed[unused[0]]!r} but lr_milestones are given, which take its place; leave one of "
            "them out"
        )


def refuse_unread(
    args: TrainingArguments, changed: Mapping[str, Any], read: Callable[[TrainingArguments], Any]
) -> None:
    """Raise ValueError for an option of the optimiser that the chosen one does not read.

    Args:
        args: Options.
        changed: Those that differ from their defaults.
        read: Returns the optimiser and its arguments for some options; its errors are passed on.
    """
    defaults = {each.name: default_of(each) for each in fields(args)}
    found = read(args)
    for name in filter(changed.__contains__, _OF_ADAM):
        without = copy.copy(args)
        setattr(without, name, defaults[name])
        if read(without) == found:
            raise ValueError(
                f"{name} is {changed[name]!r} but optim is {getattr(args.optim, 'value', args.optim)!r}, which does "
                "not read it; leave it out"
            )
