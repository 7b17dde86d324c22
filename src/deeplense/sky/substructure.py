"""Populations of dark-matter substructure: random numbers in, mass profiles and their parameters out.

A population turns the uniform numbers of an image into a profile, so that the image is a function of those numbers
alone. Masses are in solar masses, positions in arcsec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from deeplense.core.config import Bounds, Config, Count, Positive
from deeplense.core.errors import InvalidOption
from deeplense.core.registry import Registry
from deeplense.sky.cosmology import LensPlane
from deeplense.sky.mass import MassProfile, PointMasses
from deeplense.sky.vortex import Vortex

Parameters = dict[str, Float64[np.ndarray, "B *K"]]  # noqa: F821


@dataclass(frozen=True)
class Population(Config):
    """A law of substructure.

    The plane turns masses and lengths into angles.
    """

    def n_uniforms(self, plane: LensPlane) -> int:
        """Return how many uniform numbers one image takes."""
        raise NotImplementedError

    def draw(self, uniforms: Float64[np.ndarray, "B U"], plane: LensPlane) -> Parameters:
        """Return the parameters of each image, one array per catalogue column: [B], or [B, K] with NaN for none."""
        raise NotImplementedError

    def profiles(self, parameters: Parameters, plane: LensPlane, like: Tensor) -> tuple[MassProfile, ...]:
        """Return the mass profiles of drawn parameters, in the dtype and on the device of `like`."""
        raise NotImplementedError


POPULATIONS: Registry[type[Population]] = Registry("substructure", "deeplense.sky")


@POPULATIONS.register("none")
@dataclass(frozen=True)
class NoSubstructure(Population):
    """A smooth lens."""

    def n_uniforms(self, plane: LensPlane) -> int:
        """Return 0."""
        return 0

    def draw(self, uniforms: Float64[np.ndarray, "B U"], plane: LensPlane) -> Parameters:
        """Return no parameter."""
        return {}

    def profiles(self, parameters: Parameters, plane: LensPlane, like: Tensor) -> tuple[MassProfile, ...]:
        """Return no profile."""
        return ()


@POPULATIONS.register("point_masses")
@dataclass(frozen=True)
class PointMassSubhaloes(Population):
    """A fixed number of point masses around the lens centre (DeepLenseSim's CDM).

    Parameters
    ----------
    count
        Subhaloes per image.
    mass
        Smallest and largest mass [solar masses].
    mass_exponent
        p of the draw m = (m_lo^p + (m_hi^p − m_lo^p) U)^(1/p), which is dN/dm ∝ m^(p − 1); 0 is uniform in log m.
    radius
        Smallest and largest distance from the centre [arcsec], uniform in radius.
    """

    count: Count = 25
    mass: tuple[Positive, Positive] = (1e6, 1e10)
    mass_exponent: float = 0.1
    radius: tuple[Positive, Positive] = (0.25, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mass", "radius"):
            _check_order(name, getattr(self, name))

    def n_uniforms(self, plane: LensPlane) -> int:
        """Return three: mass, radius and angle, for each subhalo."""
        return 3 * self.count

    def draw(self, uniforms: Float64[np.ndarray, "B U"], plane: LensPlane) -> Parameters:
        """Return `halo_mass` [solar masses], `halo_x`, `halo_y` [arcsec], each [B, count]."""
        u_mass, u_radius, u_angle = np.split(uniforms, 3, axis=1)
        radius = self.radius[0] + (self.radius[1] - self.radius[0]) * u_radius
        angle = 2 * math.pi * u_angle
        return {
            "halo_mass": power_law(u_mass, *self.mass, self.mass_exponent - 1),
            "halo_x": radius * np.sin(angle),
            "halo_y": radius * np.cos(angle),
        }

    def profiles(self, parameters: Parameters, plane: LensPlane, like: Tensor) -> tuple[MassProfile, ...]:
        """Return the point masses."""
        theta_E = np.sqrt(plane.theta_E2_per_solar_mass * parameters["halo_mass"])
        columns = (theta_E, parameters["halo_x"], parameters["halo_y"])
        return (PointMasses(*(torch.from_numpy(column).to(like) for column in columns)),)


@POPULATIONS.register("axion_vortex")
@dataclass(frozen=True)
class AxionVortex(Population):
    """A straight vortex of ultra-light axions through the lens centre, at a random angle (DeepLenseSim's axion).

    Parameters
    ----------
    axion_mass
        Smallest and largest axion mass [eV], log-uniform.
    length_times_mass
        Half-length L times axion mass [arcsec eV].
    mass
        Mass of the whole vortex [solar masses].
    n_beads
        Point masses that make up the line, at least two.
    """

    axion_mass: tuple[Positive, Positive] = (1e-24, 1e-22)
    length_times_mass: Positive = 3e-24
    mass: Positive = 3e10
    n_beads: Annotated[int, Bounds(low=2)] = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order("axion_mass", self.axion_mass)

    def n_uniforms(self, plane: LensPlane) -> int:
        """Return two: axion mass and angle."""
        return 2

    def draw(self, uniforms: Float64[np.ndarray, "B U"], plane: LensPlane) -> Parameters:
        """Return `axion_mass` [eV], `vortex_half_length` [arcsec] and `vortex_angle` [rad], each [B]."""
        low, high = (math.log(mass) for mass in self.axion_mass)
        axion_mass = np.exp(low + (high - low) * uniforms[:, 0])
        return {
            "axion_mass": axion_mass,
            "vortex_half_length": self.length_times_mass / axion_mass,
            "vortex_angle": math.pi * (2 * uniforms[:, 1] - 1),
        }

    def profiles(self, parameters: Parameters, plane: LensPlane, like: Tensor) -> tuple[MassProfile, ...]:
        """Return the vortex."""
        angle = parameters["vortex_angle"]
        half_length, direction_x, direction_y = (
            torch.from_numpy(column).to(like)[:, None, None, None]
            for column in (parameters["vortex_half_length"], np.cos(angle), np.sin(angle))
        )
        theta_E = math.sqrt(plane.theta_E2_per_solar_mass * self.mass)
        return (Vortex(theta_E, half_length, direction_x, direction_y, n_beads=self.n_beads),)


def power_law(u: Float64[np.ndarray, "*B"], low: float, high: float, exponent: float) -> Float64[np.ndarray, "*B"]:
    """Return draws of a density ∝ x^exponent between two positive bounds, from uniform numbers."""
    p, width = exponent + 1, math.log(high) - math.log(low)
    if p == 0:
        return np.asarray(np.exp(math.log(low) + width * u))
    # (low^p + (high^p − low^p) u)^(1/p), as a part of the bound where the density is larger: nothing overflows
    with np.errstate(divide="ignore"):  # log 0 is the other bound
        if p > 0:
            x = high * np.exp(np.log1p((1 - u) * math.expm1(-p * width)) / p)
        else:
            x = low * np.exp(np.log1p(u * math.expm1(p * width)) / p)
    return np.asarray(np.clip(x, low, high))


def _check_order(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise InvalidOption(f"{name} is [{bounds[0]:g}, {bounds[1]:g}]", "the smaller bound first", "swap them")
