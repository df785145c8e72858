"""Reads one column of a table from text into float32, and keeps its statistics.

A column starts *coded*: a cell becomes the index of its text among the different texts so far. A column of
numbers becomes *measured* once it has many different ones: then a cell becomes its value minus a shift near
the mean, so that float32 keeps seven digits of the differences, which matter, and not of the values. In both
cases a cell takes 4 bytes, and the kind of a column is decided when all its texts are known, in one reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import TaskError
from p2pfl.learning.tables import row_keys
from p2pfl.text import one_line

Kind = Literal["number", "category"]

MISSING = frozenset(("", "na", "n/a", "nan", "null", "?", "-"))
"""Texts in lower case that stand for a missing value."""

MAX_CODED_NUMBERS = 1000
"""A column with more different numbers, and no other text, is measured."""

MAX_TEXTS = 100_000
"""Maximum number of different texts of a column; they take some 20 MB."""

MAX_TEXT = 64
"""Characters of a text that are kept: the length of a label in a data card."""

MAX_NUMBER = 1e30
"""Larger numbers count as missing: their squares would exceed float32."""


class Moments:
    """Number, mean and sum of squared differences from the mean of values that come in parts, in float64.

    Parts are combined as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances" (1979), equation 1.5: no digits cancel, even if the
    mean is much larger than the spread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.spread = 0.0

    def add(self, values: NDArray[np.float64], counts: NDArray[np.int64] | None = None) -> None:
        """Add *values* [n], each as often as *counts* [n] says, or once."""
        weights = np.ones(len(values), np.int64) if counts is None else counts
        count = int(weights.sum())
        if not count:
            return
        mean = float((values * weights).sum() / count)
        spread = float((np.square(values - mean) * weights).sum())
        whole, difference = self.count + count, mean - self.mean
        self.spread += spread + difference * difference * self.count * count / whole
        self.mean += difference * count / whole
        self.count = whole


