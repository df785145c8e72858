from __future__ import annotations

from typing import Any

import pytest
from textual.color import Color

from tui.symbols import SYMBOLS
from tui.theme import DARK, LIGHT, STYLES, colour

READABLE = 4.5
"""What WCAG 2.1 asks of text."""

DRAWN_ONLY = {"band"}
"""Colours that no text has: WCAG asks 3 to 1 of graphics, and nothing of what is told elsewhere as well."""


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio"""

    def luminance(text: str) -> float:
        parts = [
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
            for value in Color.parse(text).normalized
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
@pytest.mark.parametrize("name", sorted(set(STYLES) - DRAWN_ONLY))
def test_every_colour_is_readable_on_every_background(theme: Any, name: str) -> None:
    foreground = colour(name, is_dark=theme.dark)
    assert contrast(foreground, theme.background) >= READABLE
    assert contrast(foreground, theme.surface) >= READABLE


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_text_and_what_is_less_important_are_readable(theme: Any) -> None:
    for text in (theme.foreground, theme.variables["text-muted"], theme.error, theme.success, theme.accent):
        assert contrast(text, theme.background) >= READABLE
        assert contrast(text, theme.surface) >= READABLE


def test_every_state_and_level_has_a_colour() -> None:
    assert {symbol.style_name for symbol in SYMBOLS.values()} <= set(STYLES)
    assert {"info", "good", "warning", "error"} <= set(STYLES)


def test_good_and_bad_differ_in_more_than_red_and_green() -> None:
    for is_dark in (True, False):
        good, bad = (Color.parse(colour(name, is_dark=is_dark)) for name in ("good", "bad"))
        assert abs(good.b - bad.b) >= 60
