"""Water hammer: the pressure wave of a flow that is stopped at once. Waves are not followed through a network."""

from __future__ import annotations

import numpy as np

from simulators.curves import DENSITY, Values
from simulators.noise import Floats

_BULK = 2.18e9
"""Pa, bulk modulus of water at 20 °C."""
STEEL, DUCTILE_IRON, PVC = 2.1e11, 1.7e11, 3.0e9
"""Pa, Young's moduli of pipe walls."""


def wave_speed(diameter: Values, wall: Values, modulus: Values) -> Floats:
    """m/s in a pipe; diameter and wall in the same unit: a = √(K/ρ) / √(1 + K·D/(E·e)) (Korteweg 1878)."""
    return np.asarray(np.sqrt(_BULK / DENSITY) / np.sqrt(1.0 + _BULK * np.asarray(diameter) / (modulus * wall)))


def surge(velocity: Values, speed: Values) -> Floats:
    """bar above (and, reflected, below) the pressure before, where water of this velocity (m/s) is stopped: ρ·a·Δv.

    Joukowsky 1898; for a stop within the time that the wave needs to the other end and back.
    """
    return np.asarray(DENSITY * np.asarray(speed) * velocity / 1e5)


def surge_of_closure(velocity: Values, speed: Values, length: Values, seconds: Values) -> Floats:
    """bar of a stop that takes `seconds` in a pipe of `length` m: Joukowsky's for 2·L/a at the most, beyond it the
    smaller one of a rigid column, ρ·L·Δv/T doubled (Michaud 1878)."""
    reflection = 2.0 * np.asarray(length) / speed
    return np.asarray(surge(velocity, speed) * np.minimum(1.0, reflection / np.maximum(seconds, 1e-9)))
