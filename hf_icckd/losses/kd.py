"""Knowledge distillation from soft labels.

Reference:
    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. arXiv 1503.02531.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    Measure,
    OutputObjective,
    check_temperature,
    checked_logits,
    no_autocast,
)
from hf_icckd.losses.standardisation import comparable, standardised
from hf_icckd.losses.temperature import half_entropy_temperature

AUTO = "auto"


def knowledge_distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Mean over images of `T^2 KL(softmax(teacher / T) || softmax(student / T))`.

    The factor T^2 keeps the gradient's size independent of the temperature.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).
        temperature: Softmax temperature T > 0.

    Returns:
        Scalar in nats, in at least float32.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 1503.02531, section 2.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
        >>> knowledge_distillation_loss(student, teacher, temperature=1.0)
        tensor(0.3278)
    """
    student_logits, teacher_logits = checked_logits(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student_log_probs = F.log_softmax(student_logits / temperature, dim=1)
        teacher_log_probs = F.log_softmax(teacher_logits / temperature, dim=1)
        kl = F.kl_div(student_log_probs, teacher_log_probs, reduction="batchmean", log_target=True)
        square = temperature**2
        return kl * (square.to(kl.dtype) if isinstance(square, Tensor) else square)


class KD(OutputObjective):
    """Knowledge distillation as an objective with the one term `kd`; see `knowledge_distillation_loss`.

    With `standardise`, the logits of each image get mean 0 and standard deviation 1 first (Sun et al., CVPR 2024,
    arXiv 2403.01858), so that the student need not reach the teacher's range. Published with it are temperature 2 and
    weight 9 beside 0.1 of cross-entropy: `--objectives kd:standardise=true,temperature=2,weight=9 --ce_weight 0.1`.

    The temperature `auto` is the one at which the teacher's mean entropy on unaugmented training images is half of
    log C, see `half_entropy_temperature`. It is found before the first step and kept in checkpoints.

    Formula:
        `T^2 KL(p_t || p_s)` with `p = softmax(z / T)`

    Args:
        temperature: Softmax temperature of both models, or `auto` (paper: T).
        standardise: Whether logits are standardised first.

    Attributes:
        found_temperature: What `auto` has found; NaN before that.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["kd:temperature=2"]).term_weights
        {'kd': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"kd": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@article{hinton2015distilling,
  title = {Distilling the Knowledge in a Neural Network},
  author = {Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
  journal = {arXiv:1503.02531},
  year = {2015}
}"""

    found_temperature: Tensor

    def __init__(self, temperature: float | Literal["auto"] = 4.0, standardise: bool = False):
        super().__init__()
        self.standardise = standardise
        self.temperature: float | None = None  # auto
        if isinstance(temperature, str):
            if temperature != AUTO:
                raise ValueError(f"KD temperature is {temperature!r}, expected a number above 0 or {AUTO!r}")
            self.register_buffer("found_temperature", torch.tensor(torch.nan, dtype=torch.float64))
        else:
            check_temperature("KD", temperature)
            self.temperature = temperature

    def tune(self, measure: Measure) -> None:
        """Find the temperature, if it is `auto`. Raises ValueError if there is none."""
        if self.temperature is None:
            logits = measure()[0].logits
            self.found_temperature.fill_(
                half_entropy_temperature(standardised(logits) if self.standardise else logits)
            )

    def notes(self) -> list[str]:
        """The temperature that was found."""
        if self.temperature is not None:
            return []
        return [
            f"KD's temperature is {self.found_temperature.item():.3f}: there the teacher's mean entropy on training "
            "images is half of the largest."
        ]

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"kd": scalar}`; NaN if the temperature is `auto` and `tune` was not called."""
        student, teacher = comparable(batch.student.logits, batch.teacher.logits, self.standardise)
        temperature = self.found_temperature if self.temperature is None else self.temperature
        return {"kd": knowledge_distillation_loss(student, teacher, temperature)}
