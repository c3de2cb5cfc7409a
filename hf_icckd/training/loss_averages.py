"""Running means of named scalars that a training step adds to without waiting for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hf_icckd.metrics.checks import has_float64
from hf_icckd.utils import distributed


class LossAverages:
    """Means of named scalars; they also remember the first step at which each was not finite."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.names: tuple[str, ...] = ()
        self.sums: Tensor | None = None  # (terms,)
        self.first_bad = torch.empty(0)  # (terms,) first step at which each was not finite
        self.count = 0
        self._restored: Tensor | None = None  # sums from a checkpoint; the names come with the first `add`

    @torch.no_grad()
    def add(self, terms: dict[str, Tensor], step: int) -> None:
        """Add scalars; the names must be the same every time until `drain`."""
        precise = all(has_float64(term.device) for term in terms.values())
        dtype = torch.float64 if precise else torch.float32
        values = torch.stack([term.detach().to(dtype) for term in terms.values()])
        if self.sums is None:
            self.names = tuple(terms)
            self.sums, self.first_bad = torch.zeros_like(values), torch.full_like(values, torch.inf)
            if self._restored is not None:
                self.sums, self._restored = self._restored.to(values), None
        self.sums += values
        self.first_bad = torch.where(values.isfinite(), self.first_bad, self.first_bad.clamp(max=step))
        self.count += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Sums of all ranks (world size, terms) and the count; all ranks must call this."""
        sums = self._restored if self.sums is None else self.sums
        if sums is None:
            return {}
        return {"sums": distributed.gather_ranks(sums), "count": torch.tensor(self.count)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` returned. With another number of processes each takes the mean of the sums."""
        self.reset()
        if state:
            self._restored = distributed.own_part(state["sums"])
            self.count = int(state["count"])

    def check(self) -> None:
        """Raise FloatingPointError if a term was not finite on any process. This waits for the device."""
        if self.sums is not None and distributed.minimum_over_ranks(self.first_bad).isfinite().any():
            self.drain()

    def drain(self) -> dict[str, float]:
        """Return the means over all added values and processes, and reset. This waits for the device.

        Raises:
            FloatingPointError: If a term was not finite; the message names term and step.
        """
        if self.sums is None:
            return {}
        names = self.names
        means = distributed.mean_over_ranks(self.sums / self.count).tolist()
        first_bad = distributed.minimum_over_ranks(self.first_bad).tolist()
        self.reset()
        for name, mean, step in zip(names, means, first_bad, strict=True):
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"{name} is {mean} since step {step:.0f}; training stops here: lower learning_rate or the term's "
                    "weight, or train in float32; the last checkpoint is kept"
                )
        return dict(zip(names, means, strict=True))
