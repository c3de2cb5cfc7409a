"""Everything the tests ask of a group of processes, once per process: `worker.py FOLDER PROCESSES [CHECKPOINT]`.

Trains in float64 and writes what came out. Started alone or by torchrun; the global batch is 32 images whatever the
number of processes and micro-batches. 151 images, so that the last batch of an epoch does not split evenly. Neither
the net nor a branch of it has statistics over the batch.
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
    ImageData,
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
from hf_icckd.data.sampling import BatchDataset
from hf_icckd.losses import TEACHER_TERMS
from hf_icckd.losses.sftn import SFTN
from hf_icckd.models.ensemble import ensemble
from hf_icckd.training import rehearsal
from hf_icckd.training.signals import StopOnSignal
from hf_icckd.utils import distributed

TERMS = (
    "loss/ce",
    "loss/intra_class",
    "gated_fraction",
    "loss/cmi",
    "loss/branch_ce",
    "loss/branch_kl",
    "loss/kd",
    "loss/rkd_distance",
    "loss/rkd_angle",
    "loss/embedding",
    *(f"loss/{name}" for name in ("dkd", "dist_inter", "dist_intra", "pkt", "sp", "at", "fitnet", "vid", "nst")),
)


def classifier(names, seed):
    torch.manual_seed(seed)
    net = timm.create_model("cifar_resnet8", num_classes=len(names), norm_layer=LayerNorm2d)
    return ImageClassifier(net, ClassifierSpec("cifar_resnet8", tuple(names), (0.3,) * 3, (0.4,) * 3, 8)).double()


class NormalisedAlone(SFTN):
    """Branches that normalise each image alone."""

    def trained_part(self, teacher, seed):
        part = super().trained_part(teacher, seed)
        for name, module in list(part.named_modules()):
            if isinstance(module, torch.nn.BatchNorm2d):
                part.set_submodule(name, LayerNorm2d(module.num_features).to(module.weight))
        return part


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
        refusal(distributed.on_first_rank, lambda: sys.exit("error: one line")),
    ]
    results["any_rank"] = [distributed.any_rank(False), distributed.any_rank(rank == distributed.world_size() - 1)]
    stop = StopOnSignal(lambda: None)
    stop.received = signal.SIGUSR1 if rank == distributed.world_size() - 1 else None
    results["exit_code"] = stop.exit_code
    return results


INTRA_CLASS = {"terms": ["intra_class:weight=1,margin=0,cache_size=8", "cmi:weight=0.1,start=0.25"]}
CE = {"terms": ["none"]}


class Worker:
    """Trains on this process's share of 151 digits."""

    def __init__(self, folder: str, processes: int):
        self.folder, self.processes = folder, processes
        self.data = digits()
        self.pipeline = ImagePipeline(self.data)

    def options(self, name: str, accumulation: int = 1, **more) -> dict:
        return {
            "output_dir": f"{self.folder}/{name}", "max_steps": 20, "logging_steps": 1, "disable_tqdm": True,
            "per_device_train_batch_size": 32 // self.processes // accumulation, "eval_strategy": "no",
            "gradient_accumulation_steps": accumulation, "save_strategy": "no", "num_threads": 1,
        } | more  # fmt: skip

    def teacher(
        self, name: str, model=None, callbacks=(), resume=None, evaluated=None, images=None, **more
    ) -> TeacherTrainer:
        trainer = TeacherTrainer(
            model or classifier(self.data.label_names, 0),
            TeacherTrainingArguments(**self.options(name, **more)),
            (images or self.pipeline).dataset("train", training=True, num_views=2),
            evaluated or self.pipeline.dataset("test"),
            callbacks=list(callbacks),
        )
        for callback in callbacks:
            callback.trainer = trainer
        rehearsal.rehearse(trainer)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    def student(
        self, accumulation: int, images=None, recorded: bool = False, crossed: bool = False, **more
    ) -> StudentTrainer:
        images, guide, targets = images or self.pipeline, classifier(self.data.label_names, 2), None
        if crossed:  # of uneven shares, one of them in few rows
            guide = ensemble([guide, *(classifier(self.data.label_names, seed) for seed in (3, 4))]).double()
            taught_by = (torch.arange(151) % 7 > 2).long() + (torch.arange(151) == 40)
            targets = TeacherTargets(f"{self.folder}/crossed", guide, images, taught_by=taught_by)
        elif recorded:
            targets = TeacherTargets(f"{self.folder}/targets", guide, images, ("logits", "embeddings"))
        trainer = StudentTrainer(
            classifier(self.data.label_names, 1),
            guide,
            StudentTrainingArguments(
                **self.options("student", accumulation, teacher_targets="auto" if targets else "live", **more)
            ),
            images.dataset("train", training=True),
            targets=targets,
            labeled_dataset=images.dataset("train"),
        )
        rehearsal.rehearse(trainer)
        trainer.train()
        return trainer


