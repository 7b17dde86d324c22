"""Bicubic interpolation, corrected until its degradation is the coarse image."""

from __future__ import annotations

from typing import ClassVar

from deeplense.upscalers.pseudo_inverse import Near, PseudoInverse
from deeplense.upscalers.upscaler import UPSCALERS


@UPSCALERS.register("back_projection")
class BackProjection(PseudoInverse):
    """The image nearest to bicubic interpolation, along each axis in turn, whose degradation is exactly the coarse one.

    It is where iterative back-projection ends. Linear, and a constant image stays that constant. The image of least
    norm, by contrast, lacks all that the degradation does not see: of simulated lenses, coarser by a factor of 2, its
    mean squared error is 5 to 20 times as large.

    Raises
    ------
    InvalidOption
        When the inverse reaches too far.
    """

    reference: ClassVar[str] = "Irani & Peleg 1991, CVGIP: Graphical Models and Image Processing 53, 231"
    near: ClassVar[Near] = "bicubic"
