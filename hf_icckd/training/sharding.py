"""What a trainer needs before accelerate shards its weights over processes (FSDP2)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_icckd.training.resumable import ResumableTrainer

logger = logging.getLogger(__name__)


def prepare_sharding(trainer: ResumableTrainer) -> None:
    """Set what FSDP2 must be told, and move the weights to their device.

    Raises:
        ValueError: If nothing would be sharded, or the net is to be compiled.
    """
    args, state = trainer.args, trainer.accelerator.state
    if not trainer.is_fsdp_enabled:
        raise ValueError(
            f"accelerate was told to use FSDP but shards nothing over {args.world_size} process(es) on "
            f"{args.device.type}, expected several on GPUs; use recipes/accelerate/ddp.yaml"
        )
    if state.dynamo_plugin.backend.value != "NO":
        raise ValueError(
            "torch_compile is true, expected false with FSDP: evaluation calls the uncompiled net, and nothing "
            "gathers the weights there; leave one of them out"
        )
    # FSDP would round weights to half precision in evaluation too. Gathered as they are, autocast computes with them
    # as it does without FSDP.
    state.fsdp_plugin.mixed_precision_policy = None
    if args.channels_last:
        logger.info("sharded weights are in the contiguous memory layout, the only one that torch shards")
    trainer.model.to(args.device)  # the Trainer would do this only when training begins
