"""TensorBoard: event files in the run folder's `tensorboard/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from deeplense.core.run_folder import RunFolder
from deeplense.training.trackers.service import TRACKERS, Service


@TRACKERS.register("tensorboard")
class TensorBoard(Service):
    """Event files; see them with `tensorboard --logdir runs`."""

    title, package, extra = "TensorBoard", "tensorboard", "tensorboard"

    def __init__(self, run: RunFolder, config: Mapping[str, Any], first_epoch: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what an interrupted session wrote of epochs that are now trained anew is hidden
        self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=first_epoch)
        if first_epoch == 1:
            text = json.dumps(dict(config), indent=4, ensure_ascii=False)
            self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()  # a killed run then shows its last epoch

    def pictures(self, images: Mapping[str, Image], epoch: int) -> None:
        """Write images."""
        for name, image in images.items():
            self._writer.add_image(name, np.asarray(image), epoch, dataformats="HWC")
        self._writer.flush()

    def file(self, path: Path) -> None:
        """Do nothing: the files lie beside the events."""

    def close(self, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()
