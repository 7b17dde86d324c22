"""How detectors that learn by steps do so: one loop, one optimiser, randomness that is the seed's alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deeplense.core.console import note
from deeplense.core.errors import DeepLenseError
from deeplense.core.seeding import stable_key
from deeplense.data.transforms import Images
from deeplense.detectors.detector import Effort, Normals

WARM_UP, START = 0.25, 0.04  # of all steps; of the peak learning rate
WEIGHT_DECAY = 0.01
MAX_GRADIENT = 1.0  # norm: the few images with a huge loss (very bright ones) must not throw the weights about


class Diverged(DeepLenseError):
    """The loss of a detector is no longer a number."""


@contextmanager
def own_randomness(seed: int, what: str) -> Iterator[None]:
    """Within it torch's random numbers depend on the seed and `what` alone; afterwards its streams go on as before.

    Parameters
    ----------
    seed
        Of the detector.
    what
        What the numbers are for; other words, other numbers.
    """
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if used else []):
        torch.manual_seed(stable_key(seed, what) % 2**63)
        yield


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
    optimizer = torch.optim.AdamW(_groups(network), effort.lr)
    n_steps = effort.epochs * (len(normals) // min(effort.batch_size, len(normals)))
    step = 0
    network.train()
    with own_randomness(effort.seed, what), torch.enable_grad():
        for epoch in range(effort.epochs):
            begin, losses = time.monotonic(), []
            for images in normals.shuffled(effort.batch_size, effort.seed, epoch):
                for group in optimizer.param_groups:
                    group["lr"] = effort.lr * rate_factor((step + 0.5) / n_steps)
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


def rate_factor(progress: float) -> float:
    """Return the factor on the peak learning rate after a fraction of all steps: up for a quarter, then down to 0."""
    if progress < WARM_UP:
        return START + (1 - START) * progress / WARM_UP
    return (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP)))) / 2


def _groups(network: nn.Module) -> list[dict[str, object]]:
    """Return what learns in two groups: weights decay, norms and biases do not."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _check(loss: float, what: str, epoch: int) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss of {what} in epoch {epoch + 1} is {loss}",
            "a finite loss",
            "lower --lr, or choose another --normalise",
        )
