"""int8 files of EfficientNet-Lite0 with 8 and with 7 bits, as this processor computes them and exactly.

    python results/2026-11-30-int8/clip.py FOLDER

FOLDER is one that benchmarks/photographs.py prepared: it holds lite0/ and photos/.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from hf_icckd import export_onnx, from_pretrained, quantise_onnx

CLASSES = {"tench": 0, "English springer": 217, "cassette player": 482, "chain saw": 491, "church": 497,
           "French horn": 566, "garbage truck": 569, "gas pump": 571, "golf ball": 574, "parachute": 701}  # fmt: skip


def load(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    files = [(file, number) for name, number in CLASSES.items() for file in sorted((folder / name).iterdir())[:count]]
    images = [Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for file, _ in files]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images]), np.array([each for _, each in files])


def logits(path: Path, images: np.ndarray, exact: bool) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    if exact:  # each operation as it stands in the file, none of them in int8 instructions
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batches = np.split(images, range(50, len(images), 50))
    return np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])


folder = Path(sys.argv[1])
calibration, _ = load(folder / "photos" / "train", 20)
images, labels = load(folder / "photos" / "test", 100)
export_onnx(from_pretrained(folder / "lite0").eval(), folder / "float.onnx", num_images=4)
expected = logits(folder / "float.onnx", images, exact=False)
print(f"float: top-1 {100 * (expected.argmax(1) == labels).mean():.2f} %")
for bits in (8, 7):
    quantise_onnx(folder / "float.onnx", folder / "int8.onnx", torch.from_numpy(calibration), weight_bits=bits)
    for exact in (False, True):
        found = logits(folder / "int8.onnx", images, exact)
        print(
            f"{bits} bits, {'exact' if exact else 'this processor'}: top-1 {100 * (found.argmax(1) == labels).mean():.2f} %, "
            f"same class {100 * (found.argmax(1) == expected.argmax(1)).mean():.1f} %, "
            f"error of logits {np.sqrt(np.square(found - expected).mean()):.3f}"
        )
