"""Vibration of a pump set: lines of its spectrum, and the RMS velocity that a sensor on the bearing housing shows.

Amplitudes are peaks in mm/s, frequencies Hz. Sizes of lines are ours, inside what ISO 10816-7's zones mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulators.curves import Values
from simulators.noise import Floats

LOWEST, HIGHEST = 10.0, 1000.0
"""Hz, the band of ISO 10816-7 for pumps from 600 1/min on."""
_BLADES = 6
_BALLS, _BALL_OVER_PITCH = 9, 0.2
"""Of an ordinary deep-groove bearing; contact angle zero."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a spectrum, or a band that is as strong as such a line."""

    frequency: Floats
    amplitude: Floats


def rms(lines: Sequence[Line]) -> Floats:
    """mm/s RMS of the lines within the band: √(Σ a²/2) (Parseval)."""
    total: Floats = np.zeros_like(lines[0].amplitude)
    for line in lines:
        heard = (line.frequency >= LOWEST) & (line.frequency <= HIGHEST)
        total = total + np.where(heard, np.square(line.amplitude) / 2.0, 0.0)
    return np.sqrt(total)


def outer_race(shaft: Values) -> Floats:
    """Hz at which balls pass a defect of the outer ring: BPFO = z/2 · f · (1 - d/D·cos α), for a shaft of f Hz."""
    return np.asarray(_BALLS / 2.0 * np.asarray(shaft) * (1.0 - _BALL_OVER_PITCH))


def spectrum(
    shaft: Floats, speed: Floats, balance: Floats, off_design: Floats, misaligned: Floats, worn: Floats, boiling: Floats
) -> list[Line]:
    """The lines of a running set.

    `shaft` in Hz, `speed` its fraction of the rated one; `balance` is the RMS of a healthy set at rated speed in mm/s,
    `off_design` the squared distance from the best efficiency flow (0 at it), and `misaligned`, `worn` (bearing) and
    `boiling` (cavitation) are severities of 0 to 1.

    Unbalance sits at 1×; misalignment of the shafts at 2× with a share at 1×; blades pass at 6×, stronger off design;
    a defect of the outer ring at BPFO; cavitation is noise above 300 Hz (practice of vibration analysis, ISO 13373-3).
    """
    peak = np.sqrt(2.0)
    return [
        Line(shaft, peak * balance * speed + 4.0 * misaligned * speed),
        Line(2.0 * shaft, 9.0 * misaligned * speed),
        Line(_BLADES * shaft, peak * balance * speed * np.sqrt(2.8 * off_design)),
        Line(outer_race(shaft), peak * 9.0 * worn * speed),
        Line(np.full_like(shaft, 600.0), peak * 7.5 * boiling),
    ]
