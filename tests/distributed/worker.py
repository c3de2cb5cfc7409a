"""Everything the tests ask of a group of processes, once per process: `worker.py FOLDER PROCESSES [CHECKPOINT]`.

Trains in float64 and writes what came out. Started alone or by torchrun; the global batch is 32 images whatever the
number of processes and micro-batches. 151 images, so that the last batch of an epoch does not split evenly. The net
has no statistics over the batch.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import timm
import torch
from timm.layers import LayerNorm2d
from transformers import TrainerCallback

from hf_icckd import (
    Augmentation,
    ClassifierSpec,
    ImageClassifier,
    ImagePipeline,
    Sampling,
    StudentTrainer,
    StudentTrainingArguments,
    TeacherTargets,
    TeacherTrainer,
    TeacherTrainingArguments,
    create_classifier,
    load_image_data,
    metrics,
)
from hf_icckd.training import rehearsal
from hf_icckd.training.signals import StopOnSignal
from hf_icckd.utils import distributed

TERMS = (
    "loss/ce",
    "loss/intra_class",
    "gated_fraction",
    "loss/kd",
    "loss/rkd_distance",
    "loss/rkd_angle",
    "loss/embedding",
)


def classifier(names, seed):
    torch.manual_seed(seed)
    net = timm.create_model("cifar_resnet8", num_classes=len(names), norm_layer=LayerNorm2d)
    return ImageClassifier(net, ClassifierSpec("cifar_resnet8", tuple(names), (0.3,) * 3, (0.4,) * 3, 8)).double()


def outcome(trainer) -> dict:
    """Weights, cache and terms of every step. Not the Trainer's own `loss`, which it sums in float32."""
    history = trainer.state.log_history
    terms = {name: torch.tensor([entry[name] for entry in history if name in entry]).double() for name in TERMS}
    cache = getattr(trainer, "cache", None)
    return {
        "weights": {name: value.clone() for name, value in trainer.classifier.state_dict().items()},
        "cache": {} if cache is None else cache.state_dict(),
        "terms": {name: values for name, values in terms.items() if len(values)},
    }


def weights_of(trainer) -> dict:
    """Measured weights, and which evaluation they are of."""
    best = trainer.best
    return {
        "weights": {name: value.clone() for name, value in trainer.measured_classifier.state_dict().items()},
        "choice": {"step": torch.tensor(best.step), "value": torch.tensor(best.value, dtype=torch.float64)},
        "end": {"step": torch.tensor(trainer.state.global_step), "evaluations": torch.tensor(best.evaluations)},
    }


def uneven_rows(labels) -> list[int]:
    """All images of the first classes, a third of the last ones."""
    return [row for row, label in enumerate(labels.tolist()) if label < 5 or row % 3 == 0]


def refusal(function, *args) -> str:
    try:
        function(*args)
    except (ValueError, OSError) as error:
        return str(error)
    except SystemExit as error:
        return f"exit {error.code}"
    return ""


class StopOnOneRank(TrainerCallback):
    """The last process alone asks for a stop in step 3."""

    def __init__(self):
        self.trainer = None

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2 and distributed.rank() == distributed.world_size() - 1:
            self.trainer.request_stop()


def collectives() -> dict:
    """What the processes tell each other, and what each learns of it."""
    results = {}
    rank = distributed.rank()
    results["check_equal"] = [
        refusal(distributed.check_equal, {"seed": 1, "data": "x"}),
        refusal(distributed.check_equal, {"seed": 1, "data": "x" if rank == 0 else "y"}),
    ]

    def fail():
        raise ValueError(f"only process {rank} can know")

    results["on_first_rank"] = [
        distributed.on_first_rank(lambda: {"rank": rank}),
        refusal(distributed.on_first_rank, fail),
    ]
    results["any_rank"] = [distributed.any_rank(False), distributed.any_rank(rank == distributed.world_size() - 1)]
    stop = StopOnSignal(lambda: None)
    stop.received = signal.SIGUSR1 if rank == distributed.world_size() - 1 else None
    results["exit_code"] = stop.exit_code
    return results


