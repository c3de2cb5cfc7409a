"""Weighted sums of objectives, and the strings they are written as on a command line."""

from __future__ import annotations

import inspect
import math

from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, DistillationObjective
from hf_icckd.utils.text import suggest


class WeightedObjectives(nn.Module):
    """Several objectives with a weight each.

    Args:
        objectives: Pairs of an objective and its weight, which multiplies the objective's own `term_weights`.

    Attributes:
        term_weights: Weight of every term; the weighted sum is the distillation part of the loss.
        teacher_outputs: What any of them reads of the teacher.

    Raises:
        ValueError: If there is no objective, two objectives share the name of a term, or a weight is below 0 or not
            finite.
    """

    def __init__(self, objectives: list[tuple[DistillationObjective, float]]):
        super().__init__()
        if not objectives:
            raise ValueError("no objective given, expected at least one, for example [(KD(), 1.0)]")
        self.objectives = nn.ModuleList(objective for objective, _ in objectives)
        self.teacher_outputs = tuple(
            sorted({name for objective, _ in objectives for name in objective.teacher_outputs})
        )
        self.term_weights: dict[str, float] = {}
        for objective, weight in objectives:
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f"weight is {weight} of {type(objective).__name__}, expected a number from 0 on; 1 is usual"
                )
            for term, term_weight in objective.term_weights.items():
                if term in self.term_weights:
                    raise ValueError(f"two objectives have a term called {term!r}; name each objective once")
                self.term_weights[term] = weight * term_weight

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return the named, unweighted terms of all objectives."""
        return {name: term for objective in self.objectives for name, term in objective(batch).items()}


def parse_objectives(specs: list[str], registry: dict[str, type[DistillationObjective]]) -> WeightedObjectives:
    """Build objectives from strings such as `kd`, `rkd:weight=0.5` or `kd:weight=0.9,temperature=2`.

    Args:
        specs: One string per objective: its name, then optional `argument=value` pairs after a colon. `weight`
            multiplies the objective; the other arguments are those of its constructor.
        registry: Names and classes, usually `hf_icckd.losses.OBJECTIVES`.

    Returns:
        The objectives with their weights.

    Raises:
        ValueError: If a name, an argument or a value is not known; the message lists what is.
    """
    return WeightedObjectives([_parse_objective(spec, registry) for spec in specs])


def _parse_objective(
    spec: str, registry: dict[str, type[DistillationObjective]]
) -> tuple[DistillationObjective, float]:
    name, _, tail = spec.partition(":")
    if name not in registry:
        raise ValueError(
            f"unknown objective {name!r}, expected one of: {', '.join(registry)}{suggest(name, registry)}"
        )
    # A class without a constructor of its own takes no arguments, whatever nn.Module's signature says.
    own_init = registry[name].__init__ is not nn.Module.__init__
    defaults = {"weight": 1.0}
    if own_init:
        defaults |= {key: each.default for key, each in inspect.signature(registry[name]).parameters.items()}
    allowed = list(defaults)
    arguments = {}
    for pair in filter(None, tail.split(",")):
        key, equals, text = pair.partition("=")
        if key not in allowed or not equals:
            raise ValueError(
                f"cannot read {pair!r} in objective {spec!r}, expected {name}:argument=value with one of the "
                f"arguments: {', '.join(allowed)}{suggest(key, allowed)}"
            )
        try:
            arguments[key] = _parse_value(text)
            if isinstance(arguments[key], bool) != isinstance(defaults[key], bool):
                raise ValueError
        except ValueError:
            raise ValueError(f"{key} is {text!r} in objective {spec!r}, expected a number or true/false") from None
    weight = float(arguments.pop("weight", 1.0))
    return registry[name](**arguments), weight


def _parse_value(text: str) -> int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        return float(text)
