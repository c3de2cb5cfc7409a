"""Colours, style and PNG files of every picture: dark text on a light opaque ground, for light and for dark pages."""

from __future__ import annotations

import io
import warnings

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH = 9.0  # inches of a picture that fills its column
DPI = 140  # so that it is sharp on a fine screen
GROUND, INK, FAINT = "#f6f6f3", "#24292f", "#c9ccd1"
# The colours of Okabe and Ito and four more: told apart with any colour vision as far as ten can be.
BLUE, ORANGE, GREEN, PINK, OCHRE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b"
SKY, VIOLET, BROWN, GREY, OLIVE = "#56b4e9", "#7b4fa3", "#8c564b", "#6b7280", "#a3b000"
COLOURS = (BLUE, ORANGE, GREEN, PINK, OCHRE, SKY, VIOLET, BROWN, GREY, OLIVE)
SHAPES = ("o", "^", "s", "D", "v")  # for those who can't tell the colours
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": GROUND,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": GROUND,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "xtick.color": INK,
    "ytick.color": INK,
}
# A decorator; the caller's own style is restored afterwards. The stubs want literal names of options as keys.
styled = matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


@styled
def png(figure: Figure, colours: int | None = 256) -> bytes:
    """A figure as a PNG file; the same figure gives the same bytes.

    Args:
        colours: Number of colours that are kept; None for all. 256 are enough for plots and a few thumbnails, and take
            a third of the bytes.
    """
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # names in a script that the font lacks show as boxes
        canvas.draw()
    image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    target = io.BytesIO()
    if colours is not None:
        image = image.quantize(colours, dither=PIL.Image.Dither.NONE)
    image.save(target, "PNG", optimize=colours is not None)
    return target.getvalue()
