"""Unit conversion to canonical units, as a factor and an offset worked out once, when a profile is loaded.

The texts devices use are those of SenML (RFC 8428 and RFC 8798) and the ones engineers write (Pint's own); both are
mapped to Pint, which knows dimensions and offsets. Nothing here runs per reading.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import pint

# SenML unit symbols whose meaning differs from Pint's reading of the same text ("A", "V", "S" mean the same in both:
# only what needs help is listed). RFC 8428 section 12.1, RFC 8798 section 2.
_SENML = {
    "Cel": "degC",
    "lat": "deg",
    "lon": "deg",
    "/": "dimensionless",
    "%": "percent",
    "/100": "percent",
    "/1000": "permille",
    "%RH": "percent",
    "%EL": "percent",
    "EL": "second",
    "1/s": "1/second",
    "1/min": "1/minute",
    "count": "dimensionless",
    "1": "dimensionless",
    "beat/min": "1/minute",
    "Ohm": "ohm",
    "kOhm": "kiloohm",
    "MOhm": "megaohm",
    "MHz": "megahertz",
    "kvar": "kilovolt*ampere",
    "kvarh": "kilovolt*ampere*hour",
    "varh": "volt*ampere*hour",
    "VAs": "volt*ampere*second",
    "VAh": "volt*ampere*hour",
    "kVAh": "kilovolt*ampere*hour",
    "S/m": "siemens/meter",
    "W/m2": "watt/meter**2",
    "kg/m3": "kilogram/meter**3",
    "ug/m3": "microgram/meter**3",
    "m2": "meter**2",
    "J/m": "joule/meter",
    "Wh/km": "watt*hour/kilometer",
    "mm/h": "millimeter/hour",
    "m/h": "meter/hour",
    "km/h": "kilometer/hour",
    "ppm": "ppm",
    "beats": "dimensionless",
    "deg": "degree",
    "l": "liter",
    "l/s": "liter/second",
    "l/h": "liter/hour",
    "m3": "meter**3",
    "m3/s": "meter**3/second",
    "m3/h": "meter**3/hour",
    "m/s2": "meter/second**2",
    "mm/s": "millimeter/second",
    "g": "gram",
    "rpm": "1/minute",
    "r/min": "1/minute",
    "min": "minute",
    "h": "hour",
    "C": "coulomb",
    "VA": "volt*ampere",
    "var": "volt*ampere",
    "vars": "volt*ampere*second",
    "Ah": "ampere*hour",
    "kVA": "kilovolt*ampere",
    "N*m": "newton*meter",
    "Nm": "newton*meter",
}
# Logarithmic levels are compared in their own unit only: a conversion between dBm and W would hide a mistake.
_LEVELS = {"dB", "dBm", "dBW"}
# Canonical texts that mean something else for the same letters: vibration in g is standard gravity, not gram.
_CANONICAL = {"g": "standard_gravity", "rpm": "1/minute"}


# What engineers write beside the SenML symbols; a text outside both lists is a mismatch, never a look-up in Pint at run
# time: parsing an unknown text takes milliseconds, which a hostile sender could spend for us.
_ENGINEERING = (
    "bar", "mbar", "Pa", "hPa", "kPa", "MPa", "psi", "degC", "degF", "K", "L/s", "L/min", "L/h", "m3/min", "mL", "L",
    "mm", "cm", "m", "km", "ft", "m/s", "V", "mV", "kV", "A", "mA", "W", "kW", "MW", "J", "kJ", "Wh", "kWh", "MWh", "s",
    "ms", "d", "Hz", "percent", "dimensionless", "kg", "Cel", "degree", "rad", "kN*m", "standard_gravity",
)  # fmt: skip


class UnitMismatchError(ValueError):
    """The unit is unknown, or is of another dimension than the metric."""


class Conversion(NamedTuple):
    """value in canonical unit = value * factor / divisor + offset.

    One of factor and divisor is 1. Dividing by 100,000 rounds once and gives 4.1 bar for 410,000 Pa; multiplying by
    0.00001 rounds twice and gives 4.1000000000000005.
    """

    factor: float
    divisor: float
    offset: float

    def convert(self, value: float) -> float:
        """A value in the canonical unit."""
        return value * self.factor / self.divisor + self.offset

    def back(self, canonical: float) -> float:
        """The way back: a canonical value in the device's unit."""
        return (canonical - self.offset) * self.divisor / self.factor


IDENTITY = Conversion(1.0, 1.0, 0.0)


@lru_cache(maxsize=1)
def _registry() -> pint.UnitRegistry[float]:
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=None)


@lru_cache(maxsize=256)
def accepted(canonical: str) -> dict[str | None, Conversion]:
    """Every unit text that converts to `canonical`, with its conversion: what a profile compiles in.

    A record without a unit is in the canonical one.
    """
    known: dict[str | None, Conversion] = {None: IDENTITY, canonical: IDENTITY}
    for text in (*_SENML, *_ENGINEERING, *_LEVELS):
        try:
            known.setdefault(text, conversion(text, canonical))
        except UnitMismatchError:
            continue
    return known


def conversion(unit: str | None, canonical: str) -> Conversion:
    """The conversion from a device's unit text to a metric's canonical unit.

    No unit means the canonical one. Raises `UnitMismatchError` with both units where none exists.
    """
    if unit is None or unit == canonical:
        return IDENTITY
    if unit in _LEVELS or canonical in _LEVELS:
        raise UnitMismatchError(f"{unit!r} cannot be converted to {canonical!r}")
    registry = _registry()
    try:
        source = registry.Unit(_SENML.get(unit, unit))
        target = registry.Unit(_CANONICAL.get(canonical) or _SENML.get(canonical, canonical))
        zero = registry.Quantity(0.0, source).to(target).magnitude
        one = registry.Quantity(1.0, source).to(target).magnitude
        thousand = registry.Quantity(1000.0, source).to(target).magnitude
    except Exception as error:  # Pint raises a dozen unrelated classes for a bad unit text
        raise UnitMismatchError(f"{unit!r} cannot be converted to {canonical!r}") from error
    # The wide interval keeps the factor exact to the last digits in spite of an offset such as 273.15.
    factor = (thousand - zero) / 1000.0 if zero else one
    if 0 < abs(factor) < 1:
        return Conversion(1.0, _round(1 / factor), _round(zero))
    return Conversion(_round(factor), 1.0, _round(zero))


def _round(number: float) -> float:
    """Drop the last two digits, which are Pint's rounding on the way and would show in stored values."""
    return float(f"{number:.14g}")
