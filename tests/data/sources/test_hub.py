"""Data sets of the Hub: what is said before a large one is fetched."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest

from hf_icckd import load_image_data
from hf_icckd.data.sources import hub

GB = 10**9


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A data set of 150 GB in a cache with some room; loading it ends at once."""

    def offer(free, cached=False, size=150 * GB):
        folder = tmp_path / "cache" / "imagenet"
        if cached:
            folder.mkdir(parents=True)
        info = SimpleNamespace(download_size=size, dataset_size=size)
        monkeypatch.setattr(
            hub, "load_dataset_builder", lambda *args: SimpleNamespace(info=info, cache_dir=str(folder))
        )
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

        def load(*args, **options):
            raise ConnectionError("loaded")

        monkeypatch.setattr(hub, "load_dataset", load)
        with pytest.raises(ValueError) as error:
            load_image_data("ILSVRC/imagenet-1k")
        return str(error.value)

    return offer


def test_a_large_data_set_is_announced(imagenet, caplog):
    caplog.set_level(logging.INFO)
    assert "loaded" in imagenet(free=400 * GB)
    assert "'ILSVRC/imagenet-1k' is 150 GB to fetch and 150 GB beside that" in caplog.text
    assert "400 GB are free" in caplog.text and "--streaming true reads it" in caplog.text


def test_without_room_nothing_is_fetched(imagenet):
    error = imagenet(free=200 * GB)
    assert "200 GB are free" in error and "HF_HOME" in error and "loaded" not in error


@pytest.mark.parametrize("options", [{"cached": True}, {"size": 10**8}])
def test_nothing_is_said_of_small_ones_and_of_those_that_are_here(imagenet, caplog, options):
    caplog.set_level(logging.INFO)
    assert "loaded" in imagenet(free=GB, **options)
    assert "GB" not in caplog.text
