"""The model card of a run, written to README.md in its folder."""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData

from hf_icckd.cards.class_section import ClassSection
from hf_icckd.cards.deployment_section import DeploymentSection
from hf_icckd.cards.licences import licence_notes, possessive
from hf_icckd.cards.method import citations, describe_balance, how_trained
from hf_icckd.cards.regions import is_sealed, region, regions_of, seal
from hf_icckd.data.report_text import class_rows, report_facts
from hf_icckd.losses import TEACHER_TERMS, term_arguments
from hf_icckd.metrics.catalogue import INFORMATION, METRICS
from hf_icckd.options.recipes import defaults
from hf_icckd.runs.identity import FORMER_DEFAULTS
from hf_icckd.runs.kept_weights import kept_in_words
from hf_icckd.runs.layout import CARD_FILE
from hf_icckd.runs.records import machine_of
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.text import escape_markdown

logger = logging.getLogger(__name__)
CURVES, RELIABILITY = "training_curves.png", "reliability.png"
EMBEDDING_MAP, SOFT_LABELS = "embedding_map.png", "soft_labels.png"
PICTURES = (CURVES, RELIABILITY, EMBEDDING_MAP, SOFT_LABELS)
_METRICS = (
    *("top1", "top5", "balanced_accuracy", "macro_f1", "nll", "ece"),
    *("agreement", "kl_to_teacher", "distance_ratio", "nc1", *INFORMATION),
)
_SPLITS = {
    "test": "test split",
    "teacher_test": "teacher, test split",
    "validation": "validation split",
    "train": "training split",
}
_INDEXED = (  # metric, its type on the Hub, its name there
    ("top1", "accuracy", "top-1 accuracy (%)"),
    ("top5", "top_5_accuracy", "top-5 accuracy (%)"),
    ("ece", "expected_calibration_error", METRICS["ece"].in_full),
)


