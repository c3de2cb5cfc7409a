"""What the launcher set in the environment, and a check that the trainers support it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from hf_icckd.utils.distributed import processes_here

NO_DEEPSPEED = (
    "the class cache and exact resume don't work with it; use recipes/accelerate/ddp.yaml, for "
    "large teachers fsdp2.yaml"
)

_MOST_WORKERS = 16
_LAUNCHERS = ("LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
# Allowed values of accelerate's FSDP options, and why no others. If unset, accelerate uses FSDP version 1 and the
# first option of each list.
_FSDP_SETTINGS = {
    "version": (("2",), "FSDP1 flattens weights, so no weight has its own weight decay or checkpoint"),
    "auto_wrap_policy": (
        ("no_wrap", "transformer_based_wrap"),
        "wrapping by size would shard modules of which only parts are called",
    ),
    "cpu_ram_efficient_loading": (("false",), "accelerate can't do it for nets with buffers, such as BatchNorm's"),
    "offload_params": (("false",), "weights would be on another device than the images and the class cache"),
    "activation_checkpointing": (("false",), "BatchNorm would see every batch twice"),
    "ignored_modules": (("unset",), "their gradients would not be averaged"),
}


def check_launcher() -> None:
    """Raise ValueError if the launcher asks for what the trainers don't support, or the environment is incomplete."""
    for name in ("DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if accelerate_uses(name):
            raise ValueError(f"accelerate was told to use {name}, expected DDP or FSDP2: {NO_DEEPSPEED}")
    for name, (expected, reason) in _FSDP_SETTINGS.items() if accelerate_uses("FSDP") else ():
        value = os.environ.get(f"FSDP_{name.upper()}", "1" if name == "version" else expected[0])
        if value.lower() not in expected:
            raise ValueError(
                f"fsdp_{name} is {value}, expected {' or '.join(expected)}: {reason}; use "
                "recipes/accelerate/fsdp2.yaml"
            )
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} are not set; start through torchrun "
            "or accelerate launch, or unset WORLD_SIZE"
        )


def threads_per_process(asked: int | None, cores: int) -> tuple[int, str]:
    """CPU threads that each process takes, and where that number comes from.

    Launchers set OMP_NUM_THREADS to 1 where nobody has set it, so a 1 below a launcher is nobody's choice.

    Args:
        asked: Value of `--num_threads`; None if it was not given.
        cores: Cores that this process may use.

    Raises:
        ValueError: If OMP_NUM_THREADS counts and is no number.
    """
    if asked is not None:
        return asked, "--num_threads"
    found = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested threads
    launched = any(name in _LAUNCHERS or name.startswith("ACCELERATE_") for name in os.environ)
    if found and not (launched and found == "1"):
        if not found.isdecimal() or int(found) == 0:
            raise ValueError(f"OMP_NUM_THREADS is {found!r}, expected a whole number; correct or unset it")
        return int(found), "OMP_NUM_THREADS"
    processes = processes_here()
    return max(1, cores // processes), f"{cores} core(s) for {processes} process(es)"


def loading_workers(asked: int | None, cores: int) -> int:
    """Processes that decode images for each process: as many as asked for, else one less than it has cores.

    By default there are 16 at most. Where Python does not fork, workers import the script that was started. A script
    of the user's may not stand that, so there it gets none.

    Args:
        asked: Value of the option; None if it was not given.
        cores: Cores that this process may use.
    """
    if asked is not None:
        return asked
    main = sys.modules["__main__"]
    # A debugger's has no __spec__. On Windows the command is a zip file, and its script lies inside of it.
    module, script = getattr(getattr(main, "__spec__", None), "name", ""), Path(getattr(main, "__file__", None) or "")
    command = "hf-icckd" in (script.stem, script.parent.stem)
    ours = module.partition(".")[0] == "hf_icckd" or command or script.parent.name == "recipes"
    # Asked in a way that leaves it open: a script may choose later.
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if not ours and method != "fork":
        return 0
    processes = processes_here()
    return min(max(0, cores // processes - 1), _MOST_WORKERS)


def accelerate_uses(what: str) -> bool:
    """Whether `accelerate launch` was told to use a backend, such as FSDP."""
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() in ("true", "1")