def main(folder: str, processes: int, checkpoint: str | None) -> None:
    del rehearsal._PARTS["loading the saved model"]  # a folder can't say which layers normalise this one
    data = load_image_data("digits", max_train_samples=151, max_eval_samples=41)
    pipeline = ImagePipeline(data)
    results = {}

    def options(name: str, accumulation: int = 1, **more) -> dict:
        return {
            "output_dir": f"{folder}/{name}", "max_steps": 20, "logging_steps": 1, "disable_tqdm": True,
            "per_device_train_batch_size": 32 // processes // accumulation, "eval_strategy": "no",
            "gradient_accumulation_steps": accumulation, "save_strategy": "no", "num_threads": 1,
        } | more  # fmt: skip

    def teacher(
        name: str, model=None, callbacks=None, resume=None, evaluated=None, images=pipeline, **more
    ) -> TeacherTrainer:
        trainer = TeacherTrainer(
            model or classifier(data.label_names, 0),
            TeacherTrainingArguments(**options(name, **more)),
            images.dataset("train", training=True, num_views=2),
            evaluated or pipeline.dataset("test"),
            callbacks=callbacks,
        )
        for callback in callbacks or []:
            callback.trainer = trainer
        rehearsal.rehearse(trainer)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    def on_mixes(accumulation: int) -> StudentTrainer:
        """A student on mixed images: pairs may stand in two processes at the end of an epoch."""
        images = ImagePipeline(data, Augmentation(mixup=0.4, cutmix=1.0, aa="rand-m9-mstd0.5-inc1"))
        student = StudentTrainer(
            classifier(data.label_names, 1),
            classifier(data.label_names, 2),
            StudentTrainingArguments(**options("mixed", accumulation), objectives=["kd"]),
            images.dataset("train", training=True),
        )
        student.train()
        return student

    def without_labels(accumulation: int, only: bool, objectives: list[str]) -> StudentTrainer:
        """A student of 151 digits and 62 images without labels, or of these alone; steps differ in their labels."""
        images = ImagePipeline(
            load_image_data(
                "digits", max_train_samples=151, max_eval_samples=41, unlabeled_dataset="synthetic",
                max_unlabeled_samples=62, unlabeled_only=only,
            )
        )  # fmt: skip
        student = StudentTrainer(
            classifier(data.label_names, 1),
            classifier(data.label_names, 2),
            StudentTrainingArguments(
                **options("unlabeled", accumulation), objectives=objectives, label_smoothing=0.0 if only else 0.1
            ),
            images.dataset("train", training=True),
            labeled_dataset=images.dataset("train"),
        )
        rehearsal.rehearse(student)
        student.train()
        return student

    uneven = dataclasses.replace(data, train=data.train.select(uneven_rows(data.labels("train"))))
    resampled = ImagePipeline(uneven, Augmentation(mixup=0.4), sampling=Sampling("balanced", seed=2))
    intra_class = {"terms": ["intra_class:weight=1,margin=0,cache_size=8"]}
    for accumulation in (1, 2):
        results[f"mixed x{accumulation}"] = outcome(on_mixes(accumulation))
        weighted = teacher(
            "weighted", accumulation=accumulation, terms=["none"], class_weights=["balanced"], label_smoothing=0.1,
            images=ImagePipeline(uneven),
        )  # fmt: skip
        results[f"weighted x{accumulation}"] = outcome(weighted)
        sampled = teacher("sampled", accumulation=accumulation, terms=["none"], images=resampled)
        results[f"sampled x{accumulation}"] = outcome(sampled)
        results[f"unlabeled x{accumulation}"] = outcome(without_labels(accumulation, False, ["kd", "embedding"]))
        alone = without_labels(accumulation, True, ["embedding"])
        results[f"alone x{accumulation}"] = outcome(alone)
        trainer = teacher(f"teacher-{accumulation}", accumulation=accumulation, **intra_class)
        results[f"intra_class x{accumulation}"] = outcome(trainer)
        for name, objectives, mode in (
            ("kd", ["kd"], "live"),
            ("kd+rkd", ["kd", "rkd:weight=0.1"], "live"),
            ("recorded", ["kd", "rkd:weight=0.1"], "auto"),  # with the second accumulation: replayed
        ):
            guide, targets = classifier(data.label_names, 2), None
            if mode != "live":
                targets = TeacherTargets(f"{folder}/targets", guide, pipeline, ("logits", "embeddings"))
            student = StudentTrainer(
                classifier(data.label_names, 1),
                guide,
                StudentTrainingArguments(
                    **options("student", accumulation), objectives=objectives, teacher_targets=mode
                ),
                pipeline.dataset("train", training=True),
                targets=targets,
            )
            rehearsal.rehearse(student)
            student.train()
            results[f"{name} x{accumulation}"] = outcome(student)
        trainer = teacher("ce", accumulation=accumulation, terms=["none"])
        results[f"ce x{accumulation}"] = outcome(trainer)
        ce = {"accumulation": accumulation, "terms": ["none"]}
        results[f"frozen x{accumulation}"] = outcome(teacher("frozen", freeze_epochs=2, layer_decay=0.7, **ce))
        # Statistics that are frozen don't depend on the number of processes.
        torch.manual_seed(0)
        net = create_classifier("cifar_resnet8", data.label_names, image_size=8).double()
        results[f"probe x{accumulation}"] = outcome(teacher("probe", model=net, freeze_backbone=True, **ce))
    alone.fit_head()
    results["fitted"] = alone.classifier.net.get_classifier().state_dict()
    test = pipeline.dataset("test")
    results["logits"] = trainer.predict_split(test).logits
    # 41 images in batches of 8 a process: measured batch by batch, and from all outputs at once.
    student.args.per_device_eval_batch_size = 8
    measured = student.evaluate(test)
    logits, _, labels = student.predict_split(test)
    whole = metrics.classification_metrics(logits, labels)
    whole |= metrics.agreement_metrics(logits, student.evaluation_teacher(test).logits)
    results["figures"] = {name: [whole[name], measured[f"eval_{name}"]] for name in whole}

    # One process asks for a stop; another number of processes goes on with the checkpoint.
    stopped = teacher("stopped", callbacks=[StopOnOneRank()], **intra_class)
    results["stopped at"] = stopped.state.global_step
    resumed = teacher("resumed", resume=checkpoint or f"{folder}/stopped/checkpoint-3", **intra_class)
    results["resumed"] = outcome(resumed)
    results["losses"] = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]

    # The average of the weights, the best of them, and a stop because no better ones came; then the same from a
    # checkpoint of another number of processes.
    kept = {
        "evaluated": {"validation": test}, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps",
        "save_steps": 3, "save_total_limit": None, "load_best_model_at_end": True, "metric_for_best_model": "nll",
        "early_stopping_patience": 2, "early_stopping_threshold": 0.1, "learning_rate": 0.4, "model_ema": True,
        "model_ema_decay": 0.7, "terms": ["none"],
    }  # fmt: skip
    results["kept"] = weights_of(teacher("kept", **kept))
    before = Path(checkpoint).parent.with_name("kept") if checkpoint else Path(folder, "kept")
    results["kept again"] = weights_of(teacher("again", resume=f"{before}/checkpoint-3", **kept))

    # A net with BatchNorm, whose statistics differ between processes while it trains.
    torch.manual_seed(0)
    net = create_classifier("cifar_resnet8", data.label_names, image_size=8)
    normalised = teacher("normalised", model=net, max_steps=10)
    state = {name: value.clone() for name, value in normalised.classifier.state_dict().items()}
    results["normalised"] = {"state": state, "logits": normalised.predict_split(pipeline.dataset("test")).logits}

    results |= collectives()
    torch.save(results, f"{folder}/rank{distributed.rank()}.pt")


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(exist_ok=True)
    assert int(os.environ.get("WORLD_SIZE", 1)) == int(sys.argv[2])
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