@dataclass(frozen=True)
class CardData:
    """Everything the template of the card shows.

    Attributes:
        arguments: What all_args.yaml holds.
        results: What metrics.json holds.
        pictures: File names of the pictures in the folder.
    """

    arguments: dict[str, Any]
    results: dict[str, Any]
    pictures: tuple[str, ...] = ()

    @property
    def is_student(self) -> bool:
        """Whether the model was distilled from a teacher."""
        return self.arguments["recipe"] == "student"

    @property
    def licence(self) -> str | None:
        """Licence identifier as the Hub spells it; None if none was given."""
        return self.arguments.get("license")

    @property
    def inherited_licences(self) -> list[tuple[str, str, str | None]]:
        """Titles, models and licences of what the model learned and started from; none for a run before 0.3."""
        return [
            (f"{possessive(each['of'])} licence", each["model"], each["licence"])
            for each in self.results.get("licences", [])
        ]

    @property
    def licence_notes(self) -> list[str]:
        """What readers should know of those licences."""
        return licence_notes(self.results.get("licences", []), self.licence)

    @property
    def metadata(self) -> ModelCardData:
        """Metadata header, which the Hub reads."""
        data, model = self.results["data"], self.results["model"]
        role = "student" if self.is_student else "teacher"
        results = [
            EvalResult(
                task_type="image-classification",
                task_name="Image classification",
                dataset_type=data["hub_id"] or data["name"],
                dataset_name=data["name"],
                dataset_config=self.arguments["dataset_config_name"],
                dataset_split="test",
                dataset_revision=data["revision"],
                metric_type=kind,
                metric_name=name,
                metric_value=round(self.results["test"][metric], METRICS[metric].decimals),
            )
            for metric, kind, name in _INDEXED
        ]
        return ModelCardData(
            library_name="timm",
            pipeline_tag="image-classification",
            license=self.licence,
            tags=["image-classification", "timm", "transformers", "knowledge-distillation", "hf_icckd", role],
            datasets=[data["hub_id"]] if data["hub_id"] else None,
            base_model=model["base_models"] or None,
            metrics=["accuracy"],
            model_name=(self.arguments.get("hub_model_id") or f"{model['architecture']}-{role}").rpartition("/")[2],
            eval_results=results,
        )

    @property
    def how_trained(self) -> str:
        """How the model was trained, in a phrase."""
        return how_trained(self.arguments)

    @property
    def kept(self) -> str | None:
        """Which weights were measured, in words; None for those of the last step."""
        return kept_in_words(self.results)

    @property
    def balanced(self) -> bool:
        """Whether an option made up for classes of different sizes."""
        return bool(describe_balance(self.arguments))

    @property
    def terms(self) -> list[str]:
        """Names of the terms in a teacher's loss; none for a student."""
        return [] if self.is_student else list(term_arguments(self.arguments["terms"]))

    @property
    def purpose(self) -> str:
        """What the terms of a teacher's loss are for, one sentence each."""
        return " ".join(filter(None, (TEACHER_TERMS[name].purpose for name in self.terms)))

    @property
    def start_trained(self) -> str:
        """How the classifier was trained that training started from."""
        return how_trained(self.results["start"]["method"])

    @property
    def comparison(self) -> list[list[str]]:
        """Table rows of the model, its teacher and the control: name and training, seed, metrics, cost."""
        results, control = self.results, self.results.get("control")
        own = "this student" if self.is_student else "this teacher"
        rows = [_row(own, results["model"]["architecture"], self.arguments, results["test"], results["cost"])]
        if teacher := results.get("teacher"):
            name, method, cost = (teacher[key] for key in ("architecture", "method", "cost"))
            rows.append(_row("its teacher", name, method, results.get("teacher_test"), cost))
        if control:
            here = control["machine"] == machine_of(results["environment"])
            method = control["method"]
            rows.append(_row("control", method["model"], method, control["test"], control["cost"], here))
            if teacher := control.get("teacher"):
                name, method, cost = (teacher[key] for key in ("architecture", "method", "cost"))
                rows.append(_row("control's teacher", name, method, control.get("teacher_test"), cost, here))
        return rows

    @property
    def splits(self) -> list[str]:
        """Titles of the splits that were measured."""
        return [title for key, title in _SPLITS.items() if key in self.results]

    @property
    def metrics(self) -> list[list[str]]:
        """Table rows of all metrics: title, then a cell for each split."""
        splits = [self.results[key] for key in _SPLITS if key in self.results]
        return [
            [METRICS[name].full_title, *(METRICS[name].show(split[name]) if name in split else "" for split in splits)]
            for name in _METRICS
            if name in self.results["test"]
        ]

    @property
    def classes(self) -> ClassSection | None:
        """What is said about single classes; None for a run of a version that didn't measure them."""
        return ClassSection(self.results["per_class"]) if "per_class" in self.results else None

    @property
    def deployment(self) -> DeploymentSection | None:
        """What is said about exported files; None if none was measured."""
        return DeploymentSection(self.results["deployment"]) if "deployment" in self.results else None

    @property
    def data_facts(self) -> list[tuple[str, str]]:
        """What was understood of the data set: titles and words."""
        return report_facts(self.results["data"]["report"])

    @property
    def class_rows(self) -> list[tuple[str, list[str]]]:
        """Classes, and the number of their images in each split."""
        return class_rows(self.results["data"]["report"]["classes"])

    @property
    def options(self) -> str:
        """The options that differ from the defaults, those of then and of now, as YAML."""
        now = defaults(self.arguments["recipe"])
        former = {name: self.arguments[name] for name in FORMER_DEFAULTS if name in self.arguments}
        changed = {name: value for name, value in former.items() if value != now[name]} | self.results["options"]
        return yaml.safe_dump(changed, sort_keys=True, allow_unicode=True).rstrip() if changed else ""

    @property
    def precision(self) -> str:
        """Precision of training."""
        names = {"bf16": "bfloat16 (autocast)", "fp16": "float16 (autocast)"}
        return next((title for name, title in names.items() if self.arguments[name]), "float32")

    @property
    def citations(self) -> list[str]:
        """BibTeX of the methods that made the model, its teacher and the classifier that training started from."""
        earlier = [self.results.get(name) or {} for name in ("teacher", "start")]
        methods = [each.get("method") for known in earlier for each in (known, *known.get("members", []))]
        return citations(self.arguments, *filter(None, methods))

    @property
    def papers(self) -> list[str]:
        """arXiv numbers of the cited papers; the Hub turns links to them into tags."""
        return re.findall(r"arXiv:(\d{4}\.\d{5})", "\n".join(self.citations))


