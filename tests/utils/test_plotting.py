"""The one style of all pictures."""

from __future__ import annotations

from hf_icckd.utils import plotting


def test_text_is_legible_on_its_ground():
    """Contrast as the Web Content Accessibility Guidelines define it: 7 for text, 3 between lines and ground."""

    def luminance(colour: str) -> float:
        channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(one), luminance(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast(plotting.INK, plotting.GROUND) > 7
    for colour in (plotting.BLUE, plotting.ORANGE, plotting.GREEN, plotting.VIOLET, plotting.GREY):
        assert contrast(colour, plotting.GROUND) > 3, colour
