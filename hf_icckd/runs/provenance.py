"""Provenance of a run: device, processor, precision, versions, and the command that started it."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import accelerate
import timm
import torch
import transformers

from hf_icckd._version import __version__
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.utils.machine import processor_name


def device_name(args: DistillationTrainingArguments) -> str:
    """Name of the GPU, or the CPU's architecture and instruction set."""
    cpu = f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else cpu


def how_computed(args: DistillationTrainingArguments) -> str:
    """Precision, layout and device, with a hint if another precision is faster. It changes results: users choose."""
    layout = "channels last" if args.channels_last else "channels first"
    text = f"{args.precision}, {layout}, on {args.world_size} x {device_name(args)}"
    if args.device.type == "cpu":
        text += f", {torch.get_num_threads()} thread(s) ({args.threads_from})"
        slow, fast = _bf16_on_cpu()
    else:
        slow, fast = False, torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if fast and args.precision == "float32":
        text += "; --bf16 true may be faster here"
    elif slow and args.precision == "bf16":
        text += "; this CPU emulates bf16 at a fraction of the speed of float32: leave --bf16 out"
    return text


def _bf16_on_cpu() -> tuple[bool, bool]:
    """Whether bf16 is far slower than float32, and whether it is faster; False for both if unknown.

    oneDNN computes bf16 with AVX-512 even without instructions for it. Below AVX-512 torch does not use oneDNN.
    """
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    slow = known.get("avx512_f") is False and not known.get("avx_ne_convert")
    return slow, bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def environment(args: DistillationTrainingArguments) -> dict[str, Any]:
    """Versions, hardware and command line, as metrics.json holds them."""
    return {
        "hf_icckd": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
        "device": device_name(args),
        "processor": processor_name(),
        "processes": args.world_size,
        "threads": torch.get_num_threads(),
        "command": command_line(),
    }


def command_line() -> str:
    """The command line of this run, without secrets and without the path of the program."""
    words, secret = [], False
    for word in sys.argv[1:]:
        names_a_token = word.startswith("--") and "token" in word.partition("=")[0]
        if not secret and not names_a_token:
            words.append(word)
        secret = names_a_token and "=" not in word
    program = Path(sys.argv[0]).stem
    start = program if program == "hf-icckd" else f"python -m hf_icckd.{program}"
    return f"{start} {shlex.join(words)}".rstrip()
