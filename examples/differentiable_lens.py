"""The simulator is differentiable: recover a source's position from a noisy image by gradient descent."""

import torch

from deeplense.instruments.optics import expose
from deeplense.recipes.draw import draw
from deeplense.recipes.recipe import Sample, load_recipe
from deeplense.sky.light import Sersic, sersic_flux
from deeplense.sky.mass import SIE, Shear
from deeplense.sky.scene import Scene


def main() -> None:
    recipe = load_recipe("model_ii")
    (instrument,) = recipe.instruments()
    drawn = draw(recipe, seed=1, samples=[Sample("test", "no_sub", 0)])
    truth = [drawn.parameters[0][name] for name in ("source_center_x", "source_center_y")]
    amplitude = instrument.electron_rate(20.0) / sersic_flux(0.25, 1.0)

    centre = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([centre], lr=0.02)
    for _ in range(200):
        source = Sersic(amplitude, 0.25, 1.0, -0.1, 0.1, centre[0], centre[1])
        scene = Scene((SIE(1.2814905676172945, 0.1), Shear(0.05)), (source,), recipe.lens.deflection_scale)
        model = expose(scene, (instrument,), recipe.n_pixels, drawn.image)
        chi2 = ((drawn.image - model) ** 2 / drawn.variance).mean()
        optimizer.zero_grad()
        chi2.backward()
        optimizer.step()
    print(f"true source centre:   {truth[0]:+.4f} {truth[1]:+.4f} arcsec")
    print(f"fitted source centre: {centre[0].item():+.4f} {centre[1].item():+.4f} arcsec")
    print(f"chi² per pixel:       {chi2.item():.3f}")


if __name__ == "__main__":
    main()
