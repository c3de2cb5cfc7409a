"""Loading workers: no more than the shared memory holds batches for."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch

from hf_icckd import Augmentation, ImagePipeline, load_image_data
from hf_icckd.data import loading
from hf_icckd.data.sampling import BatchDataset
from tests.data.test_image_cache import folder  # noqa: F401


@pytest.fixture
def images(folder):  # noqa: F811
    pipeline = ImagePipeline(load_image_data(str(folder)), Augmentation(), default_size=64)
    return pipeline.dataset("train", training=True, num_views=2)


def workers(images, asked: int, prefetch: int | None = None) -> int:
    return loading._as_many_as_fit(asked, images, images.batch_sampler(8, seed=0), prefetch)


def test_workers_that_would_fill_the_shared_memory_are_left_out(images, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(loading, "_told", set())
    batch = 8 * 2 * 3 * 64 * 64
    assert images.image_bytes == batch // 8
    room = SimpleNamespace(free=2 * 3 * batch * 5)  # half of it holds three batches of each of five workers
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    monkeypatch.setattr(loading, "_SHARED_MEMORY", tmp_path)
    assert workers(images, 5) == 5 and not caplog.text
    assert workers(images, 6) == workers(images, 6) == 5 and caplog.text.count("loading workers in place of 6") == 1
    assert (
        f"5 loading workers in place of 6: {tmp_path} has 5.9 MB free, and each worker takes 589.8 kB" in caplog.text
    )
    assert workers(images, 6, prefetch=5) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert workers(images, 6) == 2
    monkeypatch.setattr(loading, "_SHARED_MEMORY", tmp_path / "none")
    assert workers(images, 6) == 6


def test_of_a_data_set_that_tells_nothing_a_usual_batch_is_assumed(monkeypatch, tmp_path):
    class Own(BatchDataset):
        def __len__(self):
            return 20

        def __getitems__(self, key):
            return {"pixel_values": torch.zeros(len(key.indices), 1, 3, 8, 8, dtype=torch.uint8)}

    monkeypatch.setattr(loading, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))  # in Docker
    assert workers(Own(), 4) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=8 * 2**30))
    assert workers(Own(), 4) == 4
