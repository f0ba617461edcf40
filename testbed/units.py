"""Quantities with units, read from the words people write in a scenario.

``"20 ms"``, ``"100 Mbit/s"``, ``"500 m"``, ``"300 MB"`` and ``"1 %"`` become plain floats in SI
units (seconds, bits per second, metres, bytes, share), so that nobody downstream sees a string.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from testbed.errors import UnitError

_NUMBER = re.compile(r"^\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")

DURATION_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
RATE_BPS = {"bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}
LENGTH_M = {"m": 1.0, "km": 1e3}
SPEED_MPS = {"m/s": 1.0, "km/h": 1 / 3.6}
SIZE_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SHARE = {"%": 0.01}


def parse_quantity(value: object, units: dict[str, float], kind: str) -> float:
    """Turn ``value`` into a float in the base unit of ``units``.

    Parameters
    ----------
    value : object
        A text such as ``"20 ms"``; a bare 0 needs no unit.
    units : dict of str to float
        Accepted units and what one of each is worth in the base unit.
    kind : str
        What is being read, for the message: ``"duration"``, ``"rate"``.

    Raises
    ------
    UnitError
        If there is no number, no unit or an unknown one.
    """
    known = ", ".join(units)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError(f"{value!r} is not a {kind}; write a number and one of: {known}")
    match = _NUMBER.match(str(value))
    if match is None:
        raise UnitError(f"{value!r} is not a {kind}; write a number and one of: {known}")
    number, unit = float(match[1]), match[2]
    if unit in units:
        return number * units[unit]
    if not unit and number == 0:
        return 0.0
    if not unit:
        raise UnitError(f"{value!r} has no unit; a {kind} needs one of: {known}")
    raise UnitError(f"{unit!r} is not a unit of {kind}; use one of: {known}")


def _reader(units: dict[str, float], kind: str) -> BeforeValidator:
    return BeforeValidator(lambda value: parse_quantity(value, units, kind))


def _writer(unit: str) -> PlainSerializer:
    """Write a quantity as a file may say it, so that it can be read again."""
    return PlainSerializer(lambda value: f"{value!r} {unit}", return_type=str)


def _share(value: Any) -> Any:
    return parse_quantity(value, SHARE, "share") if isinstance(value, str) else value


Duration = Annotated[float, _reader(DURATION_S, "duration"), _writer("s"), Field(ge=0)]
Rate = Annotated[float, _reader(RATE_BPS, "rate"), _writer("bit/s"), Field(gt=0)]
Length = Annotated[float, _reader(LENGTH_M, "length"), _writer("m"), Field(gt=0)]
Speed = Annotated[float, _reader(SPEED_MPS, "speed"), _writer("m/s"), Field(gt=0)]
Size = Annotated[float, _reader(SIZE_BYTES, "size"), _writer("B"), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
