"""Every option of the Trainer takes effect, is refused with its reason, or is listed as having no effect."""

from __future__ import annotations

import contextlib
from dataclasses import fields

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import SaveStrategy
from transformers.training_args import OptimizerNames

from hf_icckd import TeacherTrainingArguments
from hf_icckd.options import training
from hf_icckd.options.refused import REFUSED, WITHOUT_EFFECT, refuse_unread
from hf_icckd.options.schedule import check_schedule
from tests import ROOT

TAKES_EFFECT = {
    # Length, optimiser and schedule.
    "per_device_train_batch_size", "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "gradient_accumulation_steps", "max_grad_norm", "seed", "full_determinism",
    # Computing.
    "bf16", "fp16", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps",
    "use_cpu", "debug", "skip_memory_metrics", "ddp_find_unused_parameters", "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout",
    # Loading.
    "dataloader_pin_memory", "dataloader_num_workers", "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context",
    # Evaluating, logging, saving, publishing.
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
    "eval_strategy", "eval_steps", "eval_delay", "per_device_eval_batch_size", "logging_strategy", "logging_steps",
    "logging_first_step", "log_on_each_node", "log_level", "log_level_replica", "disable_tqdm", "report_to",
    "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "output_dir",
    "save_strategy", "save_steps", "save_total_limit", "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id",
    "hub_revision",
}  # fmt: skip
# Refused by a rule of their own, not by the table.
OWN_RULE = {
    "accelerator_config": {"split_batches": True},
    "hub_strategy": "every_save",
    "remove_unused_columns": True,
    "logging_nan_inf_filter": True,
}
OTHER_VALUES = {"train_sampling_strategy": "sequential", "length_column_name": "width"}


def test_every_option_is_in_exactly_one_group():
    groups = [TAKES_EFFECT, set(REFUSED), set(OWN_RULE), set(WITHOUT_EFFECT)]
    for option in fields(TrainingArguments):
        assert sum(option.name in group for group in groups) == 1, option.name


@pytest.mark.parametrize("name", sorted(REFUSED.keys() & {each.name for each in fields(TrainingArguments)}))
def test_options_of_the_table_are_refused_with_their_reason(tmp_path, name):
    default = {each.name: each for each in fields(TrainingArguments)}[name].default
    value = OTHER_VALUES.get(name, default is not True)
    with pytest.raises(ValueError, match=f"{name} is .*, expected it unset: ") as refused:
        TeacherTrainingArguments(tmp_path, **{name: value})
    assert REFUSED[name] in str(refused.value)


@pytest.mark.parametrize("name", OWN_RULE)
def test_others_are_refused_too(tmp_path, name):
    with pytest.raises(ValueError, match=name):
        TeacherTrainingArguments(tmp_path, **{name: OWN_RULE[name]})


def test_options_that_were_read_before_are_taken_again(tmp_path):
    values = TeacherTrainingArguments(tmp_path, use_cpu=True, num_threads=1).to_dict()
    assert TeacherTrainingArguments(**values).to_dict() == values


def test_options_without_effect_are_taken_and_listed(tmp_path):
    TeacherTrainingArguments(tmp_path, do_train=True, do_eval=True, do_predict=True)
    page = (ROOT / "docs" / "limits.md").read_text()
    assert not [name for name in WITHOUT_EFFECT if f"`--{name}`" not in page]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adam_beta1": 0.8}, "adam_beta1 is 0.8 but optim is 'sgd', which does not read it"),
        ({"optim_args": "a=1"}, "optim_args is 'a=1' but optim is 'sgd'"),
        ({"optim": "adamw_torch", "momentum": 0.8}, "momentum is 0.8 but optim is 'adamw_torch'"),
        ({"optim": OptimizerNames.ADAMW_TORCH, "momentum": 0.8}, "momentum is 0.8 but optim is 'adamw_torch'"),
        ({"save_strategy": SaveStrategy.BEST}, "save_strategy is 'best', expected no, steps or epoch"),
        ({"lr_milestones": [0.5], "lr_scheduler_type": "linear"}, "lr_scheduler_type is 'linear' but lr_milestones"),
        ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type is 'greedy', expected a schedule of steps"),
        (
            {"dataloader_multiprocessing_context": "spawn", "dataloader_num_workers": 0},
            "but dataloader_num_workers is 0",
        ),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "warmup_steps is 5 but lr_scheduler_type is"),
        ({"lr_scheduler_type": "constant", "lr_schedule_epochs": 60}, "lr_schedule_epochs is 60 but lr_schedule"),
        ({"save_steps": 5}, "save_steps is 5 but save_strategy is 'epoch'.*; add --save_strategy steps"),
        ({"eval_steps": 5}, "eval_steps is 5 but eval_strategy is 'epoch'"),
        ({"logging_strategy": "epoch", "logging_steps": 5}, "logging_steps is 5 but logging_strategy is 'epoch'"),
        ({"data_seed": 0, "seed": 1}, "data_seed is 0, expected it unset"),
    ],
)
def test_what_the_choice_does_not_read_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        TeacherTrainingArguments(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "unread"),
    [
        ({"optim": "adamw_torch", "adam_beta1": 0.8, "adam_epsilon": 1e-6}, None),
        ({"optim": "rmsprop", "optim_args": "momentum=0.5"}, None),
        ({"optim": "adafactor", "adam_beta1": 0.8}, "adam_beta1 is 0.8 but optim is 'adafactor', which does not read"),
        ({"optim": "rmsprop", "adam_epsilon": 1e-6}, "adam_epsilon is 1e-06 but optim is 'rmsprop'"),
        ({"optim": "adamw_torch", "optim_args": "a=1"}, "optim_args is 'a=1' but optim is 'adamw_torch'"),
    ],
)
def test_an_optimiser_reads_what_is_given(tmp_path, options, unread):
    args = TeacherTrainingArguments(tmp_path, use_cpu=True, num_threads=1, **options)
    with pytest.raises(ValueError, match=unread) if unread else contextlib.nullcontext():
        refuse_unread(args, args.changed, Trainer.get_optimizer_cls_and_kwargs)


def test_the_number_of_threads_counts_beside_a_gpu_too(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "best_device", lambda: torch.device("cuda"))
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    TeacherTrainingArguments(tmp_path, num_threads=3)
    assert asked == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_scheduler_kwargs": {"foo": 1}}, "lr_scheduler_kwargs is {'foo': 1}, .* 'cosine' takes: .*'foo'"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "kwargs is None, .* takes: .* 'num_decay_steps'"),
        ({"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-3}}, None),
    ],
)
def test_a_schedule_gets_what_it_takes(tmp_path, options, message):
    args = TeacherTrainingArguments(tmp_path, use_cpu=True, num_threads=1, **options)
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        check_schedule(args)


@pytest.mark.parametrize(("name", "value"), [("dataloader_num_workers", -1), ("dataloader_prefetch_factor", 0)])
def test_workers_are_counted(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected a number at least"):
        TeacherTrainingArguments(tmp_path, **{name: value})


def test_options_of_loading_reach_the_loader(tmp_path):
    args = TeacherTrainingArguments(
        tmp_path, dataloader_num_workers=2, dataloader_prefetch_factor=3, dataloader_multiprocessing_context="spawn"
    )
    assert args.loading == {
        "num_workers": 2,
        "prefetch_factor": 3,
        "multiprocessing_context": "spawn",
        "pin_memory": False,  # on a CPU
    }
