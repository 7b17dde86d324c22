"""How detectors that learn by steps do so: one loop, one optimiser, randomness that is the seed's alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deeplense.core.console import note
from deeplense.core.errors import Diverged
from deeplense.core.optimizers import build_optimizer, learning_rate_factor
from deeplense.core.seeding import own_randomness
from deeplense.data.transforms import Images
from deeplense.detectors.detector import Effort, Normals

WEIGHT_DECAY = 0.01
MAX_GRADIENT = 1.0  # norm: the few images with a huge loss (very bright ones) must not throw the weights about


def renew(network: nn.Module, seed: int) -> None:
    """Draw new initial weights, which depend on the seed alone.

    A module that holds parameters of its own has to have a method `reset_parameters`, as torch's layers do; they are
    drawn on the CPU, so that every device starts from the same.
    """
    device = next(network.parameters()).device
    network.cpu()
    with own_randomness(seed, "weights"):
        for module in network.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                raise TypeError(f"{type(module).__name__} has parameters and no reset_parameters")
    network.to(device)


def learn(network: nn.Module, loss: Callable[[Images], Tensor], normals: Normals, effort: Effort, what: str) -> None:
    """Lower a loss by AdamW, one cycle of the learning rate over all passes; leaves the network ready to evaluate.

    It goes on from the weights that are there: `renew` makes them the seed's.

    Parameters
    ----------
    network
        What learns, all parameters that the loss depends on; it is moved to the device of the images.
    loss
        Images in, a number out; called in training mode, it may draw from torch's random stream.
    normals
        The images.
    effort
        Passes, images per step, peak learning rate, seed.
    what
        Name of what learns, for the notes.

    Raises
    ------
    Diverged
        When the loss is not finite.
    """
    network.to(normals.device).to(memory_format=torch.channels_last)  # convolutions are faster so, also on the CPU
    optimizer = build_optimizer("adamw", network, effort.lr, WEIGHT_DECAY)
    n_steps = effort.epochs * (len(normals) // min(effort.batch_size, len(normals)))
    step = 0
    network.train()
    with own_randomness(effort.seed, what), torch.enable_grad():
        for epoch in range(effort.epochs):
            begin, losses = time.monotonic(), []
            for images in normals.shuffled(effort.batch_size, effort.seed, epoch):
                for group in optimizer.param_groups:
                    group["lr"] = effort.lr * learning_rate_factor("one_cycle", (step + 0.5) / n_steps)
                losses.append(_step(network, loss, images, optimizer))
                step += 1
            mean = float(torch.stack(losses).mean())
            _check(mean, what, epoch)
            note(f"{what}: epoch {epoch + 1:>3}/{effort.epochs}  loss {mean:.4f}  {time.monotonic() - begin:.1f} s")
    network.eval()
    network.to(memory_format=torch.contiguous_format)  # the form in which weights are stored


def _step(
    network: nn.Module, loss: Callable[[Images], Tensor], images: Images, optimizer: torch.optim.Optimizer
) -> Tensor:
    """Return the loss before one step of the optimiser."""
    optimizer.zero_grad(set_to_none=True)
    value = loss(images.contiguous(memory_format=torch.channels_last))
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
    optimizer.step()
    return value.detach()


def _check(loss: float, what: str, epoch: int) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss of {what} in epoch {epoch + 1} is {loss}",
            "a finite loss",
            "lower --lr, or choose another --normalise",
        )
