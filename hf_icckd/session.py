"""What the recipes of teacher and student share: all from training to a finished folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from hf_icckd.cards.card import write_card
from hf_icckd.cards.content import (
    EmbeddingPlane,
    FinishedRun,
    card_content,
    describe_teacher,
    embedding_plane,
    shown_images,
)
from hf_icckd.data import ImageData, ImagePipeline
from hf_icckd.data.report import data_report
from hf_icckd.data.report_text import report_table
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.leakage import Leakage, check_planned, compare_with_models
from hf_icckd.evaluation.split import SplitOutputs, split_metrics
from hf_icckd.hub.push import push_to_hub
from hf_icckd.metrics.class_tables import class_table, image_table
from hf_icckd.metrics.linear_probe import fine_class_probe
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.plan import foretell
from hf_icckd.runs.folder import RunFolder
from hf_icckd.runs.identity import DATA
from hf_icckd.runs.layout import DATA_REPORT_FILE, METRICS_FILE
from hf_icckd.runs.provenance import environment, how_computed
from hf_icckd.runs.records import read_control, read_options, teachers_of
from hf_icckd.runs.summary import summary_table
from hf_icckd.training.kept_weights import kept_weights
from hf_icckd.training.rehearsal import rehearse
from hf_icckd.training.run_images import record_images
from hf_icckd.training.signals import StopOnSignal
from hf_icckd.training.stopwatch import Stopwatch
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.text import json_text, show

logger = logging.getLogger(__name__)

Train = Callable[[DistillationTrainer, ImagePipeline, RunFolder, ImageClassifier | None], object]
Finished = Callable[[RunFolder, DistillationTrainingArguments], object]
_OUTPUTS_MAX_BYTES = 2 * 1024**3  # of the training split, whose outputs are all held while it is measured


def train_and_report(
    trainer: DistillationTrainer, pipeline: ImagePipeline, folder: RunFolder, teacher: ImageClassifier | None = None
) -> dict[str, Any]:
    """Train or resume a run, write what a finished folder holds, push it if asked to, and return its metrics.

    Args:
        trainer: The trainer.
        pipeline: Its data.
        folder: Folder of the run.
        teacher: Teacher of a student.

    Raises:
        SystemExit: If training was stopped by a signal.
    """
    data = pipeline.data
    leakage = distributed.on_first_rank(lambda: compare_with_models(data, folder.values))
    data.notes.extend(each.note for each in leakage if each.note)
    # Before the folder is taken: a run that can't work leaves none.
    rehearse(trainer)
    if isinstance(trainer, StudentTrainer):
        trainer.check_teacher()
    if foretold := foretell(trainer, pipeline, folder):
        logger.info("%s", foretold)
    with folder.owned(data.fingerprint()) as checkpoint:
        spec = trainer.classifier.spec
        distributed.on_first_rank(lambda: record_images(folder, data, spec.mean, spec.std))
        control = distributed.on_first_rank(lambda: _control_of(folder, pipeline))
        distributed.on_first_rank(lambda: _write_report(folder, pipeline))
        stopwatch = _train(trainer, checkpoint)
        results = _report(trainer, pipeline, folder, teacher, control, stopwatch, leakage)
    publish(folder, trainer.args)
    return results


def check_compared(pipeline: ImagePipeline, folder: RunFolder, teacher_data: ImageData | None = None) -> None:
    """Compare a run that is only planned with its control and with models that were trained on its test images.

    Args:
        pipeline: Data of the run.
        folder: Folder of the run.
        teacher_data: Data set of a teacher that is not trained yet; None for another teacher, and without one.

    Raises:
        ValueError: If `train_and_report` would refuse the run for one of them.
    """

    def check() -> None:
        data, values = pipeline.data, folder.values
        if teacher_data is not None:
            allowed = bool(values.get("allow_leakage"))
            check_planned(data, "teacher", values["teacher"], teacher_data, allowed)
            values = values | {"teacher": None}
        compare_with_models(data, values)
        folder.note_data(data.fingerprint())
        _control_of(folder, pipeline)

    distributed.on_first_rank(check)


def _write_report(folder: RunFolder, pipeline: ImagePipeline) -> None:
    """Write what was understood of the data set, all classes and examples included, into the run's folder."""
    report = data_report(pipeline.data, pipeline)
    write_text(folder.path / DATA_REPORT_FILE, report_table(report, classes=None) + "\n")


