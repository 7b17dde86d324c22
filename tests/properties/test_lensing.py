"""What every thin lens obeys: div α = 2κ, curl α = 0, covariance under rotation; and derivatives that are true."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deeplense.instruments.instrument import Instrument
from deeplense.instruments.optics import expose
from deeplense.sky.light import Sersic
from deeplense.sky.mass import SIE, MassProfile, PointMasses, Shear
from deeplense.sky.scene import Scene
from deeplense.sky.vortex import Vortex

LIKE = torch.zeros(0, dtype=torch.float64)
CAMERA = Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=0.15)
ANGLE = st.floats(-math.pi, math.pi)
ELLIPTICITY = st.tuples(st.floats(0, 0.8), ANGLE).map(
    lambda polar: (polar[0] * math.cos(polar[1]), polar[0] * math.sin(polar[1]))
)
NEARLY_ROUND = st.tuples(st.sampled_from([0.0, 1e-300, 1e-12, 1e-7, 1e-4, 2.5e-3, 6e-3]), ANGLE).map(
    lambda polar: (polar[0] * math.cos(polar[1]), polar[0] * math.sin(polar[1]))
)
CENTRE = st.floats(-0.5, 0.5)


def points(seed: int, n: int = 200) -> tuple[Tensor, Tensor]:
    """Return random positions within 3 arcsec, [1, n] each, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    x, y = 6 * torch.rand(2, 1, n, generator=generator, dtype=torch.float64) - 3
    return x.requires_grad_(), y.requires_grad_()


def assert_is_a_lens(profile: MassProfile, seed: int) -> None:
    """Check div α = 2κ and curl α = 0 by automatic differentiation."""
    x, y = points(seed)
    alpha_x, alpha_y = profile.deflection(x, y)
    (xx, xy), (yx, yy) = (torch.autograd.grad(part.sum(), (x, y), retain_graph=True) for part in (alpha_x, alpha_y))
    size = xx.abs() + xy.abs() + yx.abs() + yy.abs() + 1e-6
    divergence = (xx + yy - 2 * profile.convergence(x, y).reshape(xx.shape)) / size
    curl = (xy - yx) / size
    assert divergence.abs().max() < 1e-8, f"div α − 2κ is {divergence.abs().max():.1e} of the gradient of α"
    assert curl.abs().max() < 1e-8, f"curl α is {curl.abs().max():.1e} of the gradient of α"


@given(theta_E=st.floats(0.1, 3), e=ELLIPTICITY | NEARLY_ROUND, x=CENTRE, y=CENTRE, seed=st.integers(0, 99))
def test_sie(theta_E: float, e: tuple[float, float], x: float, y: float, seed: int) -> None:
    assert_is_a_lens(SIE(theta_E, *e, x, y), seed)


@given(gamma1=st.floats(-0.3, 0.3), gamma2=st.floats(-0.3, 0.3), seed=st.integers(0, 99))
def test_shear(gamma1: float, gamma2: float, seed: int) -> None:
    assert_is_a_lens(Shear(gamma1, gamma2), seed)


@given(seed=st.integers(0, 9999), n=st.integers(1, 30))
def test_point_masses_away_from_the_masses(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    theta_E, x, y = torch.rand(3, 1, n, generator=generator, dtype=torch.float64)
    assert_is_a_lens(PointMasses(theta_E, 4 * x - 2, 4 * y - 2), seed)


@given(
    log_length=st.floats(-1.53, 0.48), angle=ANGLE, x=CENTRE, y=CENTRE, n=st.integers(2, 120), seed=st.integers(0, 99)
)
def test_vortex_away_from_the_beads(log_length: float, angle: float, x: float, y: float, n: int, seed: int) -> None:
    half_length, direction = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in (10**log_length, angle))
    assert_is_a_lens(Vortex(0.2, half_length, torch.cos(direction), torch.sin(direction), x, y, n), seed)


