"""Task `super_resolve`: the image of more pixels behind a coarse one, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Batch
from deeplense.metrics.image import centroid_offset, flux_error, mae, mse, psnr_of_mse, ssim
from deeplense.metrics.intervals import Interval, mean_interval
from deeplense.metrics.noise_law import NoiseLaw
from deeplense.metrics.resolution import coverage, noise_floor, redegradation_chi_square
from deeplense.metrics.spectra import LEAST_PERIODS, checkerboard
from deeplense.tasks.task import TASKS, Example, LearntTask
from deeplense.upscalers.resolver import SuperResolver
from deeplense.upscalers.upscaler import UPSCALERS, Fine

Loss = Literal["mse", "mae", "ssim", "mixed"]
MIXED = 0.84  # weight of 1 − SSIM beside the absolute error: H. Zhao et al., IEEE TCI 3, 47 (2017), section III D
APERTURE = 0.3  # radius of the aperture whose flux is compared, in sides of the image
SIGMAS = {1: 68, 2: 95}  # half-widths of intervals, and how many per cent of normal errors lie within
UNKNOWN = 1e-4  # variance of the noise, in squared ranges, where it is not known
OBSERVED = ("mse", "mae", "psnr", "ssim")  # against the observed fine image
TRUE = ("mse_truth", "psnr_truth", "ssim_truth", "floor", "gap", "flux_error", "aperture_flux_error", "centroid_offset")
OTHER = ("chi2", "coverage_68", "coverage_95", "checkerboard")
COLUMNS = OBSERVED + TRUE + OTHER


@TASKS.register("super_resolve")
class SuperResolve(LearntTask):
    """Finer images with their σ; PSNR, SSIM, flux and what an astronomer asks for.

    Parameters
    ----------
    estimator
        "fidelity" predicts the observed fine image, noise and all that can be known of it; "truth" the one without
        noise. One estimator cannot do both.
    loss
        "mse", "mae", "ssim" (1 − SSIM), or "mixed" of the last two.
    degradation
        How coarse images are made.
    is_known
        Whether that is known, not assumed: only then can an answer be made coarse again and compared.
    data_range
        Of PSNR and SSIM [pixel value].
    noise
        Of the coarse images; None where there is no truth to learn it from.

    Attributes
    ----------
    primary_metric
        PSNR against what is asked for.
    consistency
        Weight of the mean squared difference between estimate and what is asked for, both made coarse.
    features, alikeness
        What another network sees in an image, and the weight of the mean squared difference of that; of none if None.
    """

    primary_metric: str = "psnr"
    examples_name: ClassVar[str] = "panels"
    needs_labels: ClassVar[bool] = False
    pairs: ClassVar[bool] = True
    finishes: ClassVar[bool] = True

    def __init__(
        self,
        estimator: Literal["fidelity", "truth"],
        loss: Loss,
        degradation: Degradation,
        is_known: bool,
        data_range: float,
        noise: NoiseLaw | None,
    ) -> None:
        self.estimator, self.loss_name, self.degradation, self.is_known = estimator, loss, degradation, is_known
        self.data_range, self.noise = data_range, noise
        self.consistency, self.alikeness = 0.0, 0.0
        self.features: Callable[[Fine], Tensor] | None = None
        if estimator == "truth":
            self.primary_metric = "psnr_truth"

    @classmethod
    def of(cls, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the task as the options say; classes mean nothing to it."""
        noise = settings["noise"]
        return cls(
            settings["estimator"],
            settings["loss"],
            Degradation.from_mapping(settings["degradation"]),
            settings["degradation_is_known"],
            settings["data_range"],
            None if noise is None else NoiseLaw.from_mapping(noise),
        )

    def network(self, image_shape: tuple[int, int, int], settings: Mapping[str, Any]) -> SuperResolver:
        """Return the upscaler that the options name, with its spread."""
        return SuperResolver(UPSCALERS[settings["model_name"]](image_shape[0], self.degradation))

    @property
    def noise_share(self) -> float:
        """The variance of the faintest pixels' noise in units of the squared range, of which errors are the order."""
        return UNKNOWN if self.noise is None else self.noise.least / self.data_range**2

    def wanted(self, batch: Batch) -> Fine:
        """Return the images that are asked for.

        Raises
        ------
        InvalidDataset
            When the truth is asked for, but not known.
        """
        wanted = batch.truth if self.estimator == "truth" else batch.fine
        if wanted is None:
            raise InvalidDataset(
                "pairs without the noise-free image",
                "a simulated set, whose truth is known",
                "use --estimator fidelity, or simulate one: `deeplense simulate super_resolution`",
            )
        return wanted

    def loss(self, output: Float[Tensor, "B 2C H W"], batch: Batch) -> Float[Tensor, " B"]:
        """Return the loss of every image, and the negative log-likelihood of its errors under their σ."""
        wanted = self.wanted(batch)
        estimate, log_sigma = output.float().chunk(2, dim=1)
        error = (wanted - estimate.detach()) * torch.exp(-log_sigma)
        lost = self._distance(estimate, wanted) + (error.square() / 2 + log_sigma).mean((1, 2, 3))
        if self.consistency:
            again = self.degradation(estimate), self.degradation(wanted)
            lost = lost + self.consistency * mse(*again) / self.data_range**2
        if self.features is not None:
            seen = (self.features(image).flatten(1) for image in (estimate, wanted))
            lost = lost + self.alikeness * (next(seen) - next(seen)).square().mean(1)
        return lost

    def contested(self, output: Float[Tensor, "B 2C H W"], batch: Batch) -> tuple[Fine, Fine]:
        """Return the estimates and the images that are asked for, for an opponent to tell apart."""
        return output.float().chunk(2, dim=1)[0], self.wanted(batch)

    def _distance(self, estimate: Fine, wanted: Fine) -> Float[Tensor, " B"]:
        if self.loss_name == "mse":
            return mse(estimate, wanted) / self.data_range**2
        if self.loss_name == "mae":
            return mae(estimate, wanted) / self.data_range
        dissimilar = 1 - ssim(estimate, wanted, self.data_range)
        if self.loss_name == "ssim":
            return dissimilar
        return MIXED * dissimilar + (1 - MIXED) * mae(estimate, wanted) / self.data_range

    @property
    def n_answers(self) -> int:
        """One number per mark."""
        return len(COLUMNS)

    def answers(self, output: Float[Tensor, "B 2C H W"], batch: Batch | None = None) -> Float32[Tensor, "B K"]:
        """Return the marks of every image; NaN where what they need is not known."""
        unknown = torch.full((len(output),), torch.nan, device=output.device)
        found = dict.fromkeys(COLUMNS, unknown) | ({} if batch is None else self._marks_of(output, batch))
        return torch.stack([found[name].to(unknown) for name in COLUMNS], dim=1)

    def _marks_of(self, output: Float[Tensor, "B 2C H W"], batch: Batch) -> dict[str, Tensor]:
        """Return the marks that can be known of pairs, [B] each."""
        estimate, log_sigma = output.float().chunk(2, dim=1)
        sigma = log_sigma.exp()
        found: dict[str, Tensor] = {}
        for suffix, image in (("", batch.fine), ("_truth", batch.truth)):
            if image is not None:
                error = mse(estimate, image)
                found |= {f"mse{suffix}": error, f"psnr{suffix}": psnr_of_mse(error, self.data_range)}
                found[f"ssim{suffix}"] = ssim(estimate, image, self.data_range)
        if batch.fine is not None:
            found["mae"] = mae(estimate, batch.fine)
        if batch.truth is not None and batch.fine is not None:
            found["floor"] = psnr_of_mse(self._floor(batch.fine, batch.truth), self.data_range)
            found["gap"] = found["floor"] - found["psnr"]
        if batch.truth is not None:
            sky = batch.truth.amin((1, 2, 3))  # without noise the faintest pixel is the sky
            found["flux_error"] = flux_error(estimate, batch.truth, background=sky)
            radius = APERTURE * min(batch.truth.shape[2:])
            found["aperture_flux_error"] = flux_error(estimate, batch.truth, radius, background=sky)
            found["centroid_offset"] = centroid_offset(estimate, batch.truth)
        if self.noise is not None and self.is_known:
            found["chi2"] = self.chi2(estimate, batch.image)
        wanted, factor = batch.truth if self.estimator == "truth" else batch.fine, self.degradation.factor
        if wanted is not None and min(wanted.shape[2:]) >= LEAST_PERIODS * factor:
            found["checkerboard"] = checkerboard(estimate, factor) / checkerboard(wanted, factor)
        if wanted is not None:
            found |= {f"coverage_{percent}": coverage(estimate, wanted, sigma, k) for k, percent in SIGMAS.items()}
        return found

    def _floor(self, fine: Fine, truth: Fine) -> Float[Tensor, " B"]:
        """Return the least mean squared error of a prediction of the observed fine image, by the noise that it has."""
        rows, columns = (self.degradation.along(side // self.degradation.factor) for side in fine.shape[2:])
        return noise_floor((fine - truth).square(), rows, columns)

    def chi2(self, estimate: Fine, low: Float[Tensor, "B C h w"]) -> Float[Tensor, " B"]:
        """Return χ² per pixel of the coarse image against the estimate made coarse again: near 1 for the truth."""
        assert self.noise is not None  # asked for by those who know
        again = self.degradation(estimate)
        return redegradation_chi_square(low, again, self.noise.variance(again))

    def marks(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> dict[str, float]:
        """Return the mean of every mark that is known."""
        return {name: float(np.nanmean(values)) for name, values in _known(answers).items()}

    def marks_with_intervals(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"], temperature: float | None = None
    ) -> dict[str, Interval]:
        """Return the same with intervals of the mean over images."""
        return {name: mean_interval(values[np.isfinite(values)]) for name, values in _known(answers).items()}

    def columns(self, answers: Float32[np.ndarray, "N K"]) -> dict[str, Any]:
        """Return every mark of every image."""
        return _known(answers)

    def tables(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]
    ) -> dict[str, dict[str, Sequence[Any] | np.ndarray]]:
        """Return nothing more: the predictions hold every mark of every image."""
        return {}

    def examples(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> list[Example]:
        """Return the best, the middling and the worst image by PSNR against what was asked for."""
        found = answers[:, COLUMNS.index(self.primary_metric)]
        order = np.argsort(-found, kind="stable")
        places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        return [Example(int(k), {"kind": kind, "psnr": float(found[k])}) for kind, k in places.items()]

    def pictures(self, output: Float[Tensor, "B 2C H W"], batch: Batch) -> dict[str, Tensor]:
        """Return what a reader should see of images beside the coarse one."""
        estimate, log_sigma = output.float().chunk(2, dim=1)
        known = {"fine": batch.fine, "truth": batch.truth}
        shown = {"estimate": estimate, "sigma": log_sigma.exp()}
        return shown | {name: image for name, image in known.items() if image is not None}

    def finish(self, network: nn.Module, batches: Iterable[tuple[Tensor, Batch]]) -> None:
        """Widen σ to what held-out images show."""
        assert isinstance(network, SuperResolver)  # `network` made it
        network.calibrate((output, self.wanted(batch)) for output, batch in batches)


def _known(answers: Float32[np.ndarray, "N K"]) -> dict[str, Float32[np.ndarray, " N"]]:
    """Return the marks that at least one image has."""
    return {name: values for name, values in zip(COLUMNS, answers.T, strict=True) if np.isfinite(values).any()}
