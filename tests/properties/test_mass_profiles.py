"""What every mass profile obeys: div α = 2κ, curl α = 0, rotation; derivatives that are true; float32; limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deeplense.sky.circular import SIS, ConvergenceSheet, PointMass
from deeplense.sky.mass import SIE, MassProfile, Shear
from deeplense.sky.nfw import NFW, TNFW
from deeplense.sky.power_law import EPL
from deeplense.sky.subhaloes import Subhaloes

Make = Callable[[Tensor], MassProfile]
# each profile from four numbers in (0, 1), a position angle in (0, 1) and a centre in (0, 1)²; [B, 1, 1, 1] each
MAKE: dict[str, Callable[..., MassProfile]] = {
    "SIE": lambda a, b, c, d, e1, e2, x, y: SIE(0.2 + a, e1, e2, x, y),
    "Shear": lambda a, b, c, d, e1, e2, x, y: Shear(e1, e2),
    "EPL": lambda a, b, c, d, e1, e2, x, y: EPL(0.2 + a, 1.3 + 1.4 * b, e1, e2, x, y),
    "PointMass": lambda a, b, c, d, e1, e2, x, y: PointMass(0.1 + a, x, y),
    "SIS": lambda a, b, c, d, e1, e2, x, y: SIS(0.1 + a, x, y),
    "NFW": lambda a, b, c, d, e1, e2, x, y: NFW(10 ** (3 * a - 2), 0.1 + b, x, y),
    "TNFW": lambda a, b, c, d, e1, e2, x, y: TNFW(10 ** (3 * a - 2), 0.1 + b, 10 ** (4 * c - 2), x, y),
    "ConvergenceSheet": lambda a, b, c, d, e1, e2, x, y: ConvergenceSheet(a - 0.5),
    "Subhaloes": lambda a, b, c, d, e1, e2, x, y: Subhaloes(
        NFW,
        {
            "Rs": torch.stack([0.1 + a, 0.1 + b], -1).reshape(-1, 2),
            "alpha_Rs": torch.stack([c, d], -1).reshape(-1, 2),
            "center_x": torch.stack([x, y], -1).reshape(-1, 2),
            "center_y": torch.stack([y, -x], -1).reshape(-1, 2),
        },
    ),
}
NUMBERS = st.lists(st.floats(0, 1), min_size=8, max_size=8)
PROFILES = [name for name in MAKE if name != "Subhaloes"]


def make(name: str, numbers: list[float] | Tensor, turn: float = 0.0) -> MassProfile:
    """Return a profile of eight numbers in [0, 1], turned by an angle about the origin."""
    a, b, c, d, modulus, angle, x, y = (
        value.reshape(-1, 1, 1, 1) for value in torch.as_tensor(numbers, dtype=torch.float64)
    )
    e, phi = 0.6 * modulus, math.pi * angle + turn
    x, y = x - 0.5, y - 0.5
    x, y = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    return MAKE[name](a, b, c, d, e * torch.cos(2 * phi), e * torch.sin(2 * phi), x, y)


def points(seed: int, n: int = 100) -> tuple[Tensor, Tensor]:
    """Return random positions within 3 arcsec, [1, n] each, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    x, y = 6 * torch.rand(2, 1, n, generator=generator, dtype=torch.float64) - 3
    return x.requires_grad_(), y.requires_grad_()


@pytest.mark.parametrize("name", MAKE)
@given(numbers=NUMBERS, seed=st.integers(0, 99))
def test_the_deflection_is_a_gradient_with_the_divergence_of_its_mass(
    name: str, numbers: list[float], seed: int
) -> None:
    x, y = points(seed)
    profile = make(name, numbers)
    alpha = [part.expand(1, 1, 1, x.numel()) for part in profile.deflection(x, y)]
    (xx, xy), (yx, yy) = (
        torch.autograd.grad(part.sum(), (x, y), retain_graph=True, materialize_grads=True) for part in alpha
    )
    kappa = profile.convergence(x, y).expand(1, 1, 1, x.numel()).reshape(xx.shape)
    size = xx.abs() + xy.abs() + yx.abs() + yy.abs() + 1e-6
    assert ((xx + yy - 2 * kappa) / size).abs().max() < 1e-8
    assert ((xy - yx) / size).abs().max() < 1e-8


