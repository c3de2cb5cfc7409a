"""How images of any size become squares of one size, in training without random crops and in evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import PIL.Image

from hf_icckd.data.images import CropMode, resize_and_crop

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ClassifierSpec


@dataclass(frozen=True)
class Framing:
    """Scales and crops an image as timm does; call it with an RGB image.

    Attributes:
        size: Side of the result in pixels.
        crop_pct: Share of the scaled image that is kept along each side.
        interpolation: How images are scaled.
        mode: center: the sides of a long image are cut off; border: it gets borders; squash: it is distorted.
        fill: Colour of the borders.
    """

    size: int
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    mode: CropMode = "center"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __call__(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Return a square image; the same object if nothing has to be done."""
        return resize_and_crop(image, self.size, self.crop_pct, self.interpolation, self.mode, self.fill)


def evaluation_framing(spec: ClassifierSpec) -> Framing:
    """The framing that a classifier's configuration asks for, as timm and transformers read it."""
    return Framing(spec.image_size, spec.crop_pct, spec.interpolation, spec.crop_mode, border_colour(spec.mean))


def border_colour(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """Colour of borders: what the net's normalisation makes zero, rounded as timm does."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
