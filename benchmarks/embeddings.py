"""What the intra-class term does to embeddings, of training images and of test images, for the teachers of a study.

    python benchmarks/embeddings.py results/FOLDER --teachers ce intra --output FILE.jsonl \\
        [--dataset DATA --label_column label]

How much variance lies within classes, in units of that between class means, and how much of it the last layer reads:
moving an embedding along the other directions changes no soft label.

Is the term memorised? Two random crops of an image are to be nearer to each other than to crops of other images of its
class. The term is measured for both splits in the same way: by nets in evaluation mode, at the temperature of the
default, without gate, against 32 images of the class that are drawn at random. Where nothing is told apart it is
log 33 = 3.497 nats.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from hf_icckd import ImageClassifier, ImagePipeline, from_pretrained, load_image_data, predict_split
from hf_icckd.data.loading import make_loader
from hf_icckd.losses import intra_class_contrastive_loss
from hf_icckd.metrics.geometry import unread_variance
from hf_icckd.metrics.kernels import sum_by_class
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.study import Plan, load_plan

NEGATIVES, TEMPERATURE = 32, 0.1
COLUMNS = {
    "read": "variance within classes, read",
    "unread": "not read",
    "term": "term (nats)",
    "cosine_views": "cosine to the other view",
    "cosine_class": "cosine to others of the class",
}


def main() -> None:
    """Measure, print a table of means over seeds, and keep what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study; its runs must be there")
    parser.add_argument("--teachers", nargs="+", required=True)
    parser.add_argument("--dataset", help="where the data set is here")
    parser.add_argument("--label_column", help="what its column of labels is called here")
    parser.add_argument("--output", type=Path, required=True, help="file for a line of each net and split")
    args = parser.parse_args()
    plan = load_plan(args.study / "study.yaml")
    if unknown := [name for name in args.teachers if name not in plan.teacher_variants()]:
        parser.error(
            f"--teachers {unknown[0]} is not in the study; expected any of: {' '.join(plan.teacher_variants())}"
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    pipeline = load(plan, {"dataset": args.dataset, "label_column": args.label_column})
    measured = []
    print("| pair | teacher | split | seeds |", " | ".join(COLUMNS.values()), "|")
    print("| --- | --- | --- | ---: |" + " ---: |" * len(COLUMNS))
    for pair, teacher in itertools.product(plan.pairs, args.teachers):
        nets = nets_of(args.study, plan, pair, teacher)
        for split in ("train", "test"):
            rows = [variance_of(net, pipeline, split) | term_of(net, pipeline, split) for net in nets.values()]
            cells = [f"{statistics.mean(row[name] for row in rows):.3f}" for name in COLUMNS]
            print("|", " | ".join([pair, teacher, split, str(len(nets)), *cells]), "|", flush=True)
            about = {"pair": pair, "teacher": teacher, "split": split}
            measured += [about | {"seed": seed} | row for seed, row in zip(nets, rows, strict=True)]
    args.output.write_text("".join(json.dumps(row) + "\n" for row in measured))


def nets_of(study: Path, plan: Plan, pair: str, teacher: str) -> dict[int, ImageClassifier]:
    """Finished nets of a teacher, by seed."""
    folders = {seed: study / "runs" / plan.teacher(pair, teacher, seed).name for seed in plan.seeds}
    nets = {seed: from_pretrained(folder) for seed, folder in folders.items() if (folder / "metrics.json").is_file()}
    if not nets:
        raise SystemExit(f"{study / 'runs'} has no finished teacher {teacher!r} of {pair}; run the study there first")
    return nets


def load(plan: Plan, here: dict[str, str | None]) -> ImagePipeline:
    """The images of a study, augmented as its teachers had them."""
    known = {each.name for each in dataclasses.fields(TrainingDataArguments)}
    asked = plan.options | {name: value for name, value in here.items() if value}
    options = TrainingDataArguments(**{name: value for name, value in asked.items() if name in known})
    size = options.image_size
    return ImagePipeline(load_image_data(options), options.chosen_augmentation(0), default_size=size, max_size=size)


def variance_of(net: ImageClassifier, pipeline: ImagePipeline, split: str) -> dict[str, float]:
    """Variance within classes over that between class means: what the last layer reads of it, and the rest."""
    outputs = predict_split(net, pipeline.dataset(split))
    classes, labels = len(outputs.weight), outputs.labels
    embeddings = outputs.embeddings.double()
    means = sum_by_class(embeddings, labels, classes) / labels.bincount(minlength=classes)[:, None]
    within = (embeddings - means[labels]).square().sum(dim=1).mean()
    between = (means - means.mean(dim=0)).square().sum(dim=1).mean()
    unread = unread_variance(outputs.embeddings, labels, outputs.weight)
    return {"read": (within / between * (1 - unread)).item(), "unread": (within / between * unread).item()}


@torch.no_grad()
def term_of(net: ImageClassifier, pipeline: ImagePipeline, split: str) -> dict[str, float]:
    """The term, and the mean cosines of an image's two views and of images of one class."""
    net.eval()
    images = pipeline.dataset(split, training=True, num_views=2)
    views, labels = [], []
    for batch in make_loader(images, images.batch_sampler(256), num_workers=0):
        pixels = batch["pixel_values"]
        embeddings = net(pixels.flatten(0, 1)).embeddings
        views.append(F.normalize(embeddings.double(), dim=1).unflatten(0, pixels.shape[:2]))
        labels.append(batch["labels"])
    anchors, positives = torch.cat(views).unbind(dim=1)
    negatives = anchors[others_of_class(torch.cat(labels))]
    positive, negative = (anchors * positives).sum(dim=1), (anchors[:, None] * negatives).sum(dim=2)
    everywhere = torch.ones_like(negative, dtype=torch.bool)
    term = intra_class_contrastive_loss(positive, negative, everywhere, everywhere[:, 0], TEMPERATURE)
    return {"term": term.item(), "cosine_views": positive.mean().item(), "cosine_class": negative.mean().item()}


def others_of_class(labels: Tensor) -> Tensor:
    """(N, 32) rows of other images of each image's class, drawn at random without repetition.

    Raises:
        ValueError: If a class has fewer than 33 images.
    """
    if (fewest := int(labels.unique(return_counts=True)[1].min())) <= NEGATIVES:
        raise ValueError(f"a class has {fewest} images, expected more than {NEGATIVES}; take a larger split")
    generator, rows = torch.Generator().manual_seed(0), torch.empty(len(labels), NEGATIVES, dtype=torch.long)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        order = torch.rand(len(members), len(members), generator=generator).fill_diagonal_(2).argsort(dim=1)
        rows[members] = members[order[:, :NEGATIVES]]
    return rows


if __name__ == "__main__":
    main()
