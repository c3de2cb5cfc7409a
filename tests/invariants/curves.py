"""Loss curves of three small trainings in float64, to be compared with the committed ones in curves.json.

Nothing here depends on the processor beyond the last digits of a float64: images are drawn with whole numbers, and
first weights are whole numbers times a constant (torch's normal numbers differ in float32 between kinds of CPU).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from hf_icckd import (
    ImageClassifier,
    ImagePipeline,
    StudentTrainer,
    StudentTrainingArguments,
    TeacherTrainer,
    TeacherTrainingArguments,
    create_classifier,
    load_image_data,
)

CURVES_FILE = Path(__file__).with_name("curves.json")
TOLERANCE = 1e-9
STEPS = 20
_OPTIONS = {
    "max_steps": STEPS, "logging_steps": 1, "per_device_train_batch_size": 32, "eval_strategy": "no",
    "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "num_threads": 1,
}  # fmt: skip

Curves = dict[str, list[float]]  # a value for each step, by the name it is logged under


def teacher_on_digits(folder: Path) -> Curves:
    """A teacher with the intra-class term."""
    return _train_teacher(_digits(), folder)


def student_on_digits(folder: Path) -> Curves:
    """A student by KD, with an untrained teacher: its outputs are as exact as a trained one's."""
    pipeline = _digits()
    args = StudentTrainingArguments(output_dir=str(folder / "run"), **_OPTIONS)
    student, teacher = _classifier(pipeline, seed=0), _classifier(pipeline, seed=1)
    return _train(StudentTrainer(student, teacher, args, pipeline.dataset("train", training=True)))


def teacher_on_decoded_images(folder: Path) -> Curves:
    """Such a teacher on a folder of PNG images that are decoded in every step, as Pillow does on any machine."""
    draw_images(folder / "images")
    data = load_image_data(str(folder / "images"))
    pipeline = ImagePipeline(data, image_size=32, device="cpu", decoding="whole")
    assert not pipeline.resident
    return _train_teacher(pipeline, folder, per_device_train_batch_size=8)


TRAININGS: dict[str, Callable[[Path], Curves]] = {
    "teacher on digits": teacher_on_digits,
    "student on digits": student_on_digits,
    "teacher on decoded images": teacher_on_decoded_images,
}


def read_curves(path: Path = CURVES_FILE) -> dict[str, Curves]:
    """The committed curves."""
    return json.loads(path.read_text())


def differences(before: Curves, now: Curves) -> list[str]:
    """A line for each named value that is not the same within `TOLERANCE` in every step."""
    lines = [f"{name} is gone" for name in before.keys() - now.keys()]
    lines += [f"{name} is new" for name in now.keys() - before.keys()]
    for name in before.keys() & now.keys():
        if len(before[name]) != len(now[name]):
            lines.append(f"{name} has {len(now[name])} steps, it had {len(before[name])}")
            continue
        for step, (old, new) in enumerate(zip(before[name], now[name], strict=True), start=1):
            if not math.isclose(old, new, rel_tol=0, abs_tol=TOLERANCE):
                lines.append(f"{name} differs from step {step}: {old!r} -> {new!r}")
                break
    return sorted(lines)


def draw_images(folder: Path) -> None:
    """21 training and 6 test images of 128 x 112 pixels in three classes: stripes of another direction each."""
    tested = ((2, 8), (4, 5), (0, 7))
    rows, columns = np.mgrid[:112, :128]
    for label, stripes in enumerate((rows, columns, rows + columns)):
        for split in ("train", "test"):
            (folder / split / f"class-{label}").mkdir(parents=True)
        for number in range(9):
            wave = stripes * (3 + number) // 8 % 8 * 24
            pixels = np.stack([wave + 5 * number, wave + rows // 4, wave // 2 + columns // 4], axis=2)
            split = "test" if number in tested[label] else "train"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / split / f"class-{label}" / f"{number}.png")


def _digits() -> ImagePipeline:
    return ImagePipeline(load_image_data("digits", max_train_samples=160, max_eval_samples=20), device="cpu")


def _classifier(pipeline: ImagePipeline, seed: int) -> ImageClassifier:
    mean, std = pipeline.channel_statistics()
    names, size = pipeline.data.label_names, pipeline.image_size
    model = create_classifier("cifar_resnet8", names, image_size=size, mean=mean, std=std).double()
    generator = torch.Generator().manual_seed(seed)
    nn.init.zeros_(model.net.get_classifier().bias)
    for weight in (parameter for parameter in model.parameters() if parameter.ndim > 1):
        bound = 2 / math.sqrt(weight[0].numel())
        with torch.no_grad():
            weight.copy_(torch.randint(-1000, 1001, weight.shape, generator=generator) * (bound / 1000))
    return model


def _train_teacher(pipeline: ImagePipeline, folder: Path, **options) -> Curves:
    args = TeacherTrainingArguments(output_dir=str(folder / "run"), terms=["intra_class"], **_OPTIONS | options)
    train = pipeline.dataset("train", training=True, num_views=args.num_views)
    return _train(TeacherTrainer(_classifier(pipeline, seed=0), args, train))


def _train(trainer: TeacherTrainer | StudentTrainer) -> Curves:
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "learning_rate" in entry]
    assert len(logs) == STEPS
    left_out = {"epoch", "step", "images_per_second", "grad_norm"}
    return {name: [entry[name] for entry in logs] for name in logs[0].keys() - left_out}
