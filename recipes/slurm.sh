#!/usr/bin/env bash
# Train on a SLURM cluster over as many time limits as it takes: each job ends with a checkpoint and is queued again.
#
#   sbatch --gpus-per-node=4 --ntasks-per-node=4 recipes/slurm.sh teacher CONFIG.yaml --output_dir runs/teacher
#
# Give partition, account and time to sbatch, or below. The folder of the run must be on a disk that all nodes share.
#SBATCH --job-name=hf_icckd
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
# Two minutes before the time is up, SIGUSR1 to every process of the run (and, without `B:`, not to this script). Take
# more if one step and a checkpoint, or an evaluation, take longer.
#SBATCH --signal=USR1@120
set -u

if [ $# -eq 0 ]; then
    echo "usage: sbatch [sbatch options] recipes/slurm.sh teacher|student [CONFIG.yaml] [--option value ...]" >&2
    exit 2
fi
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=$(echo "$nodes" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then # srun has not taken it over from sbatch since SLURM 22.05
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
fi

# One task a GPU, without torchrun: it would pass SIGUSR1 on only if told to (--signals_to_handle, in older versions the
# variable TORCHELASTIC_SIGNALS_TO_HANDLE), would kill its processes after 30 seconds, and would end with 1 in any case.
# The tasks end by themselves: one that is killed leaves the others waiting until NCCL's timeout.
# shellcheck disable=SC2016  # expanded by each task
srun --kill-on-bad-exit=0 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    export LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
    module=$1
    shift
    exec python -m "hf_icckd.$module" "$@"
' task "$@"
code=$?

if [ "$code" -eq 138 ]; then # stopped by SIGUSR1: after the first step with a checkpoint, where the same command resumes
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_RESTARTS:-50}" ]; then
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "restarted ${SLURM_RESTART_COUNT} times without an end; is --time longer than the start and one step?" >&2
    fi
fi
exit "$code"