def _control_of(folder: RunFolder, pipeline: ImagePipeline) -> dict[str, Any] | None:
    """Record of the control, read before anything is trained so that a wrong one is refused at once."""
    values = folder.values
    if values["control"] is None:
        return None
    return read_control(values["control"], values["recipe"], values[DATA], len(pipeline.data.test))


def _train(trainer: DistillationTrainer, checkpoint: str | None) -> Stopwatch:
    """Train to the end. Raises SystemExit if a signal stops it, be it in the evaluation behind the last step."""
    stopwatch = Stopwatch()
    trainer.add_callback(stopwatch)
    logger.info("%s", how_computed(trainer.args))
    if checkpoint:
        logger.info("resuming from %s", checkpoint)
    with StopOnSignal(trainer.request_stop) as stop:
        trainer.train(resume_from_checkpoint=checkpoint)
    state = trainer.state
    if trainer.stopped or not trainer.ended:
        what = "measures it" if trainer.ended else "resumes there"
        logger.info("stopped at step %d of %d; the same command %s", state.global_step, state.max_steps, what)
        raise SystemExit(stop.exit_code)
    return stopwatch


def _report(
    trainer: DistillationTrainer,
    pipeline: ImagePipeline,
    folder: RunFolder,
    teacher: ImageClassifier | None,
    control: dict[str, Any] | None,
    stopwatch: Stopwatch,
    leakage: list[Leakage],
) -> dict[str, Any]:
    """Measure the trained classifier and write model, pictures, card and metrics. Returns what metrics.json holds."""
    trainer.save_model()  # first, so that the model is there whatever happens to the rest
    measured = _measure_splits(trainer, pipeline)

    def finish() -> dict[str, Any]:
        results = measured.metrics | _facts(trainer, pipeline, folder, stopwatch)
        results |= {"leakage": {each.role: each.record for each in leakage}} if leakage else {}
        about_teacher = None if teacher is None else describe_teacher(teacher, *teachers_of(folder.values).values())
        run = FinishedRun(
            folder.values, folder.changed, trainer.classifier.spec, trainer.state.log_history, about_teacher, control
        )
        mapped = measured.test if measured.teacher_test is None else measured.teacher_test
        plane = embedding_plane(mapped, pipeline.data.label_names)
        report = data_report(pipeline.data, pipeline)
        results |= card_content(run, pipeline.data, measured.test, measured.teacher_test, plane, report)
        results = json.loads(json.dumps(results))  # as `hf-icckd card` will read it
        _draw(folder, pipeline, results, plane)
        write_card(folder.path, folder.values, results)
        _mark_as_finished(folder, results)
        folder.clear_checkpoints()
        show(summary_table(results, str(folder.path)))
        return results

    return distributed.on_first_rank(finish)


class _Measured(NamedTuple):
    """Metrics of all splits, and the outputs for the test split that the card shows."""

    metrics: dict[str, Any]
    test: SplitOutputs
    teacher_test: SplitOutputs | None


def _measure_splits(trainer: DistillationTrainer, pipeline: ImagePipeline) -> _Measured:
    """Measure every split; all processes take part."""
    results: dict[str, Any] = {}
    outputs: dict[str, SplitOutputs] = {}
    teacher_test = None
    for split in ("test", "validation", "train"):
        if split in pipeline.data.splits() and _fits(trainer, pipeline, split):
            dataset = pipeline.dataset(split)
            outputs[split], of_teacher = trainer.predict_split(dataset), trainer.evaluation_teacher(dataset)
            results[split] = {"images": len(dataset), **split_metrics(outputs[split], of_teacher)}
            if split == "test" and of_teacher is not None:
                results["teacher_test"], teacher_test = split_metrics(of_teacher), of_teacher
    results |= {"per_class": _per_class(pipeline.data, outputs), **_probes(pipeline.data, outputs)}
    return _Measured(results, outputs["test"], teacher_test)


def _per_class(data: ImageData, outputs: dict[str, SplitOutputs]) -> dict[str, Any]:
    """The table of classes of every split; the number of training images also where that split was not measured."""
    names = list(data.label_names)
    tables = {split: class_table(each.logits, each.labels, names) for split, each in outputs.items()}
    if "train" not in tables and not data.streamed:
        tables["train"] = image_table(np.bincount(data.labels("train"), minlength=len(names)).tolist(), names)
    return {"names": names, **tables}


