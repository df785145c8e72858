from __future__ import annotations

import math
import unicodedata
from typing import get_args

import pytest
from rich.cells import cell_len

from p2pfl.observe.peers import ActivityKind
from tests.support.recordings import HOSTILE
from tui.symbols import (
    SYMBOLS,
    Symbol,
    ago,
    clip,
    delta,
    duration,
    fit,
    glyphs,
    metric,
    rate,
    samples,
    score,
    share,
    size,
)

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)


def test_every_word_for_what_a_peer_does_has_a_symbol() -> None:
    assert set(SYMBOLS) == set(get_args(ActivityKind))


def test_words_alone_tell_all_states_apart() -> None:
    assert len({symbol.text for symbol in SYMBOLS.values()}) == len(SYMBOLS)


def test_late_lost_left_kicked_banned_refused_and_paused_differ_in_sign_word_and_ascii() -> None:
    words = ["late", "lost", "left", "refused", "paused", "waiting", "train", "kicked", "banned", "revoked"]
    different = [SYMBOLS[word] for word in words]  # type: ignore[index]
    for part in ("mark", "ascii", "text"):
        assert len({getattr(symbol, part) for symbol in different}) == len(different)


@pytest.mark.parametrize("symbol", SYMBOLS.values(), ids=str)
def test_signs_take_one_cell_everywhere(symbol: Symbol) -> None:
    assert unicodedata.east_asian_width(symbol.mark) not in ("W", "F")
    assert len(symbol.mark) == cell_len(symbol.mark) == 1
    assert len(symbol.ascii) == 1
    assert symbol.ascii.isascii()


def test_both_sets_of_glyphs_are_of_single_cells_and_one_is_ascii() -> None:
    for name in set(UNICODE._fields) - {"is_ascii", "eighths", "blocks"}:
        assert cell_len(getattr(UNICODE, name)) == len(getattr(ASCII, name)) == 1, name
        assert getattr(ASCII, name).isascii(), name
    assert [cell_len(sign) for sign in UNICODE.eighths] == [1] * 8
    assert [cell_len(sign) for sign in UNICODE.blocks] == [1] * len(ASCII.blocks) == [1] * 7
    assert ASCII.blocks.isascii()


def test_marks_of_the_log_have_an_ascii_twin() -> None:
    assert [ASCII.ascii_of(mark) for mark in "·✓◎★✗!+-⚡"] == list("-+o@x!+--")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (samples(0), "0"),
        (samples(450), "450"),
        (samples(6000), "6.0k"),
        (samples(60_000), "60.0k"),
        (samples(999_499), "999k"),
        (samples(999_500), "1.0M"),
        (samples(10**18), ">999G"),
        (size(0), "0B"),
        (size(999), "999B"),
        (size(1023), "1.0K"),
        (size(3.2 * 2**20), "3.2M"),
        (size(2**63), ">999T"),
        (rate(12_288), "12.0K/s"),
        (rate(-1.0), "0B/s"),
        (duration(0), "0ms"),
        (duration(0.0002), "<1ms"),
        (duration(0.002), "2ms"),
        (duration(0.0995), "0.1s"),
        (duration(14.24), "14.2s"),
        (duration(99.96), "1m40s"),
        (duration(5999.6), "1h40m"),
        (duration(7500), "2h05m"),
        (duration(100 * 3600), "4d04h"),
        (duration(1e12), "9999d"),
        (duration(-3), "0ms"),
        (ago(12.4), "12s"),
        (ago(780), "13m"),
        (ago(3 * 3600), "3h"),
        (ago(72 * 3600), "3d"),
        (ago(1e300), "9999d"),
        (ago(-5), "0s"),
        (share(0.714), "71%"),
        (share(7), "100%"),
        (share(-1), "0%"),
        (score(0.9612), ".961"),
        (score(0.0), ".000"),
        (score(0.9996), "1.00"),
        (score(31.0), "1.00"),
        (score(-0.5), ".000"),
        (delta(0.0011, UNICODE), "▲.0011"),
        (delta(-0.02, UNICODE), "▼.0200"),
        (delta(0.00001, UNICODE), "="),
        (delta(-1.0, ASCII), "-1.000"),
        (delta(-12345.6, ASCII), "-12346"),
        (metric("accuracy", 0.9612), ".961"),
        (metric("r2", 0.9612), "0.961"),
        (metric("r2", -0.5), "-0.50"),
        (metric("mse", 1234567.0), "1e06"),
        (metric("mse", math.nan), "?"),
    ],
)
def test_numbers_are_written_short(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_question_mark_and_raises_nothing(value: float) -> None:
    texts = [form(value) for form in (samples, size, duration, ago, share, score)]
    assert texts == ["?"] * 6
    assert rate(value) == "?/s"
    assert delta(value, UNICODE) == "?"


def test_lengths_of_time_never_outgrow_their_column() -> None:
    assert max(len(duration(1.07**power / 1e6)) for power in range(800)) <= 6


@pytest.mark.parametrize("width", [0, 1, 2, 5, 14])
@pytest.mark.parametrize(
    "text", ["", "lab-desktop", "日本語のデバイス", HOSTILE, "e\u0301" * 20, "a\nb\tc\u202ed" * 9]
)
def test_names_are_cut_and_filled_to_cells_without_control_characters(text: str, width: int) -> None:
    assert cell_len(clip(text, width)) <= width
    assert cell_len(fit(text, width)) == cell_len(fit(text, width, "right")) == width
    assert fit(text, width).isprintable()


def test_a_cut_name_says_so() -> None:
    assert clip("west-thinkpad", 8) == "west-th…"
    assert fit("pi", 4, "right") == "  pi"
