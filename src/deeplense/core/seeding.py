"""Randomness that belongs to an image, not to a process: numbers that are a function of (seed, image, purpose) alone.

Philox4x32-10 (Salmon et al. 2011, SC11, "Parallel random numbers: as easy as 1, 2, 3") turns a counter and a key into
four 32-bit words. It is written in tensor operations, so that a batch is one call, on any device, compiled or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

WORD, MASK = 32, (1 << 32) - 1
MULTIPLIERS, WEYL, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10
Words = tuple[Tensor, Tensor, Tensor, Tensor]


def stable_key(*words: str | int) -> int:
    """Return a 64-bit integer that depends on the words alone, in any process and on any machine."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


@contextmanager
def own_randomness(seed: int, what: str) -> Iterator[None]:
    """Within it torch's random numbers depend on the seed and `what` alone; afterwards its streams go on as before.

    Parameters
    ----------
    seed
        Of what is made or learnt.
    what
        What the numbers are for; other words, other numbers.
    """
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if used else []):
        torch.manual_seed(stable_key(seed, what) % 2**63)
        yield


@dataclass(frozen=True)
class Streams:
    """The random streams of a batch of images.

    Parameters
    ----------
    key
        Two 32-bit words that name the population each image belongs to (its seed, split and class).
    number
        Number of each image in its population.
    """

    key: Int64[Tensor, "B 2"]
    number: Int64[Tensor, " B"]

    @classmethod
    def of(cls, keys: Sequence[int], numbers: Sequence[int], device: torch.device | str = "cpu") -> Streams:
        """Return the streams of 64-bit keys and image numbers."""
        words = [(key & MASK, key >> WORD & MASK) for key in keys]
        return cls(
            torch.tensor(words, dtype=torch.int64, device=device).reshape(len(words), 2),
            torch.tensor(numbers, dtype=torch.int64, device=device),
        )

    def __getitem__(self, part: slice) -> Streams:
        """Return some of the streams."""
        return Streams(self.key[part], self.number[part])

    def words(self, n: int, purpose: int) -> Int64[Tensor, "B n"]:
        """Return n random 32-bit words of each image.

        Parameters
        ----------
        n
            How many. Fewer are not the first of more: the k-th word of block b comes at k ⌈n/4⌉ + b.
        purpose
            Numbers of different purposes (scene, noise) are independent.
        """
        block = torch.arange(-(-n // 4), device=self.number.device)[None, :]
        number = self.number[:, None]
        counter = (block + 0 * number, torch.full_like(number, purpose), number & MASK, number >> WORD)
        return torch.cat(philox(counter, (self.key[:, :1], self.key[:, 1:])), dim=1)[:, :n]

    def uniforms(self, n: int, purpose: int) -> Float64[Tensor, "B n"]:
        """Return n numbers of each image, uniform in [0, 1), of 53 random bits; fewer are the first of more."""
        if n == 0:
            return torch.empty(len(self.number), 0, dtype=torch.float64)
        words = self.words(4 * n, purpose)
        high, low = words[:, :n], words[:, n : 2 * n]
        return ((high << 21 | low >> 11).double() * 2.0**-53).cpu()


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Return four random 32-bit words, each in an int64, of a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # the low 64 bits are right, whatever their sign
        c0, c1 = (product1 >> WORD & MASK) ^ c1 ^ k0, product1 & MASK
        c2, c3 = (product0 >> WORD & MASK) ^ c3 ^ k1, product0 & MASK
        k0, k1 = k0 + WEYL[0] & MASK, k1 + WEYL[1] & MASK
    return c0, c1, c2, c3


def normal_quantile(word: Int64[Tensor, ...], dtype: torch.dtype) -> Float[Tensor, ...]:
    """Return the standard normal number of a random 32-bit word: the quantile of (word + ½) / 2³², at most 6.3 σ.

    Right to 1e-6. The inverse error function is x times a polynomial of −log(1 − x²), or of its root in the tails
    (the variables are those of Giles 2010, GPU Computing Gems 2, ch. 10; the coefficients are our own fit).
    """
    upper = word >> (WORD - 1)
    tail = ((word ^ (upper * MASK)).to(dtype) + 0.5) * 2.0**-WORD  # the smaller of u and 1 − u, exact near 0
    log = -torch.log(4 * tail * (1 - tail))
    ratio = torch.where(log < 5, _polynomial(log - 2.5, CENTRAL), _polynomial(torch.sqrt(log.clamp(min=0)) - 3, TAIL))
    return (2 * upper - 1).to(dtype) * (1 - 2 * tail) * ratio * 2**0.5


CENTRAL = (
    2.79895517e-08, 3.43073436e-07, -3.52223643e-06, -4.38963431e-06, 2.18577379e-04,
    -1.25372984e-03, -4.17767872e-03, 2.46640744e-01, 1.50140942e00,
)  # fmt: skip
TAIL = (
    3.59050618e-05, -1.49131028e-04, -2.60713055e-05, 1.28063256e-03, -3.56314623e-03,
    5.77374260e-03, -7.65397438e-03, 9.43237644e-03, 1.00167629e00, 2.83297713e00,
)  # fmt: skip


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total
