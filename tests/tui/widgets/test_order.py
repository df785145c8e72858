import random

import pytest

from tui.symbols import delta, duration, glyphs, rate, samples, share, size
from tui.widgets.order import by_value, by_word


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (duration, [100_000_000.0, 200_000.0, 7500.0, 7440.0, 100.0, 99.0, 14.2, 0.3, 0.09, 0.002, 0.0]),
        (rate, [5e12, 3.1e9, 3.1e6, 12_000.0, 700.0, 0.0]),
        (size, [2.0**63, 2.0**41, 2.0**31, 1e6, 5000.0, 7.0]),
        (samples, [60_000, 6000, 450, 10]),
        (share, [1.0, 0.71, 0.07, 0.0]),
        (lambda value: delta(value, glyphs(ascii_only=False)), [0.02, 0.0011, 0.0, -0.0003, -0.4]),
        (lambda value: delta(value, glyphs(ascii_only=True)), [0.02, 0.0011, -0.0003, -0.4]),
        (lambda value: f"{value}/6!", [6, 5, 0]),
    ],
)
def test_cells_with_numbers_are_sorted_by_what_they_stand_for_the_largest_first(form, values):
    shuffled = random.Random(7).sample([form(value) for value in values], len(values))
    assert sorted(shuffled, key=by_value) == [form(value) for value in values]


def test_cells_without_a_number_come_last_in_any_case():
    assert sorted(["—", "me", "2ms", ""], key=by_value) == ["2ms", "", "me", "—"]


def test_words_are_sorted_by_the_alphabet_whatever_their_case():
    assert sorted(["shelf", "Attic", "roof", "3d"], key=by_word) == ["3d", "Attic", "roof", "shelf"]


@pytest.mark.parametrize(
    "text", ["9" * 400, "-", "▲", ".", "1e999", "9" * 200 + "d" + "9" * 200, "٣", "\x1b[2J"]
)
def test_a_hostile_cell_is_sorted_like_any_other(text):
    assert sorted([text, "1s"], key=by_value)
