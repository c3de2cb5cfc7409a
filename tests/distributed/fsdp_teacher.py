"""The teacher's recipe where accelerate takes CPUs for GPUs, so that it shards; options are those of the recipe."""

from __future__ import annotations

from fsdp_worker import shard_on_cpus

from hf_icckd import teacher

if __name__ == "__main__":
    shard_on_cpus()
    teacher.main()
