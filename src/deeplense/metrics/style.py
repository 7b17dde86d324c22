"""One look for all pictures: colours, line styles, type and size.

The colours are those of Okabe & Ito (2008), told apart by every kind of colour vision, and never the only difference
between two lines. Pictures are as large as a phone shows them, so that their type stays readable there.
"""

from __future__ import annotations

from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), "-.")
INK, FAINT = "#1d2733", "#8b95a1"
SIZE = (3.6, 3.3)  # inches
FONT = "DejaVu Sans"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called anything, "$x$" included
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text: small files, and the reader's own font
    "svg.hashsalt": "deeplense",
}


def short(text: str, length: int) -> str:
    """Return `text` without characters that a picture cannot hold, cut to `length`."""
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return plain if len(plain) <= length else plain[: length - 1] + "…"
