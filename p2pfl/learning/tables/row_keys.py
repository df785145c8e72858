"""Keys of rows: 64-bit hashes of their content, which are the same wherever and beside whatever a row stands.

So the rows that a device holds out stay most of the same ones when its table gets more rows, or another order
of rows or columns. All steps work on whole columns, since a table may have millions of rows.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""[rows]"""

MISSING = np.uint64(0x9E3779B97F4A7C15)
"""Key of a cell without a value."""


def text_key(text: str) -> int:
    """Return the key of a cell that holds *text*."""
    return int.from_bytes(blake3(text.encode(errors="surrogatepass")).digest(8), "little")


def number_keys(values: NDArray[np.float64]) -> Keys:
    """Return the key of each of *values*, which does not depend on how the number is written."""
    keys = (values + 0.0).view(np.uint64)  # + 0: -0.0 becomes 0.0
    return np.where(np.isnan(values), MISSING, keys)


def add_column(rows: Keys, name: str, cells: Keys) -> None:
    """Add the keys of the *cells* of a column to those of the *rows*, in any order of the columns."""
    rows += _mixed(cells ^ np.uint64(text_key(name)))


def ranks(rows: Keys, seed: int) -> Keys:
    """Return numbers by which to order the *rows* at random, as *seed* says; equal rows have different ones.

    The rows of a table of few categories are mostly copies: with equal numbers, all that are held out could
    be of one kind.
    """
    order = np.argsort(rows, kind="stable")
    is_first = np.ones(len(rows), bool)
    is_first[1:] = rows[order][1:] != rows[order][:-1]
    places = np.arange(len(rows))
    copies = np.empty(len(rows), np.uint64)
    copies[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return _mixed(_mixed(rows ^ np.uint64(text_key(f"holdout {seed}"))) + copies)


def _mixed(keys: Keys) -> Keys:
    """Return *keys* mixed by the finishing steps of splitmix64.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014), `mix64variant13`.
    """
    mixed = keys ^ (keys >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
