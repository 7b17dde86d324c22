"""A recipe's smooth lens as a function of its free parameters, with analytic derivatives."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp

from deeplense.core.compiled import EAGER, Runner
from deeplense.core.errors import InvalidOption
from deeplense.core.seeding import Streams, stable_key
from deeplense.instruments.noise import LAWS
from deeplense.instruments.optics import pixels_of, sample_grid
from deeplense.recipes.parts import Prior
from deeplense.recipes.recipe import Recipe
from deeplense.recipes.scenes import draw_parameters, macro_mass, scene_of
from deeplense.sky.light import b_n
from deeplense.sky.scene import Scene

EXPOSURE = "exposure_time"
RESCALED = ("lowest", "log_width")  # of the pixel values that were scaled to [0, 1]
SOURCE_PLACE = ("source_center_x", "source_center_y")
FREE_LIGHT = ("center_x", "center_y", "e1", "e2", "R_sersic", "n_sersic", "magnitude")
Images = Float[Tensor, "B C H W"]
Theta = Float[Tensor, "B P"]


class Observed(NamedTuple):
    """What a smooth lens predicts.

    Attributes
    ----------
    mean, variance
        Of the observed image, [B, C, H, W].
    jacobian
        Derivatives of the mean by each parameter, P times [B, C, H, W].
    """

    mean: Images
    variance: Images
    jacobian: list[Images]


class SmoothLens:
    """The smooth lens of a recipe; free is what the recipe varies in its class without substructure.

    Exposure times and other parameters of a log-uniform prior are taken as logarithms. Where the recipe scales every
    image to [0, 1], the two numbers of that scale are free too. It works on the device of the parameters it is given.
    Of pixels that are rates, not counts, the mean does not depend on the exposure, which then stays where a fit begins.

    Parameters
    ----------
    recipe
        What the images are of. One of its classes has no substructure.
    n_pixels
        Side of the central part that is modelled; it differs from the recipe's by an even number.
    run
        How the formulas are run.

    Raises
    ------
    InvalidOption
        When the recipe has no smooth class, or varies what cannot be fitted.
    """

    def __init__(self, recipe: Recipe, n_pixels: int, run: Runner = EAGER) -> None:
        if n_pixels > recipe.n_pixels or (recipe.n_pixels - n_pixels) % 2:
            raise InvalidOption(
                f"images of {n_pixels} pixels a side and a lens model of {recipe.name}, which has {recipe.n_pixels}",
                "an equal number of pixels cut from every side",
                "choose another --crop",
            )
        self.label = _smooth_class(recipe)
        self.recipe = dataclasses.replace(recipe, n_pixels=n_pixels, pair=None)
        self.run = run
        self.priors = {name: prior for name, (prior, _) in recipe.priors(self.label).items()}
        _must_be_fittable(self.recipe, self.label)
        self.names = (*self.priors, *(RESCALED if recipe.observation.rescale != "none" else ()))
        bounds = [_as_theta(prior, torch.tensor(prior.bounds)) for prior in self.priors.values()]
        bounds += [torch.tensor([-math.inf, math.inf])] * (len(self.names) - len(bounds))
        self.low, self.high = torch.stack(bounds).T.float()
        normals = [prior.normal or (0.0, math.inf) for prior in self.priors.values()]
        normals += [(0.0, math.inf)] * (len(self.names) - len(normals))
        self.prior_mean, self.prior_sigma = torch.tensor(normals).T.float()
        self.instruments = self.recipe.instruments()
        self.area = (self.instruments[0].pixel_scale / recipe.observation.supersampling) ** 2
        self._settle(torch.empty(0))

    def _settle(self, like: Tensor) -> None:
        """Put everything that is the same in all images on the device of `like`."""
        observation = self.recipe.observation
        self._fixed = self._fixed_scene(like)
        self.x, self.y = sample_grid(self.instruments[0], self.recipe.n_pixels, observation.supersampling, like)
        sigma = torch.tensor([instrument.background_sigma() for instrument in self.instruments])
        self._sigma = sigma[None, :, None, None].to(like)
        if EXPOSURE not in self.names:
            seconds = torch.tensor([observation.seconds(instrument) for instrument in self.instruments])
            self._fixed_seconds = seconds[None, :, None, None].to(like)

    def draw(self, n: int) -> Theta:
        """Return parameters of n smooth lenses of the recipe, always the same; the scale of pixel values is 0 and 1."""
        key = stable_key("smooth lenses", self.recipe.name)
        columns = draw_parameters(self.recipe, self.label, Streams.of([key] * n, range(n)))
        theta = [_as_theta(prior, torch.from_numpy(columns[name])) for name, prior in self.priors.items()]
        theta += [torch.zeros(n)] * (len(self.names) - len(theta))
        return torch.stack(theta, 1).float()

    def predict(self, theta: Theta, derivatives: bool = False) -> Observed:
        """Return mean and variance of the images, and on demand how the mean changes with each parameter."""
        rates = self.rates(theta, derivatives)
        return self.run(SmoothLens._observed, derivatives)(self, theta, rates, derivatives)

    def rates(self, theta: Theta, derivatives: bool = False) -> Float[Tensor, "B T C H W"]:
        """Return the noise-free images [electron/s], and on demand their derivatives by the parameters of the scene.

        Every instrument is linear, so the derivatives of the sky pass through it like images.
        """
        if self.x.device != theta.device:
            self._settle(torch.empty(0, device=theta.device))
        planes = self.run(SmoothLens._sky, derivatives)(self, theta, derivatives)
        bands = [
            pixels_of(planes[:, :, band], instrument, self.recipe.observation.supersampling, self.run)
            for band, instrument in enumerate(self.instruments)
        ]
        return torch.stack(bands, 2)

    def _sky(self, theta: Theta, derivatives: bool) -> Float[Tensor, "B T C h w"]:
        """Return the flux of every sample, and its derivatives by the parameters of the scene."""

        def flux(theta: Theta) -> Tensor:
            return self._scene(theta).surface_brightness(self.x, self.y) * self.area

        if not derivatives:
            return flux(theta).expand(len(theta), len(self.instruments), -1, -1)[:, None]
        planes = []
        for p in self._of_the_scene():
            direction = torch.zeros_like(theta)
            direction[:, p] = 1
            planes.append(jvp(flux, (theta,), (direction,))[1])
        return torch.stack([flux(theta), *planes], 1).expand(len(theta), -1, len(self.instruments), -1, -1)

    def _observed(self, theta: Theta, rates: Float[Tensor, "B T C H W"], derivatives: bool) -> Observed:
        """Return what becomes of the rates [electron/s] in the detector, by the noise law's own moments."""
        observation, rate = self.recipe.observation, rates[:, 0]
        law, sigma, seconds = LAWS[observation.noise], self._sigma, self._seconds(theta)
        _, variance = law.moments(rate, sigma, seconds)
        mean = law.mean(rate, sigma, seconds)
        jacobian: list[Images] = [torch.zeros_like(mean)] * len(self.names)
        if derivatives:
            by_rate = jvp(lambda rate: law.mean(rate, sigma, seconds), (rate,), (torch.ones_like(rate),))[1]
            for place, p in enumerate(self._of_the_scene(), 1):
                jacobian[p] = by_rate * rates[:, place]
            if EXPOSURE in self.names:
                by_time = jvp(lambda time: law.mean(rate, sigma, time), (seconds,), (seconds,))[1]
                jacobian[self.names.index(EXPOSURE)] = by_time
        scale = observation.scale * torch.ones_like(mean[:, :1, :1, :1])
        offset = torch.zeros_like(scale)
        if self.names[-1] == RESCALED[-1]:
            offset, scale = theta[:, -2, None, None, None], observation.scale * torch.exp(-_column(theta, -1))
        mean = mean * observation.scale
        scaled = (mean - offset) * scale / observation.scale
        jacobian = [derivative * scale for derivative in jacobian]
        if self.names[-1] == RESCALED[-1]:
            jacobian[-2], jacobian[-1] = -(scale / observation.scale).expand_as(scaled), -scaled
        return Observed(scaled, variance * scale**2, jacobian if derivatives else [])

    def _of_the_scene(self) -> list[int]:
        return [p for p, name in enumerate(self.names) if name not in (EXPOSURE, *RESCALED)]

    def _seconds(self, theta: Theta) -> Float[Tensor, "B C 1 1"]:
        if EXPOSURE in self.names:
            return torch.exp(_column(theta, self.names.index(EXPOSURE))).expand(-1, len(self.instruments), 1, 1)
        return self._fixed_seconds.expand(len(theta), -1, 1, 1)

    def _fixed_scene(self, like: Tensor) -> Scene:
        """Return the scene with nothing free: one image's numbers, of which the free ones are replaced."""
        columns = draw_parameters(self.recipe, self.label, Streams.of([0], [0]))
        self._fixed_magnitude = float(columns.get("source_magnitude", np.zeros(1))[0])
        return scene_of(self.recipe, self.label, columns, like)

    def _scene(self, theta: Theta) -> Scene:
        free = {name: _column(theta, p) for p, name in enumerate(self.names)}
        free = {
            name: torch.exp(value) if name in self.priors and self.priors[name].log_uniform else value
            for name, value in free.items()
        }
        mass = self._fixed.mass
        if any(name.startswith("lens_") for name in free):
            lens = self.recipe.lens
            mass = macro_mass(lens, {name: free.get(f"lens_{name}", value) for name, value in vars(lens).items()})
        source: Any = self._fixed.sources[0]
        changes = {name[7:]: value for name, value in free.items() if name.startswith("source_")}
        brighter = changes.pop("magnitude", None)
        changed = dataclasses.replace(source, **changes)
        if self.recipe.source.magnitude is not None and {"R_sersic", "n_sersic"} & set(changes):
            fainter = torch.exp(_log_flux(source) - _log_flux(changed))  # the flux is given, not the amplitude
            changed = dataclasses.replace(changed, amplitude=changed.amplitude * fainter)
        if brighter is not None:
            brightness = 10 ** (-0.4 * (brighter - self._fixed_magnitude))
            changed = dataclasses.replace(changed, amplitude=changed.amplitude * brightness)
        return dataclasses.replace(self._fixed, mass=mass, sources=(changed,))