def digits(**more) -> ImageData:
    return load_image_data("digits", max_train_samples=151, max_eval_samples=41, **more)


def teachers(worker: Worker, accumulation: int) -> dict[str, TeacherTrainer]:
    """One of each kind, with one or two micro-batches in a step."""
    data = worker.data
    uneven = dataclasses.replace(data, train=data.train.select(uneven_rows(data.labels("train"))))
    resampled = ImagePipeline(uneven, Augmentation(mixup=0.4), sampling=Sampling("balanced", seed=2))
    weights = {"class_weights": ["balanced"], "label_smoothing": 0.1, "images": ImagePipeline(uneven)}
    # With BatchNorm: statistics that are frozen don't depend on the number of processes.
    torch.manual_seed(0)
    normalised = create_classifier("cifar_resnet8", data.label_names, image_size=8).double()
    kinds: dict[str, dict] = {
        "intra_class": INTRA_CLASS,
        "sftn": {"terms": ["sftn:student=cifar_resnet8"]},
        "ce": CE,
        "weighted": CE | weights,
        "sampled": CE | {"images": resampled},
        "frozen": CE | {"freeze_epochs": 2, "layer_decay": 0.7},
        "probe": CE | {"freeze_backbone": True, "model": normalised},
    }
    return {name: worker.teacher(name, accumulation=accumulation, **kind) for name, kind in kinds.items()}


# All in one run, at weights that leave none of them alone.
OTHERS = [
    "dkd:weight=0.2,warmup=0.5", "dist:weight=0.2", "pkt:weight=0.01", "sp:weight=0.01", "at:weight=0.1",
    "fitnet:weight=0.01", "vid:weight=0.1", "nst:weight=0.1", "mlkd:weight=0.01", "ctkd:weight=0.1", "wsld:weight=0.1",
    "ckd:weight=0.001", "bce_kd:weight=0.01", "hard_label:weight=0.1", "tfkd", "cc:weight=0.01", "srrl:weight=0.01",
    "crd:weight=0.05,negatives=64", "kd:weight=0.1,temperature=auto", "subclass:weight=0.1",
]  # fmt: skip


def students(worker: Worker, accumulation: int) -> dict[str, StudentTrainer]:
    """One of each kind, with one or two micro-batches in a step."""
    # Pairs may stand in two processes at the end of an epoch.
    mixes = ImagePipeline(worker.data, Augmentation(mixup=0.4, cutmix=1.0, aa="rand-m9-mstd0.5-inc1"))
    # Steps differ in how many images have a label.
    without = {"unlabeled_dataset": "synthetic", "max_unlabeled_samples": 62}
    beside, alone = (ImagePipeline(digits(**without, unlabeled_only=only)) for only in (False, True))
    rkd = {"objectives": ["kd", "rkd:weight=0.1"]}
    kinds: dict[str, dict] = {
        "mixed": {"objectives": ["kd"], "images": mixes},
        "unlabeled": {"objectives": ["kd", "embedding"], "images": beside, "label_smoothing": 0.1},
        "alone": {"objectives": ["embedding"], "images": alone},
        "kd": {"objectives": ["kd"]},
        "kd+rkd": rkd,
        "others": {"objectives": OTHERS},
        "crossed": {"objectives": ["kd"], "crossed": True},
        "recorded": rkd | {"recorded": True},  # with the second accumulation: replayed
    }
    return {name: worker.student(accumulation, **kind) for name, kind in kinds.items()}


