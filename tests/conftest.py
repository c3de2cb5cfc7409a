"""Small things that several tests share."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Before anything imports the Hub client: no test may reach out, or write into the user's cache.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
# Programs that tests start, and those that they start, note it here; workers of pytest-xdist share the file.
os.environ.setdefault("STARTS_OF_PYTHON", os.path.join(os.environ["HF_DATASETS_CACHE"], "starts"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent / "starts"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import datasets
import pytest
import torch
from matplotlib.figure import Figure

from hf_icckd import ImagePipeline, create_classifier, load_image_data
from tests.forks import LIBRARIES, PACKAGE, Forks
from tests.hub.hub_server import HubServer, serve

# Seconds to wait, five each, for threads of Arrow at the end of a stream, and for loading workers that an error left.
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5
_DRAWN = {"cards", "report", "test_benchmarks.py", "test_plotting.py", "test_contact_sheet.py"}  # tests of pictures
_BEGUN = time.monotonic()
_started: list[Forks] = []

DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param("cuda", id="cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def pytest_collection_finish(session):
    """Start the server of the forks, if a test needs it, so that it imports while other tests run."""
    needed = any("libraries" in item.fixturenames for item in session.items)
    if needed and not session.config.option.collectonly:
        _started.append(Forks(LIBRARIES))
    # Trainers collect garbage when they begin: 0.3 s with all that is imported, next to nothing without it.
    gc.collect()
    gc.freeze()
    # Collected in another thread, as one of pytest-xdist, a loader ends its workers so that torch raises in this one.
    gc.disable()


def pytest_sessionfinish():
    """Leave no process behind."""
    for server in _started:
        server.close()


def pytest_terminal_summary(terminalreporter):
    """Say what the session took: it stays quick only as long as somebody looks."""
    starts = Path(os.environ["STARTS_OF_PYTHON"])
    noted = starts.read_text() if starts.exists() else ""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in used)
    terminalreporter.write_line(
        f"{time.monotonic() - _BEGUN:.0f} s, {seconds:.0f} s of processors, {noted.count('p')} starts of Python "
        f"beside this one, {noted.count('t')} of them with torch"
    )


def pytest_unconfigure():
    """Leave no cache behind."""
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def libraries() -> Forks:
    """A server that has imported none of ours, and nothing that has read the environment of the Hub."""
    return _started[0]


@pytest.fixture(scope="session")
def forks(libraries) -> Iterator[Forks]:
    """Runs programs without a start of Python each: `forks.run(["-m", "hf_icckd.teacher", ...])`."""
    server = Forks(PACKAGE, within=libraries)
    yield server
    server.close()


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Collects a module's garbage when its tests have ended."""
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def blank_pictures(request) -> Iterator[None]:
    """Leaves pictures of cards blank, but where they are tested: drawing takes longer than the rest of a short run.

    Forks draw them all the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        if _DRAWN.isdisjoint(request.path.parts):
            patch.setattr(Figure, "draw", lambda figure, renderer: None)
        yield


@pytest.fixture(params=DEVICES)
def device(request) -> Iterator[str]:
    """Every device there is, with products of float32 in float32: a test before may have left TF32 on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A server that stands for the Hub."""
    with serve() as server:
        yield server


@pytest.fixture(scope="session")
def hub_libraries(hub, libraries, tmp_path_factory) -> Iterator[Forks]:
    """A server of forks that take `hub` for the Hub, without a token, and have imported none of ours."""
    environment = hub.environment(tmp_path_factory.mktemp("home"), None) | {"CUDA_VISIBLE_DEVICES": ""}
    server = Forks(["timm", "transformers.pipelines"], environment, within=libraries)
    yield server
    server.close()


@pytest.fixture(scope="session")
def hub_forks(hub_libraries) -> Iterator[Forks]:
    """As `forks`, but they take `hub` for the Hub."""
    server = Forks(PACKAGE, hub_libraries.environment, within=hub_libraries)
    yield server
    server.close()


@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """On a GPU the fastest algorithms add in any order; this asks for those that don't. A CPU has no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(torch.cuda.is_available())
        yield
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def deterministic():
    """A test among algorithms that always give the same."""
    with deterministic_algorithms():
        yield


@pytest.fixture(scope="session")
def digits():
    """160 training and 80 test digits."""
    return load_image_data("digits", max_train_samples=160, max_eval_samples=80)


@pytest.fixture(scope="session")
def pipeline(digits) -> ImagePipeline:
    """The small digits as batches."""
    return ImagePipeline(digits, device="cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def tiny_classifier(pipeline):
    """Makes a small classifier of digits, the same one for the same seed."""

    def make(architecture: str = "cifar_resnet8", seed: int = 0):
        torch.manual_seed(seed)
        mean, std = pipeline.channel_statistics()
        return create_classifier(
            architecture, pipeline.data.label_names, image_size=pipeline.image_size, mean=mean, std=std
        )

    return make