@given(log_length=st.floats(-1.53, 0.48), angle=ANGLE, seed=st.integers(0, 99))
def test_the_vortex_is_its_hundred_beads(log_length: float, angle: float, seed: int) -> None:
    x, y = (values.detach().float().double() for values in points(seed, 300))
    half_length, direction = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in (10**log_length, angle))
    line = 10**log_length * torch.linspace(-1, 1, 100, dtype=torch.float64)[None]
    beads = PointMasses(torch.full_like(line, 0.02), math.cos(angle) * line, math.sin(angle) * line)
    explicit = torch.complex(*beads.deflection(x, y))
    # in float32 a bead's position is known to 3e-7 arcsec, and the peak is the point next to a bead
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 5e-4)):
        numbers = (number.to(dtype) for number in (half_length, torch.cos(direction), torch.sin(direction)))
        closed = Vortex(0.2, *numbers).deflection(x.to(dtype), y.to(dtype))
        error = (torch.complex(*(part.double() for part in closed)) - explicit).abs().max() / explicit.abs().max()
        assert error < tolerance, f"{dtype}: {error:.1e} of peak"


@given(theta_E=st.floats(0.1, 3), e=NEARLY_ROUND, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_sie_and_its_gradients_stay_finite_towards_the_sphere(
    theta_E: float, e: tuple[float, float], dtype: torch.dtype
) -> None:
    x, y = (torch.cat([values.detach(), torch.zeros(1, 1)], 1).to(dtype) for values in points(0))
    parameters = [torch.tensor(value, dtype=dtype, requires_grad=True) for value in (theta_E, *e, 0.0, 0.0)]
    alpha_x, alpha_y = SIE(*parameters).deflection(x, y)
    assert torch.isfinite(alpha_x).all()
    assert torch.isfinite(alpha_y).all()
    gradients = torch.autograd.grad((alpha_x[:, :-1] + alpha_y[:, :-1]).sum(), parameters)
    assert all(torch.isfinite(gradient).all() for gradient in gradients), gradients


def test_a_round_sie_is_the_singular_isothermal_sphere() -> None:
    x, y = points(1)
    radius = torch.hypot(x, y)
    alpha_x, alpha_y = SIE(1.3).deflection(x, y)
    torch.testing.assert_close(alpha_x, 1.3 * x / radius, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(alpha_y, 1.3 * y / radius, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(SIE(1.3).convergence(x, y), 1.3 / (2 * radius), rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_in_e_of_a_round_sie_is_the_limit(dtype: torch.dtype) -> None:
    # central differences over e = ±1e-4 in float64; at e = 0 a formula in the position angle has none
    x, y = (values.detach() for values in points(2))
    weights = torch.sin(torch.arange(x.numel(), dtype=torch.float64))[None]

    def value(e1: Tensor | float, e2: Tensor | float, kind: torch.dtype = torch.float64) -> Tensor:
        alpha_x, alpha_y = SIE(1.2, e1, e2).deflection(x.to(kind), y.to(kind))
        return (weights.to(kind) * (alpha_x + 2 * alpha_y)).sum()

    step = 1e-4
    differences = [
        (value(step, 0.0) - value(-step, 0.0)) / (2 * step),
        (value(0.0, step) - value(0.0, -step)) / (2 * step),
    ]
    for tiny in (0.0, 1e-9, 1e-6):
        e1, e2 = (torch.tensor(tiny * s, dtype=dtype, requires_grad=True) for s in (1, -1))
        gradients = torch.autograd.grad(value(e1, e2, dtype), (e1, e2))
        for gradient, difference in zip(gradients, differences, strict=True):
            assert gradient.item() == pytest.approx(difference.item(), rel=1e-4, abs=1e-3), f"e = {tiny}"


def scene(parameters: Tensor) -> Scene:
    """Return a scene whose every number is an entry of one tensor."""
    p = [parameters[i].reshape(1, 1, 1, 1) for i in range(len(parameters))]
    masses = (SIE(p[0], p[1], p[2], p[3], p[4]), Shear(p[5], p[6]), Vortex(0.2, p[7], torch.cos(p[8]), torch.sin(p[8])))
    return Scene(masses, (Sersic(20.0, p[9], p[10], p[11], p[12], p[13], p[14]),), 0.9)


NAMES = ["theta_E", "e1", "e2", "x", "y", "gamma1", "gamma2", "L", "angle", "R", "n", "s_e1", "s_e2", "s_x", "s_y"]


@settings(max_examples=6)
@given(
    shift=st.lists(st.floats(-0.05, 0.05), min_size=len(NAMES), max_size=len(NAMES)),
    round_lens=st.booleans(),
)
def test_gradients_of_the_expected_image_are_finite_differences(shift: list[float], round_lens: bool) -> None:
    start = torch.tensor([1.2, 0.1, 0.06, 0.02, -0.03, 0.05, 0.01, 0.6, 0.8, 0.3, 1.0, -0.1, 0.1, 0.11, -0.07])
    start = (start.double() + torch.tensor(shift, dtype=torch.float64)).requires_grad_()
    if round_lens:
        start = start.detach().clone()
        start[1:3] = 0
        start.requires_grad_()
    weights = torch.cos(torch.arange(20 * 20, dtype=torch.float64)).reshape(20, 20)

    def value(parameters: Tensor) -> Tensor:
        return (weights * expose(scene(parameters), (CAMERA,), 20, LIKE)).sum()

    (gradient,) = torch.autograd.grad(value(start), start)
    step = 1e-6
    for index, name in enumerate(NAMES):
        move = torch.zeros_like(start)
        move[index] = step
        with torch.no_grad():
            difference = (value(start + move) - value(start - move)).item() / (2 * step)
        assert gradient[index].item() == pytest.approx(difference, rel=1e-4, abs=1e-4 * gradient.abs().max().item()), (
            name
        )


@pytest.mark.parametrize(
    "device", ["meta", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_the_same_code_runs_on_another_device(device: str) -> None:
    # "meta" computes nothing, but it refuses a tensor that was left behind on the CPU
    numbers = torch.tensor([1.2, 0.1, 0.06, 0.02, -0.03, 0.05, 0.01, 0.6, 0.8, 0.3, 1.0, -0.1, 0.1, 0.11, -0.07])
    halo = torch.full((1, 3), 0.2)

    def image(on: str) -> Tensor:
        smooth, halos = scene(numbers.to(on)), PointMasses(halo.to(on), halo.to(on), -halo.to(on))
        lens = Scene((*smooth.mass, halos), smooth.sources)
        return expose(lens, (CAMERA,), 24, torch.zeros(0, device=on))

    there, here = image(device), image("cpu")
    assert there.device.type == device
    assert there.shape == here.shape == (1, 1, 24, 24)
    if device != "meta":
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4 * here.max().item())


def turned(x: float, y: float, quarter_turns: int) -> tuple[float, float]:
    """Return a vector turned counter-clockwise by quarter turns."""
    for _ in range(quarter_turns):
        x, y = -y, x
    return x, y


@given(
    e=ELLIPTICITY,
    source_e=ELLIPTICITY.map(lambda e: (e[0] / 2, e[1] / 2)),
    gamma=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    lens=st.tuples(CENTRE, CENTRE),
    source=st.tuples(CENTRE, CENTRE),
    halo=st.tuples(CENTRE, CENTRE),
    angle=ANGLE,
    quarter_turns=st.integers(1, 3),
)
def test_turning_the_sky_turns_the_image(
    e: tuple[float, float],
    source_e: tuple[float, float],
    gamma: tuple[float, float],
    lens: tuple[float, float],
    source: tuple[float, float],
    halo: tuple[float, float],
    angle: float,
    quarter_turns: int,
) -> None:
    def image(k: int) -> Tensor:
        sign = (-1) ** k  # ellipticity and shear turn by twice the angle
        x, y = (torch.full((1, 1), value, dtype=torch.float64) for value in turned(*halo, k))
        half_length, direction = (
            torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (0.777, angle + k * math.pi / 2)
        )
        masses = (
            SIE(1.2, sign * e[0], sign * e[1], *turned(*lens, k)),
            Shear(sign * gamma[0], sign * gamma[1]),
            PointMasses(torch.full_like(x, 0.2), x, y),
            Vortex(0.2, half_length, torch.cos(direction), torch.sin(direction)),
        )
        light = Sersic(20.0, 0.4, 1.0, sign * source_e[0], sign * source_e[1], *turned(*source, k))
        return expose(Scene(masses, (light,)), (CAMERA,), 24, LIKE)

    # rows are y: counter-clockwise on the sky is clockwise on a printed matrix
    torch.testing.assert_close(
        image(quarter_turns), torch.rot90(image(0), -quarter_turns, (-2, -1)), rtol=1e-8, atol=1e-8
    )
