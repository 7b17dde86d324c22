"""SRGAN's generator, without its batch norm: to be trained by error first, then against an opponent."""

from __future__ import annotations

from typing import ClassVar

from deeplense.upscalers.edsr import EDSR
from deeplense.upscalers.upscaler import UPSCALERS


@UPSCALERS.register("srgan")
class SRGAN(EDSR):
    """The generator of SRGAN with three residual blocks and a linear output; no batch norm, as in ESRGAN."""

    reference: ClassVar[str] = (
        "Ledig et al. 2017, CVPR, arXiv:1609.04802; without batch norm: Wang et al. 2018, arXiv:1809.00219"
    )
    adversary: ClassVar[float] = 0.1
    blocks = 3
