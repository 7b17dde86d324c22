"""A population of subhaloes with a mass function: cold or warm dark matter, four mass profiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from deeplense.core.config import NonNegative, Positive
from deeplense.core.errors import InvalidOption
from deeplense.sky import halo
from deeplense.sky.circular import SIS, ConvergenceSheet, PointMass
from deeplense.sky.cosmology import LensPlane
from deeplense.sky.mass import MassProfile
from deeplense.sky.nfw import NFW, TNFW
from deeplense.sky.subhaloes import Subhaloes
from deeplense.sky.substructure import POPULATIONS, Parameters, Population

PIVOT = 1e8  # solar masses, where sigma_sub is normalised
GRID = 4096  # masses, uniform in the logarithm, on which the mass function is integrated
OVERFLOW = 1e-12  # chance that an image would have more subhaloes than slots
MAX_MEAN = 10000  # subhaloes of an image

Masses = Float64[np.ndarray, "*shape"]
KINDS: dict[str, type[MassProfile]] = {"point_mass": PointMass, "sis": SIS, "nfw": NFW, "tnfw": TNFW}
ProfileName = Literal["point_mass", "sis", "nfw", "tnfw"]


@POPULATIONS.register("subhaloes")
@dataclass(frozen=True)
class SubhaloPopulation(Population):
    """Subhaloes of a power-law mass function, uniform in area around the lens centre (Gilman et al. 2020).

    d²N / (dm dA) = sigma_sub / m₀ · (m / m₀)^slope with m₀ = 1e8 solar masses, times the suppression of warm dark
    matter (Lovell 2020), whose haloes are also less concentrated (Bose et al. 2016). The number in an image is Poisson.
    An image takes 1 + 3 K uniform numbers: K slots, so many that the chance of needing more is below 1e-12; slots
    beyond the drawn number are NaN. So an image depends on its own uniform numbers alone. The mean number of an image
    is at most 10,000.

    Parameters
    ----------
    profile
        Mass profile of each subhalo: all of M200 in a point; an isothermal sphere that holds M200 within r200; an NFW
        halo of the concentration of its mass; an NFW halo truncated by the tides of the host.
    slope
        Exponent of the mass function, about −1.9 in cold dark matter.
    mass
        Smallest and largest M200 [solar masses].
    sigma_sub
        Normalisation of the mass function [1 / kpc²].
    radius
        Radius of the disc that holds the subhaloes [arcsec].
    wdm_mass
        Mass of the warm dark-matter particle, a thermal relic [keV]; None is cold dark matter.
    host_distance
        Distance of the subhaloes from the centre of the host in three dimensions [kpc], which truncates them ("tnfw").
    mass_sheet
        "compensated" adds a sheet of negative convergence over the whole plane: minus the convergence that the
        population is expected to have inside the disc, so that images keep the mean mass of the macro lens. It counts
        the whole mass of a point mass and of a truncated halo, and M200 of the others, whose mass has no limit. It is
        the same in every image: the number of subhaloes still fluctuates.
    """

    profile: ProfileName = "tnfw"
    slope: float = -1.9
    mass: tuple[Positive, Positive] = (1e7, 1e10)
    sigma_sub: NonNegative = 0.025
    radius: Positive = 3.0
    wdm_mass: Positive | None = None
    host_distance: Positive = 50.0
    mass_sheet: Literal["none", "compensated"] = "compensated"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mass[0] >= self.mass[1]:
            raise InvalidOption(
                f"mass is [{self.mass[0]:g}, {self.mass[1]:g}] solar masses",
                "the smallest mass before a larger one",
                "write mass = [1e7, 1e10], for example",
            )

    def n_uniforms(self, plane: LensPlane) -> int:
        """Return how many uniform numbers one image takes: its number of subhaloes, and three for each slot."""
        return 1 + 3 * self.slots(plane)

    def draw(self, uniforms: Float64[np.ndarray, "B U"], plane: LensPlane) -> Parameters:
        """Return `halo_mass` (M200) [solar masses], `halo_x`, `halo_y` [arcsec], [B, K] each, NaN where there is none.

        The first uniform number of an image is the number of its subhaloes; then follow K masses, radii and angles.
        """
        u_mass, u_radius, u_angle = np.split(uniforms[:, 1:], 3, axis=1)
        count = np.searchsorted(self._cumulative_counts(plane), uniforms[:, :1], side="right")
        radius, angle = self.radius * np.sqrt(u_radius), 2 * math.pi * u_angle
        columns = {
            "halo_mass": self._masses(u_mass),
            "halo_x": radius * np.cos(angle),
            "halo_y": radius * np.sin(angle),
        }
        present = np.arange(u_mass.shape[1]) < count
        return {name: np.where(present, column, np.nan) for name, column in columns.items()}

    def profiles(self, parameters: Parameters, plane: LensPlane, like: Tensor) -> tuple[MassProfile, ...]:
        """Return the subhaloes and, if asked for, the sheet."""
        present = np.isfinite(parameters["halo_mass"])
        used = present.any(axis=0)  # what no image of the batch has would only add zeros
        mass, x, y = (
            np.where(present, parameters[name], fill)[:, used]
            for name, fill in (("halo_mass", PIVOT), ("halo_x", 0.0), ("halo_y", 0.0))
        )
        columns = self._columns(mass, plane)
        strength = "theta_E" if "theta_E" in columns else "alpha_Rs"
        columns[strength] = columns[strength] * present[:, used]
        columns |= {"center_x": x, "center_y": y}
        tensors = {name: torch.from_numpy(column).to(like) for name, column in columns.items()}
        haloes = Subhaloes(KINDS[self.profile], tensors)
        if self.mass_sheet == "none":
            return (haloes,)
        kappa = np.full((len(present), 1, 1, 1), -self.expected_convergence(plane))
        return haloes, ConvergenceSheet(torch.from_numpy(kappa).to(like))

    def slots(self, plane: LensPlane) -> int:
        """Return the number of slots K of an image.

        Raises
        ------
        InvalidOption
            When an image would hold more than 10,000 subhaloes on average.
        """
        return len(self._cumulative_counts(plane)) - 1

    def expected_count(self, plane: LensPlane) -> float:
        """Return the mean number of subhaloes in an image."""
        _, weight = self._mass_function()
        return float(weight.sum()) * self._area(plane)

    def expected_convergence(self, plane: LensPlane) -> float:
        """Return the mean convergence of the subhaloes inside their disc, their masses counted as in `mass_sheet`."""
        mass, weight = self._mass_function()
        if self.profile == "tnfw":
            bound = self._columns(mass, plane)
            projected = bound["alpha_Rs"] * bound["Rs"] / (1 - math.log(2)) / plane.theta_E2_per_solar_mass
            mass = projected * halo.tnfw_total_mass(bound["r_trunc"] / bound["Rs"])
        total = float(weight @ mass) * self._area(plane)
        return total / (math.pi * self.radius**2 * plane.critical_density)

    def _columns(self, mass: Masses, plane: LensPlane) -> dict[str, Masses]:
        """Return the parameters of the profiles of haloes of given masses [arcsec]."""
        if self.profile == "point_mass":
            return {"theta_E": np.sqrt(plane.theta_E2_per_solar_mass * mass)}
        if self.profile == "sis":
            return {"theta_E": halo.sis_theta_E(mass, plane)}
        c200 = halo.concentration(mass, plane)
        if self.wdm_mass is not None:
            c200 = c200 * halo.concentration_suppression(mass, halo.half_mode_mass(self.wdm_mass), plane.z_lens)
        Rs, alpha_Rs = halo.nfw_parameters(mass, c200, plane)
        columns = {"Rs": Rs, "alpha_Rs": alpha_Rs}
        if self.profile == "tnfw":
            columns["r_trunc"] = halo.truncation_radius(mass, self.host_distance, plane)
        return columns

    def _area(self, plane: LensPlane) -> float:
        """Return the area of the disc [kpc²]."""
        return math.pi * (self.radius * plane.kpc_per_arcsec) ** 2

    def _mass_function(self) -> tuple[Masses, Masses]:
        """Return masses [solar masses] and the number of subhaloes around each [1 / kpc²]: nodes, weights."""
        edges = self._edges()
        middle = np.sqrt(edges[1:] * edges[:-1])
        density = self.sigma_sub / PIVOT * (middle / PIVOT) ** self.slope
        if self.wdm_mass is not None:
            density = density * halo.mass_function_suppression(middle, halo.half_mode_mass(self.wdm_mass))
        return middle, density * middle * np.diff(np.log(edges))

    def _edges(self) -> Masses:
        return np.geomspace(*self.mass, GRID + 1)

    def _masses(self, u: Masses) -> Masses:
        """Return masses drawn from the mass function: its cumulative distribution on the grid, inverted."""
        _, weight = self._mass_function()
        cumulative = np.append(0, np.cumsum(weight))
        if cumulative[-1] == 0:  # no subhaloes at all
            return np.full_like(u, self.mass[0])
        return np.asarray(np.exp(np.interp(u, cumulative / cumulative[-1], np.log(self._edges()))))

    def _cumulative_counts(self, plane: LensPlane) -> Float64[np.ndarray, " slots"]:
        """Return P(N ≤ n) of the Poisson law for n from 0 to the first that leaves less than 1e-12."""
        mean = self.expected_count(plane)
        if mean > MAX_MEAN:
            raise InvalidOption(
                f"the subhaloes of an image would be {mean:.0f} on average",
                f"at most {MAX_MEAN}",
                "raise the smallest mass, or make radius or sigma_sub smaller",
            )
        n = np.arange(
            int(mean + 10 * math.sqrt(mean) + 50)
        )  # ten standard deviations, and as many as a small mean needs
        log_factorial = np.append(0, np.cumsum(np.log(n[1:])))
        probability = np.exp(n * math.log(mean) - mean - log_factorial) if mean > 0 else np.where(n == 0, 1.0, 0.0)
        tail = np.cumsum(probability[::-1])[::-1]  # P(N ≥ n), summed from the small end: no cancellation
        return np.cumsum(probability[: np.flatnonzero(tail < OVERFLOW)[0]])
