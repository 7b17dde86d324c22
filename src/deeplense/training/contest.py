"""Learning against an opponent that tells made images from real ones, and turns both ways: its steps, and a guard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deeplense.core.seeding import own_randomness
from deeplense.upscalers.discriminator import PatchDiscriminator, generator_loss, opponent_loss, steepness
from deeplense.upscalers.upscaler import Fine

BETAS = (0.0, 0.99)  # no momentum: what is real moves with every step of the other
EVERY = 4  # steps of which one has the penalty, so many times as strong: it costs as much as the step itself


@dataclass
class Contest:
    """An opponent and its optimiser.

    Parameters
    ----------
    channels
        Bands of the images.
    weight
        Of what the network loses to it, beside its own loss.
    penalty
        Weight of the squared slope of the opponent at real images (R1).
    lr
        Learning rate of the opponent.
    unit
        Pixel value at which the stretch that it sees images in turns from linear to logarithmic: of the noise's size.
    seed
        Of its first weights.

    Attributes
    ----------
    opponent
        The discriminator.
    """

    channels: int
    weight: float
    penalty: float
    lr: float
    unit: float
    seed: int
    opponent: PatchDiscriminator = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Take a new opponent, that has learnt nothing."""
        with own_randomness(self.seed, "opponent"):
            self.opponent = PatchDiscriminator(self.channels)
        self.optimizer = torch.optim.Adam(self.opponent.parameters(), self.lr, BETAS)
        self.steps = 0

    def to(self, device: torch.device) -> None:
        """Bring the opponent to where the network is."""
        self.opponent.to(device)

    def learn(self, made: Fine, real: Fine) -> None:
        """Let the opponent learn to tell these images apart."""
        self.opponent.train().requires_grad_(True)
        made, real = self._seen(made.detach()), self._seen(real)
        loss = opponent_loss(self.opponent(real), self.opponent(made))
        if self.steps % EVERY == 0:
            loss = loss + EVERY * self.penalty * steepness(self.opponent, real)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1

    def lost(self, made: Fine, real: Fine) -> Tensor:
        """Return what the network loses to the opponent as it is, weighted."""
        self.opponent.requires_grad_(False)
        return self.weight * generator_loss(self.opponent(self._seen(real)), self.opponent(self._seen(made)))

    def _seen(self, images: Fine) -> Fine:
        return torch.asinh(images / self.unit)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed contest needs."""
        return {"opponent": self.opponent.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a stored state."""
        self.opponent.load_state_dict(state["opponent"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
