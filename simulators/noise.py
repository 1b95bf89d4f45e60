"""Noise that is a pure function of (seed, stream, time): any part of a day comes out the same, however it is cut."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
"""Instants: microseconds since 1970."""


def uniform(seed: int, stream: str, times: Times) -> Array:
    """Numbers in (0, 1), independent from instant to instant (SplitMix64 of the instant)."""
    with np.errstate(over="ignore"):
        key = np.uint64(seed * 0x9E3779B97F4A7C15 + zlib.crc32(stream.encode()) * 0xD1B54A32D192ED03 & (1 << 64) - 1)
        x = times.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x.astype(np.float64) + 0.5) / 2.0**64


def normal(seed: int, stream: str, times: Times) -> Array:
    """Standard normal numbers (Box and Muller 1958)."""
    u = uniform(seed, stream + "/u", times)
    v = uniform(seed, stream + "/v", times)
    result: Array = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    return result
