"""Narrow an optional value that a test knows to be there."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """Return *value*; fail the test where it is None."""
    assert value is not None
    return value
