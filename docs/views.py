"""Draw what two teachers of a study of the synthetic images made of one class.

python docs/views.py results/2026-11-27-confirmation docs/views.png

The classes of that set have two features ("views") each, and who drew an image knows which of them dominates. The
picture shows the test images of one class as two teachers of one seed see them, trained with cross-entropy alone and
with the intra-class term, and the mean soft label of the images of either view.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import torch

from hf_icckd import ImagePipeline, from_pretrained, load_image_data, predict_split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEACHERS = {"ce": "cross-entropy alone", "intra": "with the intra-class term"}
COLOURS = ("#0072b2", "#d55e00")  # legible on light and dark, and for the colour-blind
CLASS, TEMPERATURE = 0, 4.0


def main(study: str, picture: str, pair: str = "resnet8-resnet8", seed: int = 20) -> None:
    """Load the two teachers and draw."""
    data = load_image_data("synthetic")
    pipeline = ImagePipeline(data)
    train, test = (pipeline.dataset(split) for split in ("train", "test"))
    views_of_test = torch.from_numpy(data.fine_labels("test")) % 2
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.6), layout="constrained", gridspec_kw={"height_ratios": [3, 2]})
    for column, (teacher, title) in enumerate(TEACHERS.items()):
        folder = Path(study) / "runs" / pair / teacher / f"seed-{seed}" / "teacher"
        told = json.loads((folder / "metrics.json").read_text())["fine_probe"]["embeddings"]
        model = from_pretrained(folder)
        known, outputs = predict_split(model, train), predict_split(model, test)
        own = outputs.labels == CLASS
        views = views_of_test[own]
        embeddings = outputs.embeddings[own].double()
        centred = embeddings - embeddings.mean(dim=0)
        # In units of the distance between class means, so that both panels have one scale.
        means = torch.stack([known.embeddings[known.labels == label].double().mean(dim=0) for label in range(10)])
        scale = torch.pdist(means).mean()
        axis = torch.stack([centred[views == view].mean(dim=0) for view in (1, 0)])
        first = torch.nn.functional.normalize(axis[0] - axis[1], dim=0)
        second = torch.linalg.svd(centred - centred @ first[:, None] * first, full_matrices=False)[2][0]
        places = torch.stack([centred @ first, centred @ second], dim=1) / scale
        soft = (outputs.logits[own] / TEMPERATURE).softmax(dim=1)
        others = [label for label in range(10) if label != CLASS]
        for view, colour in enumerate(COLOURS):
            label = f"view {view + 1} dominates"
            axes[0, column].scatter(*places[views == view].T, s=14, color=colour, label=label, alpha=0.8)
            mean = soft[views == view].mean(dim=0)[others]
            at = torch.arange(len(others)) + 0.4 * (view - 0.5)
            axes[1, column].bar(at, mean, width=0.38, color=colour)
        axes[0, column].set_title(f"{title}\na linear probe finds the view: {told:.0f} %", fontsize=10)
        axes[0, column].set(xlim=(-0.9, 0.9), ylim=(-0.9, 0.9), aspect="equal")
        axes[1, column].set_xticks(range(len(others)), [f"{label}" for label in others])
        axes[1, column].set_xlabel("other classes")
    axes[0, 0].set_ylabel("embeddings of one class,\nin distances between class means")
    axes[1, 0].set_ylabel(f"mean soft label (T = {TEMPERATURE:g})")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    top = max(axis.get_ylim()[1] for axis in axes[1])
    for axis in axes[1]:
        axis.set_ylim(0, top)
    figure.savefig(picture, dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:])
