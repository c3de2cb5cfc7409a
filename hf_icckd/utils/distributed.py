"""Rank-ordered collectives over `torch.distributed`; every function is a no-op on one process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


def world_size() -> int:
    """Number of processes that train together (1 where no process group exists)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process, 0 to `world_size() - 1`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def even_split(total: int, parts: int) -> list[int]:
    """Sizes of `parts` consecutive slices of `total` rows: as even as possible, larger ones first.

    Args:
        total: Number of rows, not negative.
        parts: Number of slices, at least 1.

    Returns:
        `parts` sizes that sum to `total` and differ by at most 1.
    """
    size, remainder = divmod(total, parts)
    return [size + (index < remainder) for index in range(parts)]


@torch.no_grad()
def gather_rows(tensor: Tensor, global_rows: int) -> Tensor:
    """Concatenate the rows of all ranks in rank order, without gradient.

    The row counts are derived, not communicated: rank r holds `even_split(global_rows, world_size())[r]` rows, as the
    batch sampler cuts them. So there is no exchange of sizes and no host synchronisation.

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
        Made for losses that every rank computes alike on the gathered rows. As all ranks then hold the same gradient,
        summing it over ranks needs no communication: it is a multiple of one's own. The factor is
        `global_rows / rows`, so that a loss multiplied by `local_share` (which the trainers do) and averaged over
        ranks (which DistributedDataParallel does) has the gradient of one process on the whole batch.
    """
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor, global_rows)


def local_share(local_rows: int, global_rows: int) -> float:
    """Weight of this rank's mean such that the plain mean over ranks is the mean over all rows (1.0 if even)."""
    return local_rows * world_size() / global_rows


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Element-wise mean of a tensor over ranks."""
    if world_size() == 1:
        return tensor
    tensor = tensor.clone()
    dist.all_reduce(tensor)
    return tensor / world_size()


def minimum_over_ranks(tensor: Tensor) -> Tensor:
    """Element-wise minimum of a tensor over ranks."""
    if world_size() == 1:
        return tensor
    tensor = tensor.clone()
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return tensor


def broadcast_buffers(module: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, such as BatchNorm's statistics, which are not averaged in training."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather_ranks(tensor: Tensor) -> Tensor:
    """(world size, ...) the tensors of all ranks, which have one shape, on every rank."""
    return gather_rows(tensor[None], world_size())


def own_part(gathered: Tensor) -> Tensor:
    """What this rank gave to `gather_ranks`; with another number of ranks than then, the mean."""
    return gathered[rank()] if len(gathered) == world_size() else gathered.mean(dim=0)


def gather_shards(state: T) -> T:
    """State with whole tensors in place of the sharded ones (FSDP2), for the first rank; all ranks must call this.

    Args:
        state: Nested dicts and lists, as `state_dict()` gives them.

    Returns:
        The same with whole tensors on the CPU of the first rank and empty ones in their place on the others. What is
        not sharded is neither copied nor sent.
    """

    def whole(shard: DTensor) -> Tensor:
        tensor = shard.detach().full_tensor()  # one at a time: no device holds more than that
        return tensor.cpu() if rank() == 0 else tensor.new_empty(0)

    return tree_map_only(DTensor, whole, state)


def shard_like(tensor: Tensor, other: Any) -> Tensor:
    """The shard of a whole tensor that this rank holds of another of its shape; all of it if that is not sharded."""
    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor
    # Every rank has the whole tensor, so nothing is sent. Cloned, or the shard would keep all of it in memory.
    return distribute_tensor(tensor.contiguous(), other.device_mesh, other.placements, src_data_rank=None).clone()


def own_shard(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor that may be sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. Ranks wait for each other, but not for the device."""
    if world_size() == 1:
        return flag
    flags = torch.tensor([flag], dtype=torch.uint8)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=_host_group(dist.group.WORLD))
    return bool(flags.item())


def on_first_rank(function: Callable[[], T]) -> T:
    """Result (plain data) of a function that only the first rank calls; its error ends the other ranks too."""
    if world_size() == 1:
        return function()
    result, error = None, None
    if rank() == 0:
        try:
            result = function()
        except Exception as caught:  # whatever it is, the others must not wait for the result; raised below
            error = caught
    shared = [(result, error is not None)]
    dist.broadcast_object_list(shared, src=0)
    if error is not None:
        raise error
    result, failed = shared[0]
    if failed:
        raise SystemExit(1)  # the first rank says why
    return result


def check_equal(values: dict[str, Any]) -> None:
    """Raise ValueError on every rank, naming what differs, unless all ranks hold the same plain data."""
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
    """Whether an error means that another process can't be reached."""
    return isinstance(error, dist.DistError) or (world_size() > 1 and "gloo" in str(error))


@functools.cache
def _host_group(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """A group whose collectives work on CPU tensors, so that they don't wait for the device."""
    return world if "cpu:" in dist.get_backend_config() else dist.new_group(backend="gloo")


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


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
