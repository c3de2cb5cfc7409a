"""Plain transformers.Trainer, in the way of its guide "Knowledge Distillation for Computer Vision".

Changed where the guide does not run as it stands, or would be slower than it need be:
- `compute_loss` lacks the argument `num_items_in_batch`, which the Trainer passes;
- it calls `self.student` instead of the model it is given, past whatever the Trainer wrapped that in (torch.compile);
- the teacher gets the labels too, and computes a loss that nobody uses;
- under `bf16` (the guide has `fp16`, which needs a GPU) only the student was prepared for autocast: the teacher would
  stay in float32;
- the loss is `(1 - lambda) * CE + lambda * KD`; here both have weight 1, as in all arms.
"""

from __future__ import annotations

import itertools
import tempfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.modeling_outputs import ImageClassifierOutput

from benchmarks.arms.common import (
    TEMPERATURE,
    MeterCallback,
    Spec,
    TorchvisionImages,
    TwoViews,
    device,
    load_pipeline,
    main,
    nets,
    sgd,
    torchvision_transform,
    trainer_options,
)
from benchmarks.arms.meter import Meter


class ImagesWithNames(TorchvisionImages):
    """Samples as the Trainer wants them."""

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        image, label = super().__getitem__(index)
        return {"pixel_values": image, "labels": label}


class WithLoss(nn.Module):
    """A timm net with the interface of transformers' classifiers; several views count as so many images.

    Args:
        net: The net.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Logits and, with labels, the cross-entropy."""
        if pixel_values.ndim == 5:
            labels = labels.repeat_interleave(pixel_values.shape[1])
            pixel_values = pixel_values.flatten(0, 1)
        logits = self.net(pixel_values)
        return ImageClassifierOutput(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)


class ImageDistilTrainer(Trainer):
    """The guide's trainer.

    Args:
        teacher_model: The teacher; the other arguments are those of the Trainer.
    """

    def __init__(self, *args, teacher_model: nn.Module, **options):
        super().__init__(*args, **options)
        self.teacher = teacher_model.to(device()).eval()
        self.loss_function = nn.KLDivLoss(reduction="batchmean")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross-entropy of the student plus its distance from the teacher."""
        student_output = model(**inputs)
        with torch.no_grad(), self.accelerator.autocast():
            teacher_output = self.teacher(inputs["pixel_values"])
        soft_teacher = F.softmax(teacher_output.logits.float() / TEMPERATURE, dim=-1)
        soft_student = F.log_softmax(student_output.logits / TEMPERATURE, dim=-1)
        loss = student_output.loss + self.loss_function(soft_student, soft_teacher) * TEMPERATURE**2
        return (loss, student_output) if return_outputs else loss


class Stacked(TwoViews):
    """Two views as one tensor, which the default collator can handle."""

    def __call__(self, image) -> Tensor:
        return torch.stack(super().__call__(image))


def train(spec: Spec, meter: Meter) -> None:
    """Train until the meter stops it."""
    pipeline = load_pipeline(spec)
    teacher, student = map(WithLoss, nets(spec, pipeline))
    if spec.compile and spec.task == "student":
        teacher = torch.compile(teacher, mode=spec.compile)  # `torch_compile` compiles the model that is trained only
    transform = torchvision_transform(pipeline)
    dataset = ImagesWithNames(pipeline, transform if spec.views == 1 else Stacked(transform))
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            **trainer_options(spec, folder),
            use_cpu=device().type == "cpu",
            dataloader_persistent_workers=spec.workers > 0,
            dataloader_pin_memory=device().type == "cuda",
        )
        # The Trainer's own SGD has no momentum.
        if spec.task == "student":
            optimizers = sgd(student.parameters()), None
            trainer = ImageDistilTrainer(
                student, args, train_dataset=dataset, optimizers=optimizers, teacher_model=teacher
            )
        else:
            trainer = Trainer(teacher, args, train_dataset=dataset, optimizers=(sgd(teacher.parameters()), None))
        if spec.task == "input":
            for batch in itertools.chain.from_iterable(itertools.repeat(trainer.get_train_dataloader())):
                meter.step(len(batch["labels"]))
        trainer.add_callback(MeterCallback(trainer, meter))
        trainer.train()


if __name__ == "__main__":
    main(train, "torch", "torchvision", "transformers", "accelerate")
