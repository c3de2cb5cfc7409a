"""Write the two parquet files of this folder from scikit-learn's copy of the digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, Features, Image
from sklearn.datasets import load_digits

from hf_icckd.data.sampling import stratified_split

if __name__ == "__main__":
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=[str(digit) for digit in range(10)])})
    parts = zip(("train", "test"), stratified_split(digits.target, 0.2), strict=True)
    for name, rows in parts:
        columns = {
            "image": [PIL.Image.fromarray(pixels[row]) for row in rows],
            "label": digits.target[rows].tolist(),
        }
        Dataset.from_dict(columns, features=features).to_parquet(Path(__file__).with_name(f"{name}.parquet"))
