"""Images: sources, batches and augmentation."""

from __future__ import annotations

from hf_icckd.data.pipeline import ImagePipeline
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.data.sources.load import load_image_data
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.options.imbalance import Sampling

__all__ = ["Augmentation", "ImageData", "ImagePipeline", "Sampling", "load_image_data"]
