"""The two tables of names, and what the names on a command line mean. A new objective or term is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_icckd.losses.at import AT
from hf_icckd.losses.bce_kd import BCEKD
from hf_icckd.losses.cc import CC
from hf_icckd.losses.ckd import CKD
from hf_icckd.losses.cmi import CMI
from hf_icckd.losses.crd import CRD
from hf_icckd.losses.ctkd import CTKD
from hf_icckd.losses.dist import DIST
from hf_icckd.losses.dkd import DKD
from hf_icckd.losses.embedding import EmbeddingRegression
from hf_icckd.losses.fitnet import FitNet
from hf_icckd.losses.hard_label import HardLabel
from hf_icckd.losses.intra_class import IntraClassTerm
from hf_icckd.losses.kd import KD
from hf_icckd.losses.mlkd import MLKD
from hf_icckd.losses.nst import NST
from hf_icckd.losses.objective import DistillationObjective, outputs_read
from hf_icckd.losses.pkt import PKT
from hf_icckd.losses.review_kd import ReviewKD
from hf_icckd.losses.rkd import RKD
from hf_icckd.losses.sftn import SFTN
from hf_icckd.losses.sp import SP
from hf_icckd.losses.specs import parse_spec, shortest_spec, write_spec
from hf_icckd.losses.srrl import SRRL
from hf_icckd.losses.subclass import Subclass
from hf_icckd.losses.teacher_term import TeacherTerm
from hf_icckd.losses.tfkd import TfKD
from hf_icckd.losses.vid import VID
from hf_icckd.losses.weighted import WeightedObjectives, WeightedTerms
from hf_icckd.losses.wsld import WSLD
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.foreign import available_outputs

OBJECTIVES: dict[str, type[DistillationObjective]] = {
    "kd": KD,
    "dkd": DKD,
    "dist": DIST,
    "mlkd": MLKD,
    "ctkd": CTKD,
    "wsld": WSLD,
    "ckd": CKD,
    "bce_kd": BCEKD,
    "hard_label": HardLabel,
    "tfkd": TfKD,
    "embedding": EmbeddingRegression,
    "rkd": RKD,
    "pkt": PKT,
    "sp": SP,
    "cc": CC,
    "crd": CRD,
    "srrl": SRRL,
    "subclass": Subclass,
    "fitnet": FitNet,
    "at": AT,
    "vid": VID,
    "nst": NST,
    "review_kd": ReviewKD,
}
TEACHER_TERMS: dict[str, type[TeacherTerm]] = {
    "intra_class": IntraClassTerm,
    "sftn": SFTN,
    "cmi": CMI,
}
_OFFERED = 3  # objectives that a message names instead of one that does not fit
NO_TERMS = "none"  # the spec of a teacher trained by cross-entropy alone


def parse_objectives(
    specs: list[str], registry: Mapping[str, type[DistillationObjective]] = OBJECTIVES
) -> WeightedObjectives:
    """Build objectives from specs such as `kd`, `rkd:weight=0.5` or `kd:weight=0.9,temperature=2`.

    Raises:
        ValueError: If a name, an argument or a value is not known; the message lists what is.
    """
    members = []
    for spec in specs:
        name, arguments = parse_spec(spec, registry, "objective")
        weight = arguments.pop("weight")
        members.append((registry[name](**arguments), weight))
    return WeightedObjectives(members)


def check_outputs(objectives: WeightedObjectives, model: ImageClassifier, role: str) -> None:
    """Raise ValueError if an objective reads an output that the teacher or student does not have.

    Args:
        role: `teacher` or `student`.
    """
    there = available_outputs(model)
    for objective in objectives:
        if objective.reads_teacher_layer and role == "teacher" and model.classification_layer is None:
            raise ValueError(
                f"the objective {_name_of(objective) or type(objective).__name__} runs the teacher's classification "
                f"layer, but {model.spec.architecture} has none that is one layer on its embeddings; take "
                "--objectives embedding, or another teacher"
            )
        lacking = [name for name in outputs_read(objective, role) if name not in there]
        if lacking:
            name = _name_of(objective)
            possible = [each for each, kind in OBJECTIVES.items() if {*outputs_read(kind, role)} <= there]
            hint = "" if name else " If it reads less than that, say so in its teacher_outputs."
            raise ValueError(
                f"the objective {name or type(objective).__name__} compares {_listed(lacking)}, but the {role} "
                f"{model.spec.architecture} has {_listed(sorted(there))} only; take --objectives "
                f"{' or '.join(possible[:_OFFERED])}, or another {role}.{hint}"
            )


def _name_of(objective: DistillationObjective) -> str | None:
    return next((name for name, kind in OBJECTIVES.items() if kind is type(objective)), None)


def refuse_mixed(parts: WeightedObjectives | WeightedTerms) -> None:
    """Raise ValueError if mixed images are nothing for an objective or term; the message names all of those."""
    named: list[tuple[str, DistillationObjective | TeacherTerm]]
    if isinstance(parts, WeightedTerms):
        kind, named = "terms", list(parts.items())
    else:
        kind, named = "objectives", [(_name_of(each) or type(each).__name__, each) for each in parts]
    wrong = [name for name, part in named if not part.takes_mixed]
    if wrong:
        others = [name for name, _ in named if name not in wrong] or ["none" if kind == "terms" else "kd"]
        raise ValueError(
            f"mixup or CutMix mixes the training images, but {kind} name {' and '.join(wrong)}, which needs the one "
            "label or the one image of each (its takes_mixed is false); leave --mixup and --cutmix out, or take "
            f"--{kind} {' '.join(others)}"
        )


def refuse_unlabeled(objectives: WeightedObjectives) -> None:
    """Raise ValueError if an objective needs the label of every image; the message names all of those."""
    named = [(_name_of(each) or type(each).__name__, each) for each in objectives]
    wrong = [name for name, each in named if not each.takes_unlabeled]
    if wrong:
        others = [name for name, kind in OBJECTIVES.items() if kind.takes_unlabeled]
        raise ValueError(
            f"some training images have no label, but objectives name {' and '.join(wrong)}, which needs the label of "
            f"each (its takes_unlabeled is false); leave --unlabeled_dataset out, or take --objectives "
            f"{' or '.join(others[:_OFFERED])}"
        )


def _listed(outputs: list[str]) -> str:
    return " and ".join(outputs).replace("_", " ")


def parse_terms(specs: list[str]) -> WeightedTerms:
    """Build teacher terms from specs such as `intra_class:weight=0.5` or `none`; one of weight 0 is left out.

    Raises:
        ValueError: If a name, an argument or a value is not known; the message lists what is.

    Example:
        >>> parse_terms(["intra_class:weight=0.5,gate=false"]).term_weights
        {'intra_class': 0.5}
        >>> parse_terms(["none"]).term_weights
        {}
    """
    terms = {}
    for name, arguments in _meaning(specs).items():  # also of terms with weight 0, to check their arguments
        weight = arguments.pop("weight")
        term = TEACHER_TERMS[name](**arguments)
        if weight != 0:
            terms[name] = term, weight
    return WeightedTerms(terms)


def term_arguments(specs: list[str]) -> dict[str, dict[str, Any]]:
    """What specs mean: the name of each term with a weight, to all its arguments, defaults filled in.

    Raises:
        ValueError: If a name, an argument or a value is not known.

    Example:
        >>> term_arguments(["sftn:student=cifar_resnet8", "intra_class:weight=0"])
        {'sftn': {'weight': 1.0, 'student': 'cifar_resnet8', 'pretrained': False}}
    """
    return {name: arguments for name, arguments in _meaning(specs).items() if arguments["weight"] != 0}


def _meaning(specs: list[str]) -> dict[str, dict[str, Any]]:
    if NO_TERMS in specs and len(specs) > 1:
        raise ValueError(f"terms are {' '.join(specs)}, expected {NO_TERMS!r} alone or without it")
    found: dict[str, dict[str, Any]] = {}
    for spec in specs if list(specs) != [NO_TERMS] else []:
        name, arguments = parse_spec(spec, TEACHER_TERMS, "teacher term")
        if name in found:
            raise ValueError(f"teacher term {name!r} is given twice; name each of them once")
        found[name] = arguments
    return found


def full_specs(specs: list[str]) -> list[str]:
    """Specs with the same meaning that name every argument, so that they keep it if a default changes.

    Raises:
        ValueError: If a name, an argument or a value is not known.

    Example:
        >>> full_specs(["sftn:student=cifar_resnet8"]), full_specs(["intra_class:weight=0"])
        (['sftn:weight=1,student=cifar_resnet8,pretrained=false'], ['none'])
    """
    return [write_spec(name, arguments) for name, arguments in term_arguments(specs).items()] or [NO_TERMS]


def set_term_argument(specs: list[str], path: str, value: Any) -> list[str]:
    """Specs with one argument replaced; a term that is not there is added.

    Args:
        specs: The specs.
        path: Term and argument, such as `intra_class.weight`.
        value: The argument's new value.

    Raises:
        ValueError: If there is no such term or argument.

    Example:
        >>> set_term_argument(["intra_class:weight=0.5"], "intra_class.gate", False)
        ['intra_class:weight=0.5,gate=false']
        >>> set_term_argument(["none"], "intra_class.weight", 0.1)
        ['intra_class:weight=0.1']
    """
    name, _, argument = path.partition(".")
    meaning = dict(parse_spec(spec, TEACHER_TERMS, "teacher term") for spec in specs if spec != NO_TERMS)
    changed = write_spec(name, meaning.get(name, {}) | {argument: value})
    meaning |= dict([parse_spec(changed, TEACHER_TERMS, "teacher term")])
    return [shortest_spec(each, arguments, TEACHER_TERMS) for each, arguments in meaning.items()]


def describe_terms(specs: list[str]) -> list[str]:
    """Words for cards and reports.

    Example:
        >>> describe_terms(["intra_class"])
        ['0.05 x intra-class term']
    """
    return [TEACHER_TERMS[name].describe(arguments) for name, arguments in term_arguments(specs).items()]
