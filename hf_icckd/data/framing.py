"""How images of any size become squares of one size, in training without random crops and in evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    fill = border_colour(spec.mean) if spec.crop_mode == "border" else (0, 0, 0)
    return Framing(spec.image_size, spec.crop_pct, spec.interpolation, spec.crop_mode, fill)


@dataclass(frozen=True)
class StoredSizes:
    """What the sizes of the stored images decide; the defaults are those of large images.

    Attributes:
        small: Longer side of small images, which are taken whole; None for large ones.
        square: Whether all that were looked at are square.
        alike: Whether all that were looked at have one size.
    """

    small: int | None = None
    square: bool = False
    alike: bool = False


LARGE = StoredSizes()


def framing_for(spec: ClassifierSpec, stored: StoredSizes, now: Framing) -> Framing:
    """The framing in which `hf-icckd evaluate` measures a classifier; `now` if no image shows a difference.

    Small images are taken whole, and a net that wants larger ones enlarges them itself, on the device, unless they are
    enlarged to its size already.
    """
    own = evaluation_framing(spec)
    if stored.small is None:
        return own
    own = replace(own, size=own.size if own.size == now.size else min(own.size, stored.small), crop_pct=1.0)
    if stored.square:
        own = replace(own, mode=now.mode, fill=now.fill)
        if stored.alike and own.size == now.size == stored.small:
            own = replace(own, interpolation=now.interpolation)
    return own


def border_colour(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """Colour of borders: what the net's normalisation makes zero, rounded as timm does."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
