"""Softmax regression representation learning: the teacher's classification layer reads the student's embeddings.

Reference:
    Yang, Martinez, Bulat, Tzimiropoulos: Knowledge Distillation via Softmax Regression Representation Learning. ICLR
    2021.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, OutputObjective, mean_square
from hf_icckd.losses.projections import built, projection
from hf_icckd.models.outputs import OutputShapes


class SRRL(OutputObjective):
    """Softmax regression representation learning as an objective with the terms `srrl_feature` and `srrl_regression`.

    `build` makes a linear layer from the student's embeddings to the teacher's, which is trained with the student and
    not exported. `srrl_feature` is the squared difference of the two embeddings, mean over dimensions, and
    `srrl_regression` that of the logits that the teacher's frozen classification layer makes of them, mean over
    classes. Both have weight 1, as in the authors' code.

    There the layer is a 1x1 convolution with BatchNorm and ReLU. A ReLU can't reach embeddings below 0, which many
    nets have, and BatchNorm would make the loss depend on the number of processes, so it is linear here.

    Formula:
        `|W e_s + b - e_t|^2 / D` and `|f(W e_s + b) - f(e_t)|^2 / C`, f the teacher's classification layer

    Relations:
        FitNet's regression, with the directions that the teacher classifies by weighted up.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["srrl:weight=0.5"]).term_weights
        {'srrl_feature': 0.5, 'srrl_regression': 0.5}
    """

    term_weights: ClassVar[dict[str, float]] = {"srrl_feature": 1.0, "srrl_regression": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    reads_teacher_layer: ClassVar[bool] = True
    cost: ClassVar[str] = "B D^2"
    citation: ClassVar[str] = """@inproceedings{yang2021knowledge,
  title = {Knowledge Distillation via Softmax Regression Representation Learning},
  author = {Yang, Jing and Martinez, Brais and Bulat, Adrian and Tzimiropoulos, Georgios},
  booktitle = {ICLR},
  year = {2021}
}"""

    def __init__(self) -> None:
        super().__init__()
        self.projection: nn.Linear | None = None

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Make the projection."""
        self.projection = projection(student, teacher, "srrl")

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"srrl_feature": scalar, "srrl_regression": scalar}`."""
        given, classify = batch.teacher.embeddings, batch.teacher_layer
        assert batch.student.embeddings is not None and given is not None and classify is not None
        projected = built(self.projection, "srrl")(batch.student.embeddings).to(given.dtype)
        return {
            "srrl_feature": mean_square(projected, given),
            "srrl_regression": mean_square(classify(projected), classify(given)),
        }
