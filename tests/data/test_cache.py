"""A cache that can't be written: the folder and the way out are named."""

from __future__ import annotations

import datasets
import pytest
from PIL import Image

from hf_icckd import load_image_data
from hf_icckd.data.cache import cache_errors


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "home").touch()  # a file where the folder should be
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    with pytest.raises(ValueError, match=r"the cache folder '.*home/datasets' can't be used \(Not a dir.*set HF_"):
        load_image_data("digits")


def test_an_error_about_the_cache_is_none_of_the_data_set(tmp_path, monkeypatch):
    """Reading a folder of tables, whose errors are otherwise about its files."""
    (tmp_path / "home").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    rows = {"image": [Image.new("RGB", (8, 8))] * 4, "label": [0, 1, 0, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for split in ("train", "test"):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "data" / f"{split}.parquet")
    with pytest.raises(ValueError, match=r"^the cache folder '.*home/datasets' can't be used \(Not a dir.*set HF_"):
        load_image_data(tmp_path / "data")


def test_errors_elsewhere_stay_as_they_are(tmp_path):
    for error in (FileNotFoundError(2, "gone", str(tmp_path / "x")), OSError("no file")):
        with pytest.raises(OSError) as caught, cache_errors():
            raise error
        assert caught.value is error
