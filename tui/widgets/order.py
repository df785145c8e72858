"""In which order a table's cells are sorted: by the values that people read in them.

A table is given what its cells say, "3.1M/s" or "1m40s", not where that came from. So that it needs nothing
else to sort by, numbers are read back out of what `tui.symbols` wrote.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?P<sign>[▲▼+-]?)[<>]?(?P<value>\d*\.?\d+)(?P<unit>ms|[A-Za-z]?)(?P<rest>\d{0,3})")

_UNITS = {
    "ms": 1e-3,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "k": 1e3,
    "K": 1024.0,
    "M": 1024.0**2,
    "G": 1024.0**3,
    "T": 1024.0**4,
}
"""What a unit stands for; those that are missing, seconds, bytes and percents, for one."""

_SMALLER = {"m": 1.0, "h": 60.0, "d": 3600.0}
"""Seconds that the second number of a duration counts, by the unit of the first: "1m40s" is 1 m and 40 s."""


def by_value(text: str) -> tuple[int, float, str]:
    """Return what a cell with a number is sorted by: the largest first, and those without one last."""
    if text == "=":  # a change of nothing
        return 0, 0.0, ""
    found = _NUMBER.match(text.strip())
    if found is None:
        return 1, 0.0, text.casefold()
    unit = found["unit"]
    value = float(found["value"]) * _UNITS.get(unit, 1.0) + int(found["rest"] or 0) * _SMALLER.get(unit, 0.0)
    return 0, value if found["sign"] in ("▼", "-") else -value, ""


def by_word(text: str) -> tuple[int, float, str]:
    """Return what a cell with words is sorted by: the alphabet."""
    return 0, 0.0, text.strip().casefold()
