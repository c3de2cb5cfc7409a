"""The README.md of a model folder: what it is, its figures, how to use it, how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from hf_icckd.losses import OBJECTIVES, IntraClassContrastiveLoss
from hf_icckd.modeling import ClassifierSpec
from hf_icckd.student_branches import TeacherWithBranches

_FIGURES = (
    ("top1", "top-1", "{:.2f} %"),
    ("top5", "top-5", "{:.2f} %"),
    ("nll", "negative log-likelihood (nats)", "{:.4f}"),
    ("ece", "expected calibration error, 15 bins", "{:.4f}"),
    ("agreement", "top-1 agreement with the teacher", "{:.2f} %"),
    ("kl_to_teacher", "KL divergence from the teacher (nats)", "{:.4f}"),
    ("distance_ratio", "intra-class / inter-class distance", "{:.4f}"),
    ("nc1", "neural collapse NC1", "{:.4f}"),
    ("soft_label_information", "soft-label information at T = 1 (nats)", "{:.4f}"),
    ("soft_label_information_t4", "soft-label information at T = 4 (nats)", "{:.4f}"),
    ("soft_label_information_matched", "soft-label information at half of the largest entropy (nats)", "{:.4f}"),
)

_TEMPLATE = """---
{metadata}
---

# {architecture} {role}

{lead}

## Figures

Last epoch of the run; nothing was selected by them. The test split has {test_images:,} images of {dataset}.
{notes}
{table}

{parameters:,} parameters, {flops:,} floating-point operations for an image of {size} x {size} pixels, {latency:.2f} ms
for one image on the machine of the run ({device}).

## Use

```python
{snippet}
```

The package hf_icckd is needed for `cifar_*` architectures only, which it
registers in timm.

## How it was made

`{command}` with hf_icckd {hf_icckd}, torch {torch}, timm {timm}, transformers {transformers} on {processes}
process(es). `all_args.yaml` holds all options, `metrics.json` all figures and the curve.

## Citation

```bibtex
{citations}
```
"""


def render_card(spec: ClassifierSpec, arguments: dict[str, Any], results: dict[str, Any]) -> str:
    """Markdown with a metadata header.

    Args:
        spec: The classifier.
        arguments: All options of the run.
        results: What metrics.json holds.
    """
    student, dataset = "teacher" in arguments, arguments["dataset"]
    local = Path(dataset).expanduser().exists()
    cost, environment = results["cost"], results["environment"]
    metadata = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "knowledge-distillation", "hf_icckd"],
        datasets=[dataset] if "/" in dataset and not local else None,
    )
    return _TEMPLATE.format(
        metadata=metadata.to_yaml(),
        architecture=spec.architecture,
        role="student" if student else "teacher",
        lead=_lead(spec, arguments, student),
        dataset=Path(dataset).name if local else dataset,
        test_images=results["test"]["images"],
        notes="".join(f"{note}\n" for note in results["notes"]),
        table=_table(results),
        size=spec.image_size,
        latency=cost["latency_ms"],
        parameters=cost["parameters"],
        flops=cost["flops"],
        snippet=_snippet(spec),
        citations="\n\n".join(_citations(arguments, student)),
        **{
            name: environment[name]
            for name in ("hf_icckd", "torch", "timm", "transformers", "processes", "device", "command")
        },
    )


def _lead(spec: ClassifierSpec, arguments: dict[str, Any], student: bool) -> str:
    classes = f"{len(spec.label_names)} classes"
    if student:
        return f"A student for {classes}, distilled with {', '.join(arguments['objectives'])} from a frozen teacher."
    if arguments["intra_class_weight"]:
        return (
            f"A teacher for {classes}, trained with cross-entropy plus {arguments['intra_class_weight']} times an "
            "intra-class contrastive term that keeps its soft labels rich. Its own accuracy is not the goal, its "
            "students' is."
        )
    if branches := arguments.get("student_branches"):
        return f"A control: a teacher for {classes}, trained along with branches of a {branches} student (SFTN)."
    return (
        f"A control: a classifier for {classes}, trained with cross-entropy on {arguments['num_views']} view(s) alone."
    )


def _table(results: dict[str, Any]) -> str:
    columns = {
        "test": "test split",
        "teacher_test": "teacher, test split",
        "validation": "validation split",
        "train": "training split",
    }
    columns = {key: title for key, title in columns.items() if key in results}
    lines = [f"| figure | {' | '.join(columns.values())} |", "| --- |" + " ---: |" * len(columns)]
    for key, title, form in _FIGURES:
        if key in results["test"]:
            cells = [form.format(results[column][key]) if key in results[column] else "" for column in columns]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _snippet(spec: ClassifierSpec) -> str:
    head = "import hf_icckd  # registers the architecture\n" if spec.architecture.startswith("cifar_") else ""
    return (
        f"{head}import timm\n"
        "from transformers import AutoModelForImageClassification\n\n"
        'model = timm.create_model("local-dir:path/to/this/folder", pretrained=True)  # or "hf-hub:user/name"\n'
        'model = AutoModelForImageClassification.from_pretrained("path/to/this/folder")  # or "user/name"'
    )


def _citations(arguments: dict[str, Any], student: bool) -> list[str]:
    if student:
        return [OBJECTIVES[spec.partition(":")[0]].citation for spec in arguments["objectives"]]
    if arguments.get("student_branches"):
        return [TeacherWithBranches.citation]
    return [IntraClassContrastiveLoss.citation] if arguments["intra_class_weight"] else ["% cross-entropy alone"]
