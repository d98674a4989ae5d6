"""Counter-based random numbers: each a function of what it is drawn for, not of when or where it is drawn.

A draw is a hash of (seed, epoch, sample, number of the draw), so that the number of workers, ranks or devices, and where a
run was interrupted, change nothing. The hash is SplitMix64's (Steele et al. 2014), on torch's int64, which wraps around.
"""

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["draws", "generator", "high", "low", "mix", "splitmix64", "words"]

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """One 63-bit key from several integers; their order matters.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0)
    (True, False)
    """
    state = 0
    for number in numbers:
        state = ((state ^ (number & _WORD)) + _GOLDEN) & _WORD
        state = ((state ^ (state >> 30)) * _FIRST) & _WORD
        state = ((state ^ (state >> 27)) * _SECOND) & _WORD
        state ^= state >> 31
    return state >> 1


def generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for one purpose, keyed by integers such as (seed, epoch, step, purpose)."""
    return torch.Generator(device).manual_seed(mix(*numbers))


def splitmix64(counters: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """One step of SplitMix64 on every element: a bijection of 64 bits. Five passes over the tensor.

    >>> hex(splitmix64(torch.zeros(1, dtype=torch.int64)).item() & (2**64 - 1))
    '0xe220a8397b1dcdaf'
    """
    x = counters + _signed(_GOLDEN)
    x ^= _shifted(x, 30)
    x *= _signed(_FIRST)
    x ^= _shifted(x, 27)
    x *= _signed(_SECOND)
    x ^= _shifted(x, 31)
    return x


def words(key: int, samples: Int[Tensor, "*b"], places: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """64 random bits for each (sample, place); the two broadcast, and the bits depend on nothing beside them and the key."""
    return splitmix64(splitmix64(samples ^ key) + (places + 1) * _signed(_GOLDEN))


def high(bits: Int[Tensor, "*b"], bound: int | Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """A number uniform in ``[0, bound)`` of the upper 32 of 64 random bits; ``bound`` broadcasts and is below 2^31."""
    return (_shifted(bits, 32) * bound) >> 32


def low(bits: Int[Tensor, "*b"], bound: int | Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """The same of the lower 32 bits, independent of what the upper ones give."""
    return ((bits & 0xFFFFFFFF) * bound) >> 32


def draws(key: int, samples: Int[Tensor, "*b"], n: int, bound: int | Int[Tensor, "*b"]) -> Int[Tensor, "*b n"]:
    """``n`` integers uniform in ``[0, bound)`` for each sample; ``bound`` may differ by sample and is below 2^31.

    A sample's draws depend on the key and the sample alone. By multiplication instead of a remainder; no value's
    probability is off by more than 2^-32.

    >>> draws(7, torch.tensor([3, 5]), 4, 10).equal(torch.cat([draws(7, torch.tensor([i]), 4, 10) for i in (3, 5)]))
    True
    """
    bits = words(key, samples[..., None], torch.arange(n, device=samples.device))
    return high(bits, bound if isinstance(bound, int) else bound[..., None])


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right: torch's own keeps the sign."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
