"""Small things that several tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

# Before anything imports the Hub client: no test may reach out, or write into the user's cache.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()

import pytest
import torch

from hf_icckd import ImagePipeline, create_classifier, load_image_data

DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param("cuda", id="cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def pytest_sessionfinish():
    """Leave no cache behind."""
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(params=DEVICES)
def device(request) -> Iterator[str]:
    """Every device there is, with products of float32 in float32: a test before may have left TF32 on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def deterministic(monkeypatch):
    """On a GPU the fastest algorithms add in any order; this asks for those that don't. A CPU has no others."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(torch.cuda.is_available())
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def digits():
    """160 training and 80 test digits."""
    return load_image_data("digits", max_train_samples=160, max_eval_samples=80)


@pytest.fixture
def pipeline(digits) -> ImagePipeline:
    """The small digits as batches."""
    return ImagePipeline(digits, device="cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def tiny_classifier(pipeline):
    """Makes a small classifier of digits, the same one for the same seed."""

    def make(architecture: str = "cifar_resnet8", seed: int = 0):
        torch.manual_seed(seed)
        mean, std = pipeline.channel_statistics()
        return create_classifier(
            architecture, pipeline.data.label_names, image_size=pipeline.image_size, mean=mean, std=std
        )

    return make
