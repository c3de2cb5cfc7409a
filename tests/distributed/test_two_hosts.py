"""Two hosts: two network namespaces with addresses of their own, joined by a virtual cable."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT

ADDRESSES = ("10.77.0.1", "10.77.0.2")
# As the superuser of a user namespace, the first host joins a cable to the second and tells when it is there.
FIRST_HOST = f"""
ip link set lo up
ip link add cable0 type veth peer name cable1
ip link set cable1 netns $1
ip address add {ADDRESSES[0]}/24 dev cable0
ip link set cable0 up
nsenter -t $1 -n sh -c "ip link set lo up; ip address add {ADDRESSES[1]}/24 dev cable1; ip link set cable1 up"
echo joined
exec sleep 600
"""
OPTIONS = [
    "--max_train_samples", "151", "--max_eval_samples", "40", "--per_device_train_batch_size", "16",
    "--model", "cifar_resnet8", "--disable_tqdm", "true", "--num_threads", "1", "--terms", "intra_class:gate=false",
    "--save_strategy", "steps", "--save_steps", "20", "--use_cpu", "true", "--eval_strategy", "no",
    "--max_steps", "140", "--ddp_timeout", "30",
]  # fmt: skip


@pytest.fixture(scope="module")
def hosts():
    """Process ids in the network namespaces of two hosts that reach each other."""
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip")):
        pytest.skip("needs unshare, nsenter and ip")
    started = []
    try:
        # One user namespace, so that the first may move its cable into the second's network.
        outer = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "600"])
        started.append(outer)
        time.sleep(0.5)
        enter = ["nsenter", "-t", str(outer.pid), "--user", "--preserve-credentials"]
        second = subprocess.Popen([*enter, "unshare", "--net", "sleep", "600"])
        started.append(second)
        time.sleep(0.5)
        first = subprocess.Popen(
            [*enter, "-n", "sh", "-ec", FIRST_HOST, "sh", str(second.pid)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(first)
        if first.stdout.readline() != "joined\n":
            pytest.skip(f"network namespaces can't be made here: {first.stderr.read().strip()}")
        yield outer.pid, second.pid
    finally:
        for process in started:
            process.kill()


def start(hosts: tuple[int, int], host: int, folder: Path, launcher: str) -> subprocess.Popen:
    """The same command on one of the hosts."""
    enter = ["nsenter", "-t", str(hosts[0]), "--user", "--preserve-credentials"]
    enter += ["nsenter", "-t", str(hosts[host]), "--net"]
    if launcher == "torchrun":
        words = ["torch.distributed.run", "--nnodes", "2", "--node_rank", str(host), "--nproc_per_node", "1",
                 "--master_addr", ADDRESSES[0], "--master_port", "29611"]  # fmt: skip
    else:
        words = ["accelerate.commands.launch", "--config_file", "recipes/accelerate/two_nodes.yaml", "--machine_rank",
                 str(host), "--main_process_ip", ADDRESSES[0]]  # fmt: skip
    log = folder.with_name(f"{folder.name}-host{host}.log").open("w")
    return subprocess.Popen(
        [*enter, sys.executable, "-m", *words, "recipes/teacher.py", *OPTIONS, "--output_dir", str(folder)],
        stdout=log,
        stderr=log,
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": f"cable{host}"},
    )


def switch_off(host: int) -> None:
    """Kill whatever runs in the network of a host, but for the process that keeps the network."""
    network = os.readlink(f"/proc/{host}/ns/net")
    if network == os.readlink("/proc/self/ns/net"):
        return  # the host has no network of its own any more, and this process is none of those meant
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns" / "net") == network and int(process.name) != host:
                os.kill(int(process.name), signal.SIGKILL)


def logs(folder: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in sorted(folder.parent.glob("*.log")))


def test_two_hosts_equal_one_and_survive_the_loss_of_one(hosts, forks, tmp_path):
    both = [start(hosts, host, tmp_path / "cut", "torchrun") for host in (0, 1)]
    try:
        # The second host goes off after the first checkpoint.
        end = time.monotonic() + 90
        while time.monotonic() < end and not list((tmp_path / "cut").glob("checkpoint-*/manifest.json")):
            time.sleep(0.01)
        assert list((tmp_path / "cut").glob("checkpoint-*")), logs(tmp_path / "cut")
        assert both[1].poll() is None, logs(tmp_path / "cut")
        killed = time.monotonic()
        switch_off(hosts[1])
        assert both[0].wait(timeout=60) != 0
        assert time.monotonic() - killed < 45
        text = (tmp_path / "cut-host0.log").read_text()
        assert "error: another process is gone" in text, text[-3000:]
        assert "the same command resumes from the last checkpoint" in text
        both = [start(hosts, host, tmp_path / "cut", "accelerate") for host in (0, 1)]
        assert [process.wait(timeout=120) for process in both] == [0, 0], logs(tmp_path / "cut")
        assert "resuming from" in (tmp_path / "cut-host0.log").read_text()
    finally:
        for host in hosts:
            switch_off(host)
    words = ["recipes/teacher.py", *OPTIONS, "--output_dir", tmp_path / "one"]
    for done in forks.run_processes(words, 2, cwd=ROOT, timeout=120):
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "cut"))
    assert one == two
