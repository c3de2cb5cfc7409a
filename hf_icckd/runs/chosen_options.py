"""Options that are chosen by the net where the user gave none: other nets want other optimisers than CIFAR nets do."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Collection
from typing import Any

from hf_icckd.models.architectures import is_transformer_like
from hf_icckd.models.pretrained import architecture_of
from hf_icckd.options.fine_tuning import defaults_for, not_given
from hf_icckd.runs.identity import EARLIER, FORMER_DEFAULTS
from hf_icckd.runs.records import read_options

logger = logging.getLogger(__name__)

_LIGHT = ("cifar_mobilenet", "cifar_shufflenet")
CHOSEN = "chosen_options"  # what all_args.yaml calls their names


def suitable_defaults(architecture: str, pretrained: bool) -> dict[str, Any]:
    """Options that suit a net better than the defaults of the dataclasses; see `defaults_for`.

    Args:
        architecture: Name in timm's registry.
        pretrained: Whether it starts from trained weights.

    Raises:
        ValueError: If timm does not know the architecture.

    Example:
        >>> suitable_defaults("vit_tiny_patch16_224", pretrained=True)["learning_rate"]
        0.0001
        >>> suitable_defaults("cifar_resnet20", pretrained=False)
        {}
        >>> suitable_defaults("cifar_shufflenetv2", pretrained=False)
        {'learning_rate': 0.01}
    """
    light = architecture.startswith(_LIGHT)
    kind = "light" if light else "transformer" if is_transformer_like(architecture) else "cnn"
    return defaults_for(kind, pretrained)


class ChosenOptions:
    """Chooses options of a recipe while its command line is read.

    A run that is in the folder already keeps what it was begun with. One of an earlier version, which chose nothing,
    gets what that version did, other defaults among it.

    Attributes:
        values: What was chosen.
        recorded: Names of all options that were chosen when the run was begun.
        given: Names of the options that the user gave.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.recorded: list[str] = []
        self.given: set[str] = set()

    def __call__(self, read: Namespace, given: Collection[str]) -> dict[str, Any]:
        """Return the values of options that the user did not give.

        Args:
            read: Values of all options, as far as the user gave them.
            given: Names of the options that the user gave.
        """
        self.given = set(given)
        if record := read_options(read.output_dir):
            # What an earlier version did is recorded as chosen, so that it is found again at the next resume.
            known = {name: value for name, value in EARLIER.items() if name not in record} | record
            earlier = [name for name in EARLIER if name not in record]
            if earlier:
                earlier += [name for name in FORMER_DEFAULTS if name in record]
            self.recorded = [*(record.get(CHOSEN) or ()), *earlier]
            self.values = {name: known[name] for name in self.recorded if name in known and name not in given}
            return self.values
        start = read.start_from
        architecture = read.model if start is None else architecture_of(start)
        if architecture is not None:
            suitable = suitable_defaults(architecture, bool(read.pretrained) or start is not None)
            self.values = not_given(suitable, given, str(read.lr_scheduler_type))
        self.recorded = sorted(self.values)
        return self.values

    def log(self) -> None:
        """Say in one line what was chosen."""
        for why, values in {
            "chosen for this net": self.values.keys() - {*EARLIER, *FORMER_DEFAULTS},
            "as an earlier version began this run": self.values.keys() & FORMER_DEFAULTS,
        }.items():
            if shown := ", ".join(f"{name} {value}" for name, value in self.values.items() if name in values):
                logger.info("%s, where no option says otherwise: %s", why, shown)
