"""What the entry points share: the folder of a run, the data of its options, and how it ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import torch
from transformers import set_seed

from hf_icckd.cards.card import write_card
from hf_icckd.cards.content import CardCallback
from hf_icckd.data import ImageData, ImagePipeline
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.split import SplitOutputs, split_metrics
from hf_icckd.hub.push import push_to_hub
from hf_icckd.metrics.linear_probe import fine_class_probe
from hf_icckd.models.classifier import ImageClassifier, create_classifier, go_on_from
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.recipes import StudentModelArguments, TeacherModelArguments
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.runs.folder import RunFolder
from hf_icckd.runs.layout import METRICS_FILE
from hf_icckd.runs.provenance import environment, how_computed
from hf_icckd.runs.records import read_control, read_options
from hf_icckd.runs.summary import summary_table
from hf_icckd.training.signals import StopOnSignal
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.text import show

logger = logging.getLogger(__name__)

_OUTPUTS_MAX_BYTES = 2 * 1024**3  # of the training split, whose outputs are held for its figures


def build_classifier(
    model_args: TeacherModelArguments | StudentModelArguments,
    data_args: TrainingDataArguments,
    pipeline: ImagePipeline,
    seed: int,
    normalisation: Callable[[], tuple[tuple[float, ...], tuple[float, ...]]],
    start: ImageClassifier | None = None,
) -> ImageClassifier:
    """The net that is trained: from scratch, normalised as `normalisation()` says, or trained, as it was."""
    set_seed(seed)
    if start is not None:
        if start.spec.label_names != tuple(pipeline.data.label_names):
            logger.info("what it goes on from has other classes than the data: it gets a new classification layer")
        # Small images are taken whole, whatever the net was evaluated with before.
        return go_on_from(start, pipeline.data.label_names, data_args.image_size, pipeline.crop_pct)
    mean, std = (None, None) if model_args.pretrained else normalisation()
    return create_classifier(
        model_args.model,
        pipeline.data.label_names,
        # Pretrained weights want the size they were made with, and get it on the device, unless told otherwise.
        image_size=data_args.image_size if model_args.pretrained else pipeline.image_size,
        mean=mean,
        std=std,
        crop_pct=pipeline.crop_pct,
        interpolation=pipeline.interpolation,
        pretrained=model_args.pretrained,
    )


def train_and_report(
    trainer: DistillationTrainer, pipeline: ImagePipeline, folder: RunFolder, teacher: ImageClassifier | None = None
) -> dict[str, Any]:
    """Train or go on, measure the last epoch, write model, figures, options and card; push them if asked to.

    Args:
        trainer: The trainer.
        pipeline: Its data.
        folder: Folder of the run.
        teacher: Teacher of a student, for its figures beside the student's.

    Returns:
        What metrics.json holds.
    """
    with folder.owned(pipeline.data.fingerprint()) as checkpoint:
        card = CardCallback(folder, pipeline, teacher, _control(trainer.args, folder, pipeline))
        trainer.add_callback(card)
        logger.info("%s", how_computed(trainer.args))
        if checkpoint:
            logger.info("going on from %s", checkpoint)
        with StopOnSignal(trainer.request_stop) as stop:
            trainer.train(resume_from_checkpoint=checkpoint)
        state = trainer.state
        if state.global_step < state.max_steps:
            logger.info("stopped at step %d of %d; the same command goes on there", state.global_step, state.max_steps)
            raise SystemExit(stop.exit_code)
        results = _report(trainer, pipeline, folder, teacher, card)
    publish(folder, trainer.args)
    return results


def _control(args: DistillationTrainingArguments, folder: RunFolder, pipeline: ImagePipeline) -> dict[str, Any] | None:
    """Figures of the run to compare with; refused before anything is trained if it is none of the same images."""

    def read() -> dict[str, Any] | None:
        if args.control is None:
            return None
        values = folder.values
        return read_control(args.control, values["recipe"], values["data_fingerprint"], len(pipeline.data.test))

    return distributed.on_first_rank(read)


def _report(
    trainer: DistillationTrainer,
    pipeline: ImagePipeline,
    folder: RunFolder,
    teacher: ImageClassifier | None,
    card: CardCallback,
) -> dict[str, Any]:
    """Measure the trained classifier; write model, figures, pictures and card."""
    trainer.save_model()  # before the figures: whatever happens to them, the model is there
    results: dict[str, Any] = {}
    outputs: dict[str, SplitOutputs] = {}
    for split in ("test", "validation", "train"):
        if split in pipeline.data.splits() and _fits(trainer, pipeline, split):
            dataset = pipeline.dataset(split)
            outputs[split], of_teacher = trainer.predict_split(dataset), trainer.evaluation_teacher(dataset)
            results[split] = {"images": len(dataset), **split_metrics(outputs[split], of_teacher)}
            if split == "test" and of_teacher is not None:
                results["teacher_test"] = split_metrics(of_teacher)
            if split == "test" and trainer.is_world_process_zero():
                card.look(outputs[split], of_teacher)
    results |= _probes(pipeline.data, outputs)
    del outputs, of_teacher
    if trainer.is_world_process_zero():
        # Of what was exported: of a sharded net one process alone can't compute anything.
        exported = from_pretrained(folder.path).to(trainer.args.device)
        layout = torch.channels_last if trainer.args.channels_last else torch.contiguous_format
        results |= {
            "cost": cost_metrics(exported.to(memory_format=layout)),
            "training": _last_training_log(trainer)
            | {"seconds_of_last_session": card.seconds, "first_step_of_last_session": card.first_step},
            "history": [entry for entry in trainer.state.log_history if "eval_top1" in entry],
            "notes": pipeline.data.notes,
            "environment": environment(trainer.args),
        } | card.facts(trainer.classifier.spec)
        text = json.dumps(results, indent=2) + "\n"
        results = json.loads(text)  # the card is made of what a file gives, as when it is made anew
        card.draw(results)
        write_card(folder.path, folder.values, results)
        # Last, because it marks the run as finished.
        write_text(folder.path / METRICS_FILE, text)
        folder.clear_checkpoints()
        show(summary_table(results, str(folder.path)))
    distributed.barrier()
    return results


def publish(folder: RunFolder, args: DistillationTrainingArguments) -> None:
    """Push a finished run if its arguments say so; what is on the Hub already is not sent again."""
    # The others need not wait: nothing is left for them to do.
    if args.push_to_hub and distributed.rank() == 0:
        commit = push_to_hub(
            folder.path,
            args.hub_repo_id,
            private=args.hub_private_repo,
            revision=args.hub_revision,
            token=args.hub_token,
        )
        show(f"{folder.path} is on the Hub: {commit.repo_url}")


def _fits(trainer: DistillationTrainer, pipeline: ImagePipeline, split: str) -> bool:
    """Whether the outputs of a split, which its figures need all at once, are small enough; the test split must be."""
    images = len(pipeline.data.splits()[split])
    size = 4 * images * (len(trainer.classifier.spec.label_names) + trainer.classifier.embedding_dim)
    if split == "train" and size > _OUTPUTS_MAX_BYTES:
        logger.info("no figures of the training split: its outputs would take %.1f GiB", size / 2**30)
        return False
    return True


def _probes(data: ImageData, outputs: dict[str, SplitOutputs]) -> dict[str, Any]:
    """How well finer classes than those that were learned can be told, fitted on the training split."""
    if "train" not in outputs or data.fine_labels("test") is None:
        return {}
    pair = outputs["train"], outputs["test"]
    fine = tuple(
        torch.from_numpy(data.fine_labels(split)).to(each.labels.device)
        for split, each in zip(("train", "test"), pair, strict=True)
    )
    # Images of classes that have no training image are left out; a note of the data set says that there are some.
    known = torch.isin(pair[1].labels, pair[0].labels)
    if not known.any():
        return {}
    (logits, embeddings, groups) = ((first, second[known]) for first, second in zip(*pair, strict=True))
    return {"fine_probe": fine_class_probe(logits, embeddings, groups, (fine[0], fine[1][known]))}


def _last_training_log(trainer: DistillationTrainer) -> dict[str, float]:
    logs = [entry for entry in trainer.state.log_history if "images_per_second" in entry]
    return logs[-1] if logs else {}


def show_finished(folder: RunFolder, args: DistillationTrainingArguments) -> None:
    """Print the figures of a finished run, and push it if its arguments say so.

    Raises:
        ValueError: If they ask for another licence or control than its card was made with.
    """
    recorded = read_options(folder.path)
    for name, hint in (
        ("license", f"make the card anew with python -m hf_icckd.model_card {folder.path} --license {args.license}"),
        ("control", "a control is measured when a run ends; leave it out"),
    ):
        asked, before = getattr(args, name), recorded.get(name)
        if asked not in (None, before):
            raise ValueError(f"{name} is {asked!r} but {str(folder.path)!r} was finished with {before!r}; {hint}")
    if distributed.rank() == 0:
        folder.clear_checkpoints()  # if the run was killed in between
        results = json.loads((folder.path / METRICS_FILE).read_text())
        show(summary_table(results, f"{folder.path} is finished"))
    publish(folder, args)
