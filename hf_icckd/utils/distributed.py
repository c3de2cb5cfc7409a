"""Rank-ordered collectives over `torch.distributed`; every function is a no-op on one process."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process, 0 to `world_size() - 1`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def even_split(total: int, parts: int) -> list[int]:
    """Sizes of `parts` consecutive slices of `total` rows: as even as possible, larger ones first."""
    size, remainder = divmod(total, parts)
    return [size + (index < remainder) for index in range(parts)]


@torch.no_grad()
def gather_rows(tensor: Tensor, global_rows: int) -> Tensor:
    """Concatenate the rows of all ranks in rank order, without gradient.

    Rank r holds `even_split(global_rows, world_size())[r]` rows, as the batch sampler cuts them. So no sizes are
    exchanged, and the host does not wait for the device.

    Args:
        tensor: (n, ...) rows of this rank.
        global_rows: Number of rows over all ranks.

    Returns:
        (global_rows, ...) the same tensor on every rank; on one process the detached input.

    Raises:
        ValueError: If this rank does not hold its share of `global_rows`.
    """
    world = world_size()
    sizes = even_split(global_rows, world)
    if tensor.shape[0] != sizes[rank()]:
        raise ValueError(
            f"rank {rank()} holds {tensor.shape[0]} rows, expected {sizes[rank()]} of a global batch of {global_rows} "
            f"on {world} processes; cut global batches with hf_icckd.data.sampling.KeyedBatchSampler"
        )
    tensor = tensor.detach()
    if world == 1:
        return tensor
    if tensor.shape[0] < sizes[0]:
        # Collectives want equal shapes: pad by one row, dropped again below.
        tensor = F.pad(tensor, [0, 0] * (tensor.ndim - 1) + [0, sizes[0] - tensor.shape[0]])
    gathered = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world)]
    dist.all_gather(gathered, tensor.contiguous())
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])


def gather_rows_with_gradient(tensor: Tensor, global_rows: int) -> Tensor:
    """`gather_rows` with a gradient to the rows of this rank.

    Relations:
        For losses that every rank computes in the same way on the gathered rows. All ranks then hold the same
        gradient, so its sum over ranks is a multiple of their own and needs no communication. The factor is
        `global_rows / rows`: a loss that is multiplied by `local_share` (by the trainers) and averaged over ranks (by
        DistributedDataParallel) then has the gradient of one process on the whole batch.
    """
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor, global_rows)


def local_share(local_rows: int, global_rows: int) -> float:
    """Weight of this rank's mean that makes the mean over ranks the mean over all rows; 1.0 if shares are even."""
    return local_rows * world_size() / global_rows


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Element-wise mean of a tensor over ranks."""
    return tensor if world_size() == 1 else sum_over_ranks(tensor) / world_size()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Element-wise sum of a tensor over ranks."""
    if world_size() == 1:
        return tensor
    tensor = tensor.clone()
    dist.all_reduce(tensor)
    return tensor


def minimum_over_ranks(tensor: Tensor) -> Tensor:
    """Element-wise minimum of a tensor over ranks."""
    if world_size() == 1:
        return tensor
    tensor = tensor.clone()
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return tensor


def broadcast_buffers(module: nn.Module) -> None:
    """Copy the buffers of rank 0 to all ranks: training does not average BatchNorm's statistics, for example."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather_ranks(tensor: Tensor) -> Tensor:
    """Stack the tensors of all ranks, of equal shape, to (world size, ...) on every rank."""
    return gather_rows(tensor[None], world_size())


def own_part(gathered: Tensor) -> Tensor:
    """Return what this rank gave to `gather_ranks`; the mean if the number of ranks has changed since."""
    return gathered[rank()] if len(gathered) == world_size() else gathered.mean(dim=0)


def gather_shards(state: T) -> T:
    """Replace sharded tensors (FSDP2) by full ones on the first rank; all ranks must call this.

    Args:
        state: Nested dicts and lists, as `state_dict()` returns them.

    Returns:
        The state with full tensors on the CPU of the first rank, and empty ones in their place on the others. Tensors
        that are not sharded are neither copied nor sent.
    """

    def on_first_rank_only(shard: DTensor) -> Tensor:
        tensor = shard.detach().full_tensor()  # type: ignore[attr-defined]  # one at a time, so that no device holds more
        return tensor.cpu() if rank() == 0 else tensor.new_empty(0)

    return tree_map_only(DTensor, on_first_rank_only, state)


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor of a sharded one (FSDP2) on every rank, which all must call; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor  # type: ignore[attr-defined]


def shard_like(tensor: Tensor, other: Any) -> Tensor:
    """Cut from a full tensor the shard that this rank holds of `other`.

    A tensor that is a shard already, or whose counterpart is not sharded, is returned as it is.
    """
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor) or tensor.shape != other.shape:
        return tensor
    # Every rank has the full tensor, so nothing is sent. Cloned, or the shard would keep all of it in memory.
    return distribute_tensor(tensor.contiguous(), other.device_mesh, other.placements, src_data_rank=None).clone()


def own_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor, or the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def processes_here() -> int:
    """Number of processes of the run on this machine, which share its cores and memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. Ranks wait for each other but not for the device."""
    return bool(maximum_over_ranks(flag))


def maximum_over_ranks(number: int) -> int:
    """Largest of the ranks' numbers, 0 to 255. Ranks wait for each other but not for the device."""
    if world_size() == 1:
        return number
    numbers = torch.tensor([number], dtype=torch.uint8)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX, group=_host_group(dist.group.WORLD))
    return int(numbers.item())


