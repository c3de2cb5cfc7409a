"""What the tests ask of sharded teachers, once per process: `fsdp_worker.py FOLDER [CHECKPOINT [only]]`.

Started by `accelerate launch --config_file recipes/accelerate/fsdp2.yaml`, or alone, for comparison.
Trains in float64 and writes what came out; with `only`, only what resumes CHECKPOINT. The global batch is 32
images; 151 images, so that the last batch of an epoch does not split evenly. Weights don't split evenly either.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import timm
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from worker import StopOnOneRank, classifier, outcome, refusal

from hf_icckd import (
    ClassifierSpec,
    ImageClassifier,
    ImagePipeline,
    TeacherTrainer,
    TeacherTrainingArguments,
    create_classifier,
    load_image_data,
    teacher,
)
from hf_icckd.training import resumable
from hf_icckd.utils import distributed

PROCESSES = int(os.environ.get("WORLD_SIZE", 1))
INTRA_CLASS = {"terms": ["intra_class:weight=1,margin=0,cache_size=8"]}
# Evaluation leaves some weights gathered; the checkpoint of the same step comes after it.
SAVING = {
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": None,
    "eval_strategy": "steps",
    "eval_steps": 3,
}
ADAMW = {
    "optim": "adamw_torch",
    "learning_rate": 1e-3,
    "decay_norm_and_bias": False,
    "max_grad_norm": 0.5,
    "layer_decay": 0.7,
}
# The last evaluation is not at the last step, so other weights are kept than those of the end.
BEST = SAVING | {"load_best_model_at_end": True, "metric_for_best_model": "nll"}


def shard_on_cpus() -> None:
    """Have accelerate take processes on CPUs, where it shards nothing, for such on GPUs."""
    plain = AcceleratorState.__init__

    def init(self, *args, **options):
        shared = PartialState._shared_state
        on_cpus = shared.get("distributed_type") is DistributedType.MULTI_CPU
        if on_cpus and os.environ.get("ACCELERATE_USE_FSDP") == "true":
            shared["distributed_type"] = DistributedType.MULTI_GPU
        plain(self, *args, **options)

    AcceleratorState.__init__ = init


class Tests:
    """Trainers of one pipeline and what came out of them."""

    def __init__(self, folder: str):
        self.folder, self.results = folder, {}
        self.data = load_image_data("digits", max_train_samples=151, max_eval_samples=41)
        self.pipeline = ImagePipeline(self.data)
        self.test = self.pipeline.dataset("test")

    def vit(self) -> ImageClassifier:
        """A transformer with three blocks, each gathered by itself, and parameters outside of them."""
        torch.manual_seed(3)
        names = self.data.label_names
        net = timm.create_model(
            "vit_tiny_patch16_224",
            num_classes=len(names),
            img_size=8,
            patch_size=4,
            embed_dim=27,
            num_heads=3,
            depth=3,
        )
        return ImageClassifier(net, ClassifierSpec("vit_tiny_patch16_224", names, (0.3,) * 3, (0.4,) * 3, 8))

    def trainer(self, name: str, model: ImageClassifier, accumulation: int = 1, callbacks=None, **more):
        options = {
            "output_dir": f"{self.folder}/{name}", "max_steps": 8, "logging_steps": 1, "disable_tqdm": True,
            "per_device_train_batch_size": 32 // PROCESSES // accumulation, "eval_strategy": "no",
            "gradient_accumulation_steps": accumulation, "save_strategy": "no", "num_threads": 1,
        }  # fmt: skip
        trainer = TeacherTrainer(
            model,
            TeacherTrainingArguments(**options | INTRA_CLASS | more),
            self.pipeline.dataset("train", training=True, num_views=2),
            {"validation": self.test} if more.get("load_best_model_at_end") else self.test,
            callbacks=callbacks,
        )
        for callback in callbacks or []:
            callback.trainer = trainer
        return trainer

    def train(self, name: str, model: ImageClassifier, resume: str | None = None, **options) -> TeacherTrainer:
        """Train and note the whole weights and moments, cache, terms of every step and outputs before and after."""
        trainer = self.trainer(name, model, **options)
        before = trainer.predict_split(self.test).logits
        trainer.train(resume_from_checkpoint=resume)
        whole = distributed.gather_shards({"weights": model.state_dict(), "optimizer": trainer.optimizer.state_dict()})
        moments = whole["optimizer"]["state"].items()
        self.results[name] = outcome(trainer) | {
            "weights": whole["weights"],
            "moments": {f"{kind} {index}": value for index, each in moments for kind, value in each.items()},
            "logits": {"before": before, "after": trainer.predict_split(self.test).logits},
        }
        return trainer


def main(tests: Tests) -> None:
    results, vit = tests.results, lambda: tests.vit().double()
    tests.train("conv", classifier(tests.data.label_names, 0))
    tests.train("sgd x2", vit(), accumulation=2)
    trained = tests.train("sgd", vit())
    state = trained.model.state_dict().values()
    results["shards"] = [sum(isinstance(value, DTensor) for value in state), len(state)]
    tests.train("cut", vit(), callbacks=[StopOnOneRank()], **SAVING)
    tests.train("resumed", vit(), f"{tests.folder}/cut/checkpoint-3")
    trained = tests.train("adamw", vit(), **ADAMW, **SAVING)
    trained.save_model(f"{tests.folder}/exported")
    tests.train("adamw resumed", vit(), f"{tests.folder}/adamw/checkpoint-3", **ADAMW)
    results["best step"] = tests.train("best", vit(), **BEST).best.step
    tests.train("best resumed", vit(), f"{tests.folder}/best/checkpoint-6", **BEST)
    tests.train("bf16", tests.vit(), bf16=True)

    # A process that can't write, and a weight that is not finite on one process: all end, none waits for another.
    trainer = tests.trainer("full", vit(), **SAVING)
    write = resumable.save_file

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    resumable.save_file = fail
    results["full disk"] = refusal(trainer.train)
    resumable.save_file = write
    with torch.no_grad():
        shard = distributed.own_shard(trainer.classifier.net.blocks[0].mlp.fc1.weight)
        shard[-1] = torch.nan if distributed.rank() == PROCESSES - 1 else 0.0
    try:
        trainer.save_model(f"{tests.folder}/poisoned")
    except FloatingPointError as error:
        results["not finite"] = str(error)
    before = dict(os.environ)
    results["compiled"] = refusal(lambda: tests.trainer("compiled", vit(), torch_compile_backend="eager"))
    os.environ.update(before)


def compare_with_ddp(tests: Tests) -> None:
    """Statistics over each process's share of the batch, in float32: the same bits, if both have one memory layout."""
    for name, sharded in (("ddp", "false"), ("sharded", "true")):
        os.environ["ACCELERATE_USE_FSDP"] = sharded
        torch.manual_seed(0)
        net = create_classifier("cifar_resnet20", tests.data.label_names, image_size=8)
        tests.train(name, net, channels_last=False)


def run_recipe(folder: str) -> None:
    teacher.main(
        ["--output_dir", f"{folder}/recipe", "--max_train_samples", "151", "--max_eval_samples", "41", "--use_cpu",
         "true", "--model", "cifar_resnet20", "--num_train_epochs", "1", "--disable_tqdm", "true",
         "--num_threads", "1"]
    )  # fmt: skip


if __name__ == "__main__":
    folder, checkpoint, only = (*sys.argv[1:], None, None)[:3]
    Path(folder).mkdir(exist_ok=True)
    shard_on_cpus()
    tests = Tests(folder)
    if checkpoint:
        tests.train("other", tests.vit().double(), checkpoint)
    if not only:
        main(tests)
    if PROCESSES > 1:
        compare_with_ddp(tests)
        run_recipe(folder)
    torch.save(tests.results, f"{folder}/rank{distributed.rank()}.pt")