def _column(theta: Theta, place: int) -> Float[Tensor, "B 1 1 1"]:
    return theta[:, place, None, None, None]


def _log_flux(source: Any) -> Tensor:
    """Return the logarithm of a Sérsic profile's flux at unit amplitude, up to a constant: `sersic_flux` of tensors."""
    size, n = (torch.as_tensor(value) for value in (source.R_sersic, source.n_sersic))
    b = torch.as_tensor(b_n(n))
    return torch.log(n) + 2 * torch.log(size) + b - 2 * n * torch.log(b) + torch.lgamma(2 * n)


def _as_theta(prior: Prior, value: Tensor) -> Tensor:
    return torch.log(value) if prior.log_uniform is not None else value


def _smooth_class(recipe: Recipe) -> str:
    for label, table in recipe.classes.items():
        if table.get("kind", "none") == "none" and table.get("lensed", True):
            return label
    raise InvalidOption(
        f"recipe {recipe.name} has no class without substructure",
        "a class of kind 'none', whose lens is fitted",
        "choose another model, or another recipe",
    )


def _must_be_fittable(recipe: Recipe, label: str) -> None:
    _must_have_noise(recipe)
    priors = recipe.priors(label)
    odd = [name for name, (_, owner) in priors.items() if not _is_fittable(name, owner)]
    odd += [] if recipe.source.kind == "sersic" else [f"a source of kind {recipe.source.kind}"]
    lights = recipe.lights(label).items()
    odd += [f"{name} that is not once in every image" for name, light in lights if not light.fixed]
    if odd or not priors:
        raise InvalidOption(
            f"a lens model of recipe {recipe.name}, which has {', '.join(odd) or 'the same lens in every image'}",
            "a Sérsic source that varies, and other light, if any, that is the same in every image",
            "choose another model, or another recipe",
        )
    if recipe.observation.rescale != "none" and len(recipe.instruments()) > 1:
        raise InvalidOption(
            f"a lens model of recipe {recipe.name}, whose {len(recipe.instruments())} bands are each scaled to [0, 1]",
            "one band, or pixel values that are not scaled",
            "choose another model, or another recipe",
        )


def _must_have_noise(recipe: Recipe) -> None:
    quiet = recipe.observation.noise == "none"
    if quiet or not all(instrument.background_sigma() > 0 for instrument in recipe.instruments()):
        raise InvalidOption(
            f"a lens model of recipe {recipe.name}, whose images have no {'noise' if quiet else 'background noise'}",
            "noise in every pixel: the residual is measured in it",
            "choose another model, or another recipe",
        )


def _is_fittable(name: str, owner: str | None) -> bool:
    return owner is None or (owner == "source" and name.removeprefix("source_") in FREE_LIGHT)
