"""What a model card says about the files that a model was exported to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_icckd.evaluation.deployed_table import table_cells
from hf_icckd.utils.text import escape_markdown


@dataclass(frozen=True)
class DeploymentSection:
    """Everything that the template shows of the exported files. Names are escaped.

    Attributes:
        deployment: Of metrics.json.
    """

    deployment: dict[str, Any]

    @property
    def heads(self) -> list[str]:
        """Heads of the table's columns."""
        return [" ".join(filter(None, head)) for head in table_cells(self.deployment["rows"])[0]]

    @property
    def rows(self) -> list[list[str]]:
        """Cells of the table's rows."""
        return table_cells(self.deployment["rows"])[1]

    @property
    def measured_on(self) -> str | None:
        """The images that accuracy was measured on, in words; None if it was not measured."""
        if "dataset" not in self.deployment:
            return None
        return f"{self.deployment['test_images']:,} test images of {escape_markdown(self.deployment['dataset'])}"

    @property
    def random_images(self) -> list[str]:
        """By format, how its logits differ from torch's on random images, in words; empty without a record of it."""
        if "random_images" not in self.deployment:
            return []
        return [
            f"{row['format']}: logits differ from torch's by up to {row['max_difference']:.1e}, the top class is the "
            f"same for {row['random_agreement']:.2f} %"
            for row in self.deployment["rows"]
            if "random_agreement" in row
        ]

    @property
    def int8(self) -> dict[str, Any] | None:
        """The row of the int8 file; None if there is none."""
        return next((row for row in self.deployment["rows"] if row["format"] == "int8"), None)
