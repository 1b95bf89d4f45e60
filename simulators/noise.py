"""Random numbers that are a pure function of (seed, stream, index): the same sample has the same noise in every run and
in every time range, without a generator whose state would have to be carried along.

The mixing function is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from devices.model import Instant

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, stream: str, index: Integers) -> Floats:
    """Numbers in (0, 1), one an index."""
    with np.errstate(over="ignore"):
        mixed = (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN + np.uint64(_key(seed, stream))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def normal(seed: int, stream: str, index: Integers) -> Floats:
    """Standard normal numbers, one an index (Box and Muller)."""
    radius = np.sqrt(-2.0 * np.log(uniform(seed, stream + "/radius", index)))
    return radius * np.cos(2.0 * np.pi * uniform(seed, stream + "/angle", index))


def drift(seed: int, stream: str, times: Integers, interval: Instant) -> Floats:
    """A smooth random curve about 0, within some ±2: normal knots every `interval`, joined by a smooth step."""
    knot, rest = np.divmod(times, interval)
    share = rest / interval
    share = share * share * (3.0 - 2.0 * share)
    return normal(seed, stream, knot) * (1.0 - share) + normal(seed, stream, knot + 1) * share


def choice(seed: int, stream: str, low: float, high: float) -> float:
    """One number in [low, high), for properties that are drawn once."""
    return low + (high - low) * float(uniform(seed, stream, np.zeros(1, np.int64))[0])


@lru_cache(maxsize=4096)
def _key(seed: int, stream: str) -> int:
    return int.from_bytes(blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest())