def not_finite(values: dict[str, Tensor], another: str) -> str | None:
    """Name of the first tensor that is not finite; None if all are, on every rank. This waits for the device.

    Args:
        values: Tensors by name.
        another: What to return where only another rank has such a tensor.
    """
    finite = torch.stack([value.isfinite().all() for value in values.values()]).tolist()
    wrong = next((name for name, is_finite in zip(values, finite, strict=True) if not is_finite), None)
    return wrong or another if any_rank(wrong is not None) else None


def on_first_rank(function: Callable[[], T]) -> T:
    """Call a function on the first rank and return its result (plain data) on all; its error, or exit, ends all."""
    if world_size() == 1:
        return function()
    result, error = None, None
    if rank() == 0:
        try:
            result = function()
        # Raised below, after the others know: they must not wait for the result. A UserError is a SystemExit.
        except (Exception, SystemExit) as caught:
            error = caught
    shared = [(result, error is not None)]
    dist.broadcast_object_list(shared, src=0)
    if error is not None:
        raise error
    result, failed = shared[0]
    if failed:
        raise SystemExit(1)  # the first rank prints the error
    return cast(T, result)


def check_equal(values: dict[str, Any]) -> None:
    """Raise ValueError on every rank unless all ranks hold the same plain data; the message names the difference."""
    if world_size() == 1:
        return
    gathered: list[dict[str, Any]] = [{}] * world_size()
    dist.all_gather_object(gathered, values)
    for other, theirs in enumerate(gathered):
        for name in sorted({*theirs, *gathered[0]}):
            if theirs.get(name) != gathered[0].get(name):
                raise ValueError(
                    f"process {other} has {name} {theirs.get(name)!r}, process 0 {gathered[0].get(name)!r}; start all "
                    "processes with the same command on the same data"
                )


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error means that another process is unreachable."""
    return isinstance(error, dist.DistError) or (world_size() > 1 and "gloo" in str(error))


@functools.cache
def _host_group(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """Return a group whose collectives work on CPU tensors, so that they don't wait for the device."""
    if "cpu:" in dist.get_backend_config():
        return world
    return cast(dist.ProcessGroup, dist.new_group(backend="gloo"))  # every rank is a member


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


@functools.cache
def leave_at_exit() -> None:
    """Leave the process group when the program ends, unless an error ends it: others may wait for this process then.

    Without it a thread of Gloo that still holds a tensor while the interpreter is taken apart aborts the program
    (https://github.com/pytorch/pytorch/issues/190489).
    """
    atexit.register(_leave)


def _leave() -> None:
    if not (dist.is_available() and dist.is_initialized()) or hasattr(sys, "last_value"):
        return
    # The threads end with the last reference to the group. Trainers hold some, in cycles.
    _host_group.cache_clear()
    gc.collect()
    dist.destroy_process_group()


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, global_rows: int) -> Tensor:
        sizes = even_split(global_rows, world_size())
        ctx.start = sum(sizes[: rank()])
        ctx.rows, ctx.global_rows = sizes[rank()], global_rows
        return gather_rows(tensor, global_rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient[ctx.start : ctx.start + ctx.rows]
        return own * (ctx.global_rows / ctx.rows), None
