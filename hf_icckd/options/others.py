"""What options of other programs are called here, for the error about an unknown one."""

from __future__ import annotations

# Several where both, or one of them, may be meant. An argument of an objective or a term is written as it is given.
ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "base_lr": ("learning_rate",),
    "init_lr": ("learning_rate",),
    "wd": ("weight_decay",),
    "epochs": ("num_train_epochs",),
    "num_epochs": ("num_train_epochs",),
    "steps": ("max_steps",),
    "batch_size": ("per_device_train_batch_size",),
    "train_batch_size": ("per_device_train_batch_size",),
    "eval_batch_size": ("per_device_eval_batch_size",),
    "test_batch_size": ("per_device_eval_batch_size",),
    "workers": ("dataloader_num_workers",),
    "num_workers": ("dataloader_num_workers",),
    "threads": ("num_threads",),
    "arch": ("model",),
    "architecture": ("model",),
    "model_name": ("model",),
    "student": ("model", "terms sftn:student=VALUE"),
    "student_model": ("model",),
    "model_s": ("model",),
    "model_name_or_path": ("model",),
    "teacher_path": ("teacher",),
    "path_t": ("teacher",),
    "kd_model_name": ("teacher",),
    "data": ("dataset",),
    "data_dir": ("dataset",),
    "data_path": ("dataset",),
    "dataset_name": ("dataset",),
    "img_size": ("image_size",),
    "output": ("output_dir",),
    "out_dir": ("output_dir",),
    "save_dir": ("output_dir",),
    "optimizer": ("optim",),
    "opt": ("optim",),
    "scheduler": ("lr_scheduler_type",),
    "sched": ("lr_scheduler_type",),
    "lr_decay_epochs": ("lr_milestones",),
    "milestones": ("lr_milestones",),
    "warmup": ("warmup_steps", "warmup_epochs"),
    "clip_grad": ("max_grad_norm",),
    "ema": ("model_ema",),
    "use_ema": ("model_ema",),
    "ema_decay": ("model_ema_decay",),
    "keep_best": ("load_best_model_at_end",),
    "save_best": ("load_best_model_at_end",),
    "eval_metric": ("metric_for_best_model",),
    "monitor": ("metric_for_best_model",),
    "patience": ("early_stopping_patience",),
    "early_stopping": ("early_stopping_patience",),
    "min_delta": ("early_stopping_threshold",),
    "smoothing": ("label_smoothing",),
    "amp": ("bf16",),
    "compile": ("torch_compile",),
    "torchcompile": ("torch_compile",),
    "resume_from": ("resume", "start_from"),
    "checkpoint": ("resume", "start_from"),
    "initial_checkpoint": ("start_from",),
    "finetune": ("start_from",),
    "drop": ("drop_rate",),
    "dropout": ("drop_rate",),
    "drop_path_rate": ("drop_path",),
    "stochastic_depth": ("drop_path",),
    "llrd": ("layer_decay",),
    "freeze": ("freeze_backbone", "freeze_epochs"),
    "linear_probe": ("freeze_backbone",),
    "eval_every": ("eval_steps",),
    "log_every": ("logging_steps",),
    "accumulation_steps": ("gradient_accumulation_steps",),
    "grad_accum": ("gradient_accumulation_steps",),
    "cpu": ("use_cpu",),
    "no_cuda": ("use_cpu",),
    "aug": ("augmentation",),
    "reprob": ("random_erasing",),
    "auto_augment": ("aa",),
    "autoaugment": ("aa",),
    "rand_augment": ("aa",),
    "randaugment": ("aa",),
    "mixup_alpha": ("mixup",),
    "cutmix_alpha": ("cutmix",),
    "mix_prob": ("mixup_prob",),
    "switch_prob": ("mixup_switch_prob",),
    "class_weight": ("class_weights",),
    "weighted_loss": ("class_weights",),
    "balanced_sampling": ("sampling",),
    "sampler": ("sampling",),
    "weighted_sampler": ("sampling",),
    "logit_adjust": ("logit_adjustment",),
    "tensorboard": ("report_to",),
    "wandb": ("report_to",),
    "name": ("run_name",),
    "trial": ("seed",),
    "quantize": ("formats int8",),
    "reduce_range": ("weight_bits 7",),
    "val_split": ("validation_split",),
    # Names from papers and other programs for distillation.
    "distill": ("objectives",),
    "loss": ("objectives", "terms"),
    "method": ("objectives", "terms"),
    "alpha": ("ce_weight", "objectives kd:weight=VALUE", "terms intra_class:weight=VALUE"),
    "beta": ("objectives kd:weight=VALUE", "terms intra_class:weight=VALUE"),
    "gamma": ("ce_weight",),
    "kd_weight": ("objectives kd:weight=VALUE",),
    "distill_loss_weight": ("objectives kd:weight=VALUE",),
    "task_loss_weight": ("ce_weight",),
    "lambda_param": ("ce_weight", "objectives kd:weight=VALUE"),
    "kd_distill_type": ("objectives",),
    "T": ("objectives kd:temperature=VALUE",),
    "kd_T": ("objectives kd:temperature=VALUE",),
    "kd_temperature": ("objectives kd:temperature=VALUE",),
    "tau": (
        "objectives kd:temperature=VALUE",
        "terms intra_class:temperature=VALUE",
        "logit_adjustment",
    ),
    "temp": ("objectives kd:temperature=VALUE", "terms intra_class:temperature=VALUE"),
    "temperature": ("objectives kd:temperature=VALUE", "terms intra_class:temperature=VALUE"),
    "margin": ("terms intra_class:margin=VALUE",),
}
# What is chosen outside the program, or in another unit.
ELSEWHERE = {
    "mixup_mode": "images are mixed in pairs, timm's mode pair",
    "fp32": "it is the default; half precision is asked for by --bf16 or --fp16",
    "gpus": "processes are started by a launcher: accelerate launch --num_processes 4 recipes/teacher.py ...",
    "device": "a GPU is taken if there is one; --use_cpu true takes the CPU, CUDA_VISIBLE_DEVICES chooses a GPU",
    "gpu": "choose one with the environment variable CUDA_VISIBLE_DEVICES",
    "gpu_ids": "choose them with the environment variable CUDA_VISIBLE_DEVICES, and start one process each with "
    "accelerate launch",
    "nproc_per_node": "it belongs to torchrun: torchrun --nproc_per_node 4 -m hf_icckd.teacher ...",
    "num_processes": "it belongs to accelerate: accelerate launch --num_processes 4 recipes/teacher.py ...",
    "distributed": "processes are started by a launcher: accelerate launch --num_processes 4 recipes/teacher.py ...",
}


def name_here(name: str, known: set[str]) -> str | None:
    """What an option of another program is called here, in words; None if that is not known.

    Args:
        name: The option, without dashes.
        known: Options of this program, without dashes.

    Example:
        >>> name_here("lr", {"learning_rate"})
        'here it is --learning_rate'
    """
    plain = name.replace("-", "_")
    if plain in ELSEWHERE:
        return ELSEWHERE[plain]
    here = [each for each in ALSO_CALLED.get(plain, ()) if each.partition(" ")[0] in known]
    return f"here it is {' or '.join(f'--{each}' for each in here)}" if here else None
