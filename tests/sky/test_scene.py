"""Ray shooting."""

from __future__ import annotations

import torch

from deeplense.sky.light import Sersic
from deeplense.sky.mass import SIE, Shear
from deeplense.sky.scene import Scene

AXIS = torch.linspace(-2, 2, 20, dtype=torch.float64)
X, Y = AXIS[None, :], AXIS[:, None]
SOURCE = Sersic(1.0, 0.25, center_x=0.1)


def test_the_lens_equation_subtracts_every_deflection_scaled() -> None:
    lens, shear = SIE(1.1, 0.1, 0.05), Shear(0.03, 0.02)
    beta_x, beta_y = Scene((lens, shear), (SOURCE,), 0.6).shoot(X, Y)
    (lens_x, lens_y), (shear_x, shear_y) = lens.deflection(X, Y), shear.deflection(X, Y)
    torch.testing.assert_close(beta_x, X - 0.6 * (lens_x + shear_x), rtol=0, atol=1e-14)
    torch.testing.assert_close(beta_y, Y - 0.6 * (lens_y + shear_y), rtol=0, atol=1e-14)


def test_the_image_is_the_source_seen_at_the_source_plane() -> None:
    scene = Scene((SIE(1.1, 0.1, 0.05),), (SOURCE,))
    torch.testing.assert_close(scene.surface_brightness(X, Y), SOURCE.surface_brightness(*scene.shoot(X, Y)))


def test_a_centred_source_behind_a_round_lens_is_a_ring() -> None:
    scene = Scene((SIE(1.0),), (Sersic(1.0, 0.1),))
    radius = torch.tensor([[0.5, 0.9, 1.0, 1.1, 1.5]], dtype=torch.float64)
    brightness = scene.surface_brightness(radius, torch.zeros(1, 1, dtype=torch.float64))[0]
    assert brightness.argmax() == 2
    torch.testing.assert_close(brightness[1], brightness[3], msg="the ring is not symmetric about theta_E")


def test_sources_add_up() -> None:
    other = Sersic(2.0, 0.1, center_y=-0.2)
    both, first, second = (
        Scene((SIE(1.1),), sources).surface_brightness(X, Y) for sources in ((SOURCE, other), (SOURCE,), (other,))
    )
    torch.testing.assert_close(both, first + second, rtol=1e-14, atol=0)


def test_the_foreground_is_not_lensed() -> None:
    galaxy = Sersic(3.0, 0.4, 4.0, 0.1, 0.0, 0.1, 0.2)
    scene = Scene((SIE(1.1),), (SOURCE,), 0.7, (galaxy, galaxy))
    bare = Scene((SIE(1.1),), (SOURCE,), 0.7)
    torch.testing.assert_close(
        scene.surface_brightness(X, Y), bare.surface_brightness(X, Y) + 2 * galaxy.surface_brightness(X, Y)
    )
    alone = Scene((), (), foreground=(galaxy,))
    assert torch.equal(alone.surface_brightness(X, Y), galaxy.surface_brightness(X, Y))


def test_no_mass_deflects_nothing_and_no_light_is_dark() -> None:
    assert torch.equal(Scene((), (SOURCE,)).surface_brightness(X, Y), SOURCE.surface_brightness(X + 0 * Y, Y + 0 * X))
    assert not Scene((SIE(1.0),), ()).surface_brightness(X, Y).any()