@pytest.mark.parametrize("name", PROFILES)
@given(numbers=NUMBERS, turn=st.floats(-math.pi, math.pi), seed=st.integers(0, 99))
def test_a_turned_lens_is_the_lens_turned(name: str, numbers: list[float], turn: float, seed: int) -> None:
    x, y = (values.detach() for values in points(seed))
    cos, sin = math.cos(turn), math.sin(turn)
    alpha_x, alpha_y = make(name, numbers).deflection(x, y)
    there = make(name, numbers, turn).deflection(cos * x - sin * y, sin * x + cos * y)
    scale = 1 + torch.hypot(alpha_x, alpha_y).max().item()
    expected = (cos * alpha_x - sin * alpha_y, sin * alpha_x + cos * alpha_y)
    torch.testing.assert_close(there, expected, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("name", MAKE)
def test_gradients_are_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    numbers = (0.1 + 0.8 * torch.rand(8, generator=generator, dtype=torch.float64)).requires_grad_()
    x, y = points(3, 6)

    def values(numbers: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        profile = make(name, numbers)
        return *profile.deflection(x, y), profile.convergence(x, y)

    # a point mass has constant convergence: no gradient there is a gradient of 0
    assert torch.autograd.gradcheck(values, (numbers, x, y), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in MAKE if name != "SIE"])  # it has its own tests of this
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_is_finite_at_the_centre_and_at_the_scale_radius(name: str, dtype: torch.dtype) -> None:
    numbers = torch.tensor([0.5, 0.5, 0.5, 0.3, 0.0, 0.0, 0.5, 0.5], dtype=torch.float64).requires_grad_()
    scale = 10**-0.5  # of the NFW haloes
    radius = [0, 1e-30, 1e-12, 1e-9, 1e-6, scale * (1 - 1e-7), scale, scale * (1 + 1e-7), scale * math.sqrt(2), 1e4]
    x = torch.tensor([radius], dtype=dtype).requires_grad_()
    y = torch.zeros_like(x).requires_grad_()
    profile = make(name, numbers)
    if dtype == torch.float32:
        profile = single(profile)
    values = (*profile.deflection(x, y), profile.convergence(x, y))
    assert all(torch.isfinite(value).all() for value in values)
    gradients = torch.autograd.grad(sum(v.sum() for v in values), (x, y, numbers), materialize_grads=True)
    assert all(torch.isfinite(gradient).all() for gradient in gradients), gradients
    if name != "Subhaloes":
        assert values[0].flatten()[0] == values[1].flatten()[0] == 0, "the centre of a symmetric lens deflects nothing"


def single(profile: MassProfile) -> MassProfile:
    """Return a profile with its parameters in float32."""
    if isinstance(profile, Subhaloes):
        return Subhaloes(profile.profile, {name: value.float() for name, value in profile.parameters.items()})
    return type(profile)(*(value.float() for value in vars(profile).values()))


@pytest.mark.parametrize("name", MAKE)
@given(numbers=NUMBERS)
def test_float32_is_close_to_float64(name: str, numbers: list[float]) -> None:
    # the same float32 numbers in both: what differs is the arithmetic; no point within 0.05 arcsec of a centre, where
    # the rounding of the distance itself counts
    x, y = (values.detach().float() for values in points(1))
    narrow = single(make(name, numbers))
    if isinstance(narrow, Subhaloes):
        wide: MassProfile = Subhaloes(narrow.profile, {k: v.double() for k, v in narrow.parameters.items()})
        centres = [(narrow.parameters["center_x"][0, k], narrow.parameters["center_y"][0, k]) for k in range(2)]
    else:
        wide = type(narrow)(*(value.double() for value in vars(narrow).values()))
        centres = [(getattr(narrow, "center_x", torch.zeros(1)), getattr(narrow, "center_y", torch.zeros(1)))]
    away = torch.stack([torch.hypot(x - cx.flatten(), y - cy.flatten()) > 0.05 for cx, cy in centres]).all(0)
    result = torch.stack([part.broadcast_to(1, 1, *x.shape)[0, 0][away] for part in narrow.deflection(x, y)])
    truth = torch.stack(
        [part.broadcast_to(1, 1, *x.shape)[0, 0][away] for part in wide.deflection(x.double(), y.double())]
    )
    assert result.dtype == torch.float32
    error = torch.linalg.vector_norm(result.double() - truth, dim=0)
    size = torch.linalg.vector_norm(truth, dim=0) + (0.1 if name == "Subhaloes" else 1e-30)  # two haloes may cancel
    assert (error / size).max() < 2e-5


@pytest.mark.parametrize("name", PROFILES)
def test_many_images_are_each_of_them_alone(name: str) -> None:
    numbers = torch.rand(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axis = torch.linspace(-2, 2, 17)
    x, y = axis[None, :], axis[:, None]
    together = [part.broadcast_to(5, 1, 17, 17) for part in single(make(name, numbers)).deflection(x, y)]
    for image in range(5):
        alone = single(make(name, numbers[:, image])).deflection(x, y)
        for one, every in zip(alone, together, strict=True):
            assert torch.equal(one.broadcast_to(1, 1, 17, 17)[0], every[image])


@pytest.mark.parametrize("e", [0.0, 1e-9, 0.1, 0.5, 0.6])
def test_an_epl_of_slope_two_is_the_sie(e: float) -> None:
    x, y = (values.detach() for values in points(7))
    epl, sie = EPL(1.3, 2.0, 0.6 * e, -0.8 * e, 0.1, 0.2), SIE(1.3, 0.6 * e, -0.8 * e, 0.1, 0.2)
    torch.testing.assert_close(epl.deflection(x, y), sie.deflection(x, y), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(epl.convergence(x, y), sie.convergence(x, y), rtol=1e-13, atol=0)


@given(slope=st.floats(1.1, 2.9), radius=st.floats(0.01, 5))
def test_a_round_epl_is_the_power_law_of_its_slope(slope: float, radius: float) -> None:
    x, zero = torch.tensor([[radius]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    alpha_x, _ = EPL(1.3, slope).deflection(x, zero)
    assert alpha_x.item() == pytest.approx(1.3 * (radius / 1.3) ** (2 - slope), rel=1e-13)


def test_a_far_truncation_is_none() -> None:
    x, y = (values.detach() for values in points(8))
    whole, far = NFW(0.4, 0.2, 0.1, 0.0), TNFW(0.4, 0.2, 1e9, 0.1, 0.0)
    # what is left is of order (R / r_trunc) ~ 1e-9
    torch.testing.assert_close(far.deflection(x, y), whole.deflection(x, y), rtol=1e-8, atol=0)
    torch.testing.assert_close(far.convergence(x, y), whole.convergence(x, y), rtol=1e-8, atol=0)