def _row(
    role: str,
    architecture: str,
    method: dict[str, Any] | None,
    measured: dict[str, float] | None,
    cost: dict[str, float],
    same_machine: bool = True,
) -> list[str]:
    """Cells of one model in the comparison; one that teaches by its embeddings alone is not measured."""
    role = role if measured else f"{role}, by its embeddings"
    return [
        f"{role}: {architecture}<br>{how_trained(method)}",
        str((method or {}).get("seed", "not recorded")),
        *(f"{measured[name]:.{METRICS[name].decimals}f}" if measured else "no classes" for name, _, _ in _INDEXED),
        f"{cost['parameters']:,}",
        f"{cost['flops']:,}" if "flops" in cost else "not counted",
        f"{cost['latency_ms']:.2f}" if same_machine else "another machine",
    ]


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escape"] = escape_markdown
    return environment.get_template("model_card.md")


def render(card: CardData, regions: dict[str, str] | None = None) -> str:
    """Text of README.md: metadata header, card, seal.

    Args:
        card: What the card says.
        regions: What a person wrote, by name of the region. Regions that the template lacks are put at the end.
    """
    left = dict(regions or {})

    def yours(name: str, hint: str) -> str:
        return region(name, left.pop(name, f"\n<!-- {hint} -->\n"))

    text = _template().render(
        card=card, region=yours, a=card.arguments, r=card.results, pictures=card.pictures,
        curves=CURVES, reliability=RELIABILITY, embedding_map=EMBEDDING_MAP, soft_labels=SOFT_LABELS,
    )  # fmt: skip
    return seal("\n\n".join([text.rstrip(), *(region(name, content) for name, content in left.items())]))


def write_card(folder: str | Path, arguments: dict[str, Any], results: dict[str, Any]) -> None:
    """Write README.md, with the pictures in the folder and all that a person wrote into the regions of the old card.

    An old card that was changed outside its regions, or whose marks are damaged, is kept as README.md.bak.

    Args:
        folder: Folder of the run.
        arguments: What all_args.yaml holds.
        results: What metrics.json holds.
    """
    path = Path(folder) / CARD_FILE
    regions = _kept_regions(path) if path.exists() else {}
    pictures = tuple(name for name in PICTURES if (Path(folder) / name).is_file())
    text = render(CardData(arguments, results, pictures), regions)
    # As bytes, so that the line ends a person wrote are kept on every system.
    replace_file(path, lambda unfinished: unfinished.write_bytes(text.encode()))


def _kept_regions(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    try:
        text = content.decode()
        regions = regions_of(text)
        reason = None if is_sealed(text) else "it was changed outside its regions"
    except ValueError as error:
        regions, reason = {}, f"its regions can't be read: {error}"
    if reason is not None:
        aside = path.with_name(f"{path.name}.bak")
        number = 1
        while aside.exists() and aside.read_bytes() != content:
            number += 1
            aside = path.with_name(f"{path.name}.bak{number}")
        replace_file(aside, lambda unfinished: unfinished.write_bytes(content))
        logger.warning("%s is kept as %s: %s", path, aside.name, reason)
    return regions