def _fits(trainer: DistillationTrainer, pipeline: ImagePipeline, split: str) -> bool:
    """Whether the outputs of a split can be held all at once, as its metrics need. The test split must fit."""
    images = len(pipeline.data.splits()[split])
    size = 4 * images * (len(trainer.classifier.spec.label_names) + (trainer.classifier.embedding_dim or 0))
    if split == "train" and size > _OUTPUTS_MAX_BYTES:
        logger.info("the training split is not measured: its outputs would take %.1f GiB", size / 2**30)
        return False
    return True


def _probes(data: ImageData, outputs: dict[str, SplitOutputs]) -> dict[str, Any]:
    """How well linear probes, fitted on the training split, find finer classes than the ones that were learned."""
    if "train" not in outputs or data.fine_labels("test") is None:
        return {}
    pair = outputs["train"], outputs["test"]
    fine = tuple(
        torch.from_numpy(data.fine_labels(split)).to(each.labels.device)
        for split, each in zip(("train", "test"), pair, strict=True)
    )
    # Images of classes that have no training image are left out; a note of the data set says that there are some.
    known = torch.isin(pair[1].labels, pair[0].labels)
    if not known.any() or any(each.embeddings is None for each in pair):
        return {}
    logits, embeddings, groups = (
        (first, second[known]) for first, second in zip(*(each[:3] for each in pair), strict=True)
    )
    return {"fine_probe": fine_class_probe(logits, embeddings, groups, (fine[0], fine[1][known]))}


def _facts(
    trainer: DistillationTrainer, pipeline: ImagePipeline, folder: RunFolder, stopwatch: Stopwatch
) -> dict[str, Any]:
    """Cost of the exported model, course of the training and environment; for one process alone."""
    # The cost of the exported model: one process can't compute anything with a shard.
    exported = from_pretrained(folder.path).to(trainer.args.device)
    layout = torch.channels_last if trainer.args.channels_last else torch.contiguous_format
    logged = [entry for entry in trainer.state.log_history if "images_per_second" in entry]
    return {
        "cost": cost_metrics(exported.to(memory_format=layout)),
        "training": (logged[-1] if logged else {})
        | {"seconds_of_last_session": stopwatch.seconds, "first_step_of_last_session": stopwatch.first_step},
        "history": [entry for entry in trainer.state.log_history if "eval_top1" in entry],
        "notes": [*pipeline.data.notes, *trainer.notes],
        **kept_weights(trainer),
        "environment": environment(trainer.args),
    }


def _draw(folder: RunFolder, pipeline: ImagePipeline, results: dict[str, Any], plane: EmbeddingPlane | None) -> None:
    # Imported here: matplotlib takes a while, and only the first process needs it, at the very end.
    from hf_icckd.cards.pictures import draw_pictures

    draw_pictures(folder.path, results, pipeline.evaluation_split, shown_images(pipeline, results), plane)


def _mark_as_finished(folder: RunFolder, results: dict[str, Any]) -> None:
    """Write metrics.json, which comes last because a folder that has it counts as finished."""
    write_text(folder.path / METRICS_FILE, json_text(results))


def publish(folder: RunFolder, args: DistillationTrainingArguments) -> None:
    """Push a finished run if its options say so. Files that are on the Hub already are not sent again."""
    # Other processes don't wait for the first one: they have nothing left to do.
    if args.push_to_hub and distributed.rank() == 0:
        commit = push_to_hub(
            folder.path,
            args.hub_repo_id,
            private=args.hub_private_repo,
            revision=args.hub_revision,
            token=args.hub_token,
        )
        show(f"{folder.path} is on the Hub: {commit.repo_url}")


def show_finished(folder: RunFolder, args: DistillationTrainingArguments, quiet: bool = False) -> None:
    """Print the metrics of a finished run, unless `quiet`, and push it if its options say so.

    Raises:
        ValueError: If a licence or control is asked for that the card was not made with.
    """
    recorded = read_options(folder.path)
    for name, hint in (
        ("license", f"change it with hf-icckd card {folder.path} --license {args.license}"),
        ("control", "a control is compared when the run ends; leave the option out"),
    ):
        asked, before = getattr(args, name), recorded.get(name)
        if asked not in (None, before):
            raise ValueError(f"{name} is {asked!r} but {str(folder.path)!r} was finished with {before!r}; {hint}")
    if distributed.rank() == 0:
        folder.clear_checkpoints()  # in case the run was killed just before
        results = json.loads((folder.path / METRICS_FILE).read_text(encoding="utf-8"))
        if not quiet:
            show(summary_table(results, f"{folder.path} is finished"))
    publish(folder, args)