class ColumnReader:
    """One column while it is read."""

    def __init__(self, name: str, separator: str, wanted: Kind | None = None) -> None:
        """*separator* is that of the file; *wanted* is the kind of the column where it is known already."""
        self.name = name
        self.is_coded = True
        self.texts: list[str] = []
        """Different texts in order of appearance, each with its entry in `numbers` and `counts`."""
        self.numbers: list[float] = []
        """The number that a text stands for; NaN for other texts."""
        self.counts = np.zeros(0, np.int64)
        self.missing = 0
        self.moments = Moments()
        """Of a column that is measured."""
        self.shift = 0.0
        self.odd: tuple[str, int] | None = None
        """The first text that is no number, and its line."""
        self._wanted = wanted
        self._takes_commas = separator != ","
        self._has_commas = self._has_points = False
        self._codes: dict[str, int] = {}
        """Code of each cell seen so far, as it is in the file; -1 for missing values."""
        self._keys = np.array([row_keys.MISSING])
        """Key of each text, and at the end that of a missing value."""
        self._taken: NDArray[np.int64] | NDArray[np.float64] = np.zeros(0)
        """What `take` has read last: codes, or numbers."""

    @property
    def label(self) -> str:
        """The name for messages."""
        return repr(one_line(self.name, 60))

    def take(self, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.float32]:
        """Return *cells* as numbers, with -1 for missing values while the column is coded, and NaN after it.

        Raises:
            TaskError: a cell does not fit the column; the message names its line.
        """
        return self._code(cells, lines) if self.is_coded else self._measure(cells, lines)

    @property
    def is_due(self) -> bool:
        """Whether the column should be measured from now on."""
        return (
            self.is_coded
            and self._wanted != "category"
            and self.odd is None
            and len(self.texts) > MAX_CODED_NUMBERS
        )

    def begin_measuring(self) -> NDArray[np.float32]:
        """Switch to measuring; return the new value of each code, with that of -1 at the end."""
        numbers = np.array(self.numbers, np.float64)
        self.moments.add(numbers, self.counts)
        self.shift = self.moments.mean
        self.is_coded = False
        self.texts, self.numbers, self._codes = [], [], {}
        return np.append(numbers - self.shift, math.nan).astype(np.float32)

    def keys(self) -> row_keys.Keys:
        """Return the key of each cell of the last `take`: the same for the same number or text everywhere."""
        if self._taken.dtype == np.float64:
            return row_keys.number_keys(self._taken.astype(np.float64, copy=False))
        known = len(self._keys) - 1
        if known < len(self.texts):
            added = row_keys.number_keys(np.array(self.numbers[known:], np.float64))
            for place in np.flatnonzero(np.isnan(self.numbers[known:])).tolist():
                added[place] = row_keys.text_key(self.texts[known + place])
            self._keys = np.concatenate([self._keys[:-1], added, self._keys[-1:]])
        return self._keys[self._taken.astype(np.int64, copy=False)]

    # --- coded ----------------------------------------------------------------------------------------------

    def _code(self, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.float32]:
        known = self._codes
        for cell, line in zip(cells, lines, strict=True):
            if cell not in known:
                known[cell] = self._add(cell, line)
        codes = np.fromiter(map(known.__getitem__, cells), np.int64, len(cells))
        self._taken = codes
        present = codes[codes >= 0]
        self.missing += len(codes) - len(present)
        counts = np.bincount(present, minlength=len(self.texts))
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        return codes.astype(np.float32)

    def _add(self, cell: str, line: int) -> int:
        """Return the code of *cell*, which has none yet as it is written."""
        text = cell.strip()
        number = self._number(text)
        if text.lower() in MISSING or (number is not None and math.isnan(number)):
            return -1
        text = text[:MAX_TEXT]
        if text in self._codes:
            return self._codes[text]
        if number is None:
            self.odd = self.odd or (text, line)
            if self._wanted == "number":
                raise self.odd_text(text, line)
        self._codes[text] = len(self.texts)
        self.texts.append(text)
        self.numbers.append(math.nan if number is None else number)
        if len(self.texts) > MAX_TEXTS:
            raise self.too_many_texts()
        return len(self.texts) - 1

    def too_many_texts(self) -> TaskError:
        """Return the error about a column with too many different texts; it says what is to be done."""
        if self.odd is not None and np.isfinite(self.numbers).mean() >= 0.9:
            return self.odd_text(*self.odd)
        return TaskError(
            f"The column {self.label} has another text in nearly every row ({one_line(self.texts[0], 30)!r}, "
            "..), like a name or an identifier: leave it out, or make numbers or a few categories of it."
        )

    # --- measured -------------------------------------------------------------------------------------------

    def _measure(self, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.float32]:
        if self._has_commas:
            cells = [cell.replace(",", ".") for cell in cells]
        try:
            numbers = [float(cell or "nan") for cell in cells]
        except ValueError:
            numbers = [self._measured(cell, line) for cell, line in zip(cells, lines, strict=True)]
        values = np.array(numbers, np.float64)
        values[~(np.abs(values) <= MAX_NUMBER)] = math.nan
        present = values[~np.isnan(values)]
        self.missing += len(values) - len(present)
        self.moments.add(present)
        self._taken = values
        return (values - self.shift).astype(np.float32)

    def _measured(self, cell: str, line: int) -> float:
        """Return the number *cell*, which may be written in a way that `float` does not know."""
        try:
            return float(cell)
        except ValueError:
            text = cell.strip()
            number = math.nan if text.lower() in MISSING else self._number(text)
            if number is None:
                raise self.odd_text(text, line) from None
            return number

    # --- text and numbers -----------------------------------------------------------------------------------

    def _number(self, text: str) -> float | None:
        """Return the number *text*; NaN if it cannot be used, None if it is none."""
        plain = text
        if "," in text and self._takes_commas and "." not in text:
            plain = text.replace(",", ".")
        try:
            number = float(plain)
        except ValueError:
            return None
        self._has_commas |= plain is not text
        self._has_points |= "." in text
        if self._has_commas and self._has_points and self._wanted != "category":
            raise TaskError(
                f"The column {self.label} has numbers with a decimal comma and with a decimal point: "
                "use one of them."
            )
        return number if abs(number) <= MAX_NUMBER else math.nan

    def odd_text(self, text: str, line: int) -> TaskError:
        """Return the error about *text* among numbers."""
        return TaskError(
            f"The column {self.label} holds numbers, and in line {line} the text {one_line(text, 30)!r}: "
            "correct it, or leave the cell empty."
        )