def measurements(teacher: TeacherTrainer, student: StudentTrainer, test: BatchDataset) -> dict:
    """Logits of a teacher; metrics of a student by batch and from all outputs at once."""
    student.args.per_device_eval_batch_size = 8  # 41 images in batches of 8 a process
    measured = student.evaluate(test)
    logits, _, labels, _ = student.predict_split(test)
    whole = metrics.classification_metrics(logits, labels)
    whole |= metrics.agreement_metrics(logits, student.evaluation_teacher(test).logits)
    figures = {name: [whole[name], measured[f"eval_{name}"]] for name in whole}
    return {"logits": teacher.predict_split(test).logits, "figures": figures}


def resumed_by_others(worker: Worker, checkpoint: str | None) -> dict:
    """One process asks for a stop; another number of processes goes on with the checkpoint."""
    stopped = worker.teacher("stopped", callbacks=[StopOnOneRank()], **INTRA_CLASS)
    resume = checkpoint or f"{worker.folder}/stopped/checkpoint-3"
    resumed = worker.teacher("resumed", resume=resume, **INTRA_CLASS)
    losses = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]
    return {"stopped at": stopped.state.global_step, "resumed": outcome(resumed), "losses": losses}


def kept_weights(worker: Worker, checkpoint: str | None) -> dict:
    """The average of the weights, the best of them, and a stop because no better ones came; then from a checkpoint."""
    kept = CE | {
        "evaluated": {"validation": worker.pipeline.dataset("test")}, "eval_strategy": "steps", "eval_steps": 2,
        "save_strategy": "steps", "save_steps": 3, "save_total_limit": None, "load_best_model_at_end": True,
        "metric_for_best_model": "nll", "early_stopping_patience": 2, "early_stopping_threshold": 0.1,
        "learning_rate": 0.4, "model_ema": True, "model_ema_decay": 0.7,
    }  # fmt: skip
    once = weights_of(worker.teacher("kept", **kept))
    before = Path(checkpoint).parent.with_name("kept") if checkpoint else Path(worker.folder, "kept")
    return {"kept": once, "kept again": weights_of(worker.teacher("again", resume=f"{before}/checkpoint-3", **kept))}


def with_batchnorm(worker: Worker) -> dict:
    """A net with BatchNorm, whose statistics differ between processes while it trains."""
    torch.manual_seed(0)
    net = create_classifier("cifar_resnet8", worker.data.label_names, image_size=8)
    trainer = worker.teacher("normalised", model=net, max_steps=10)
    state = {name: value.clone() for name, value in trainer.classifier.state_dict().items()}
    return {"normalised": {"state": state, "logits": trainer.predict_split(worker.pipeline.dataset("test")).logits}}


def main(folder: str, processes: int, checkpoint: str | None) -> None:
    del rehearsal._PARTS["loading the saved model"]  # a folder can't say which layers normalise this one
    TEACHER_TERMS["sftn"] = NormalisedAlone
    worker, results = Worker(folder, processes), {}
    for accumulation in (1, 2):
        trainers = teachers(worker, accumulation) | students(worker, accumulation)
        results |= {f"{name} x{accumulation}": outcome(trainer) for name, trainer in trainers.items()}
    trainers["alone"].fit_head()
    results["fitted"] = trainers["alone"].classifier.net.get_classifier().state_dict()
    results |= measurements(trainers["ce"], trainers["recorded"], worker.pipeline.dataset("test"))
    results |= resumed_by_others(worker, checkpoint) | kept_weights(worker, checkpoint) | with_batchnorm(worker)
    results |= collectives()
    torch.save(results, f"{folder}/rank{distributed.rank()}.pt")


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(exist_ok=True)
    assert int(os.environ.get("WORLD_SIZE", 1)) == int(sys.argv[2])
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
