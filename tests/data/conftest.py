"""What tests of sources share."""

from __future__ import annotations

import datasets
import pytest


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads what another left behind, or the cache of the user."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder
