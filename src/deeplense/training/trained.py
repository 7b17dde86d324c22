"""A finished run, ready to answer: what `evaluate` and `predict` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from deeplense.core.config import Config
from deeplense.core.errors import DeepLenseError, InvalidDataset, InvalidOption, MissingFile
from deeplense.core.run_folder import RunFolder, find_run
from deeplense.data.bands import band_places
from deeplense.data.dataset import Dataset
from deeplense.data.features import feature_values
from deeplense.data.loader import Batch, Loader, PairLoader
from deeplense.data.readers.files import read_image
from deeplense.data.splits import Fold
from deeplense.data.transforms import Normalisation, Symmetry, part_taken
from deeplense.detectors.calibrated import CalibratedDetector
from deeplense.models.network import load_weights
from deeplense.tasks.task import TASKS, Task
from deeplense.training.devices import Device, make_accelerator
from deeplense.training.familiar import statistics, unfamiliar
from deeplense.training.loop import averaged, predict_all
from deeplense.training.trackers import fetch_from_wandb

MEMBERS = "members"  # of a committee, in its record


@dataclass(frozen=True)
class Record(Config):
    """What a run's config.json must hold for its model to answer.

    Parameters
    ----------
    task, labels
        What was learnt.
    image_shape, normalisation
        What the network was fed with.
    options
        What was asked for; the model among it.
    """

    task: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int, int]
    normalisation: Normalisation
    options: dict[str, object]


@dataclass(frozen=True)
class TrainedModel:
    """The network of a run with everything that its answers depend on.

    Parameters
    ----------
    run, config
        The run and its record.
    task, network, normalisation
        As they were trained.
    accelerator
        Where the work is done.
    """

    run: RunFolder
    config: dict[str, Any]
    task: Task
    network: nn.Module
    normalisation: Normalisation
    accelerator: Accelerator

    @classmethod
    def load(cls, run: RunFolder, device: Device) -> Self:
        """Return the model of a run's best epoch.

        Raises
        ------
        MissingFile
            When the run has no weights.
        CorruptFile
            When a file of the run is damaged.
        """
        config = run.config()
        if MEMBERS in config:
            raise InvalidOption(
                f"{run.id}, a committee",
                "one run",
                "name one of its members; catalogues of stamps take a committee, too",
            )
        accelerator = make_accelerator(device, "fp32")
        try:
            record = Record(**{field.name: config[field.name] for field in dataclasses.fields(Record)})
            task = TASKS[record.task].of(record.labels, record.options)
            network = task.network(record.image_shape, record.options | {"pretrained": "0"})
            crop: Any = record.options["crop"]
            if not isinstance(crop, int | None):
                raise TypeError(f"a crop of {crop!r}")
        except (DeepLenseError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise run.odd_config(error) from error
        if not run.weights.is_file():
            raise MissingFile(
                f"the run {run.id} has no weights", f"the file {run.weights}", "train it to the end of its first epoch"
            )
        load_weights(network, run.weights)
        return cls(run, config, task, network.to(accelerator.device).eval(), record.normalisation, accelerator)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the answers."""
        return tuple(self.config["labels"])

    @property
    def place(self) -> int | None:
        """Which answer is that of the class that is looked for; None of a task that looks for none."""
        return None if self.task.positive is None else self.labels.index(self.task.positive)

    @property
    def symmetry(self) -> Symmetry:
        """The symmetry over whose copies answers are averaged."""
        options = self.config["options"]
        symmetry: Symmetry = options["symmetry"] if options.get("average_symmetry", False) else "none"
        return symmetry

    @property
    def crop(self) -> int | None:
        """Central pixels that the network was trained on; None for all."""
        crop: int | None = self.config["options"]["crop"]
        return crop

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that it looks at, in this order; none named for all as they lie."""
        return tuple(self.config["options"].get("bands", ()))

    def with_bands(self, bands: Sequence[str]) -> Self:
        """Return the model for images whose bands lie otherwise than in training; as it is where none is named.

        Raises
        ------
        InvalidOption
            When it takes pairs of images, of which no bands are chosen.
        """
        if not bands:
            return self
        if self.task.pairs:
            raise InvalidOption(f"--bands with {self.run.id}, which super-resolves", "another task", "leave it out")
        return replace(self, config=self.config | {"options": self.config["options"] | {"bands": [*bands]}})

    @property
    def fold(self) -> Fold | None:
        """The fold of a cross-validation that judges it; None for the dataset's own splits."""
        try:
            return Fold.of(self.config["options"])
        except (DeepLenseError, TypeError) as error:
            raise self.run.odd_config(error) from error

    def loader(self, dataset: Dataset, rows: Int64[np.ndarray, " N"], workers: int = 0) -> Loader:
        """Return some images of a dataset as the network takes them."""
        if self.task.pairs:
            return PairLoader(dataset, rows, workers=workers)
        return Loader(dataset, rows, self.labels, self.crop, workers, features=self.feature_names, bands=self.bands)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Columns of a catalogue that the network reads beside an image; none of one that reads images alone."""
        return tuple(self.config["options"].get("features", ()))

    @property
    def used_truth(self) -> bool:
        """Whether columns could be read that only a simulation or a model knows: what it says means little then."""
        return bool(self.config["options"].get("allow_truth_features"))

    @property
    def needs_features(self) -> bool:
        """Whether an image alone is not enough to answer."""
        return bool(self.feature_names)

    def features(self, dataset: Dataset, rows: Int64[np.ndarray, " N"]) -> Float32[np.ndarray, "N F"] | None:
        """Return what the network reads of a catalogue, NaN where it says nothing; None where images are enough.

        Raises
        ------
        InvalidDataset
            When the catalogue lacks a column.
        """
        return feature_values(dataset.catalogue.take(rows), self.feature_names) if self.needs_features else None

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: what is worth compiling depends on it."""
        network: Any = self.network
        network.expect(n_images)

    def prepare(self, path: Path) -> Float32[np.ndarray, "C H W"]:
        """Return one image file, its part that the network takes.

        Raises
        ------
        InvalidDataset
            When the image is not of the training images' size and channels.
        CorruptFile
            When the file holds no image.
        """
        return self.taken(read_image(path), (), path)

    def taken(
        self, image: Float32[np.ndarray, "C H W"], names: Sequence[str], path: Path
    ) -> Float32[np.ndarray, "c h w"]:
        """Return an image as the network takes it: its bands, of which the names may be known, and central pixels.

        Raises
        ------
        InvalidDataset
            When it is not of the training images' size and channels.
        InvalidOption
            When it lacks a band.
        """
        bands = band_places(self.bands, names, len(image), path)
        fits = self.crop is not None and min(image.shape[1:]) >= self.crop
        part = part_taken(torch.tensor(image), bands, self.crop if fits else None).numpy()  # it may be read-only
        self._check_shape(part.shape, path)
        return part

    @torch.inference_mode()
    def answer(
        self, images: Float32[np.ndarray, "B C H W"], features: Float32[np.ndarray, "B F"] | None = None
    ) -> Float32[np.ndarray, "B K"]:
        """Return one row per prepared image; features are for a network that needs them."""
        arrays = (images,) if features is None else (images, features)
        on_device = (torch.from_numpy(array).to(self.accelerator.device) for array in arrays)
        return self.task.answers(self._output(*on_device)).cpu().numpy()

    @torch.inference_mode()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return what a reader should see of prepared images beside themselves: name → [B, C, H, W]."""
        if self.task.pairs:
            on_device = batch.to(self.accelerator.device)
            found = self.task.pictures(self._output(on_device.image), on_device)
            return {name: picture.float().cpu().contiguous() for name, picture in found.items()}
        maps = self.maps(batch.image)
        return {} if maps is None else {"maps": maps}

    def _output(self, images: Float32[Tensor, "B C H W"], *features: Float32[Tensor, "B F"]) -> Tensor:
        return averaged(self.task, self.network, (self.normalisation(images), *features), self.symmetry)

    @torch.inference_mode()
    def maps(self, images: Float32[Tensor, "B C H W"]) -> Float32[Tensor, "B 1 H W"] | None:
        """Return where each prepared image is strange; None where the task or the detector cannot say."""
        if not isinstance(self.network, CalibratedDetector):
            return None
        found = self.network.map(self.normalisation(images.to(self.accelerator.device)))
        return None if found is None else found.float().cpu().contiguous()

    @torch.inference_mode()
    def unfamiliar(self, images: Float32[np.ndarray, "B C H W"]) -> list[str | None]:
        """Return what sets each prepared image apart from those of training; None for an image like them."""
        known: Any = self.config.get("familiar", {})
        network: Any = self.network
        on_device = torch.from_numpy(images).to(self.accelerator.device)
        try:
            return unfamiliar(statistics(on_device, network), known)
        except (AttributeError, TypeError, ValueError) as error:
            raise self.run.odd_config(error) from error

    def answers(self, images: Loader, batch_size: int) -> Float32[np.ndarray, "N K"]:
        """Return one row per image.

        Raises
        ------
        InvalidDataset
            When the images are not of the size or channels of the training images.
        """
        self._check_shape(images.image_shape, images.dataset.path)
        self.expect(len(images))
        answers, _ = predict_all(
            self.task, self.network, images, self.normalisation, batch_size, self.accelerator, self.symmetry
        )
        return answers

    @torch.inference_mode()
    def see(self, images: Loader, batch_size: int) -> None:
        """Let the network see every image and keep nothing: what answers cost without marks."""
        self.expect(len(images))
        output = torch.empty(0)
        for batch in images.in_order(batch_size):
            output = self._output(*batch.to(self.accelerator.device).inputs)
        output.sum().item()  # a GPU is done only when it has said something

    def _check_shape(self, shape: tuple[int, ...], path: Path) -> None:
        wanted = tuple(self.config["image_shape"])
        if shape != wanted:
            other = "bring them to the other" if shape[0] == wanted[0] else "choose their bands by --bands"
            raise InvalidDataset(
                f"images of shape {shape} in {path}",
                f"images of shape {wanted} (channels, height, width), as in training",
                f"train on images of this shape, or {other}",
            )


def locate_run(name: str) -> RunFolder:
    """Return the run called `name`: a folder, an id in runs/, or a run on W&B that is then fetched.

    Raises
    ------
    MissingFile
        When it is nowhere; the message lists the nearest ids.
    """
    try:
        return find_run(name)
    except MissingFile:
        fetched = fetch_from_wandb(name)
        if fetched is None:
            raise
        return fetched
