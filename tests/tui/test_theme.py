from __future__ import annotations

from typing import Any

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from p2pfl.errors import UserError
from tests.support import recordings
from tests.support.screens import settle, shown, text_of
from tui import preferences
from tui.symbols import MARKS, SYMBOLS
from tui.theme import (
    ANSI,
    DARK,
    DRAWN_ONLY,
    HIGH_CONTRAST,
    LIGHT,
    MORE_READABLE,
    OURS,
    READABLE,
    SHORT_NAMES,
    STYLES,
    contrast,
    palette_of,
    theme_name,
)

COLOURED = [*OURS, *(theme for theme in BUILTIN_THEMES.values() if not theme.ansi)]
MEANINGS = sorted(set(STYLES) - DRAWN_ONLY)


def contrast_of(one: str, other: str) -> float:
    return contrast(Color.parse(one), Color.parse(other))


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast_of("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast_of("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", COLOURED, ids=lambda theme: theme.name)
def test_every_colour_is_readable_on_every_background(theme: Any) -> None:
    behind = theme.to_color_system().generate()
    palette = palette_of(theme)
    for name in MEANINGS:
        assert contrast_of(palette[name], behind["background"]) >= READABLE, name
        assert contrast_of(palette[name], behind["surface"]) >= READABLE, name


@pytest.mark.parametrize(("theme", "index"), [(DARK, 0), (LIGHT, 1)])
def test_on_our_own_themes_the_colours_are_as_they_are_named(theme: Any, index: int) -> None:
    assert {name: palette_of(theme)[name] for name in STYLES} == {
        name: pair[index] for name, pair in STYLES.items()
    }


def test_high_contrast_is_more() -> None:
    palette = palette_of(HIGH_CONTRAST)
    assert all(contrast_of(palette[name], "#000000") >= MORE_READABLE for name in MEANINGS)


def test_the_terminal_s_own_colours_are_named_for_every_meaning() -> None:
    for theme in (BUILTIN_THEMES["ansi-dark"], BUILTIN_THEMES["ansi-light"]):
        assert {name: palette_of(theme)[name] for name in STYLES} == ANSI
    assert not any("#" in colour for colour in ANSI.values())


@pytest.mark.parametrize("theme", OURS, ids=lambda theme: theme.name)
def test_text_and_what_is_less_important_are_readable(theme: Any) -> None:
    for text in (theme.foreground, theme.variables["text-muted"], theme.error, theme.success, theme.accent):
        assert contrast_of(text, theme.background) >= READABLE
        assert contrast_of(text, theme.surface) >= READABLE


def test_every_state_and_level_has_a_colour() -> None:
    assert {symbol.style_name for symbol in (*SYMBOLS.values(), *MARKS.values())} <= set(STYLES)
    assert {"info", "good", "warning", "error"} <= set(STYLES)


def test_good_and_bad_differ_in_more_than_red_and_green() -> None:
    for theme in OURS:
        good, bad = (Color.parse(palette_of(theme)[name]) for name in ("good", "bad"))
        assert abs(good.b - bad.b) >= 50


def test_themes_have_names() -> None:
    assert [theme_name(text) for text in SHORT_NAMES] == [
        "p2pfl-dark",
        "p2pfl-light",
        "p2pfl-high-contrast",
        "ansi-dark",
    ]
    assert theme_name("nord") == "nord"
    assert theme_name("p2pfl-light") == "p2pfl-light"
    with pytest.raises(
        UserError, match="there is no theme 'blue': give one of dark, light, high-contrast, ansi, "
    ):
        theme_name("blue")


@pytest.mark.parametrize(
    "theme",
    [
        *(pytest.param(theme, id=theme.name) for theme in OURS),
        *(pytest.param(theme, id=theme.name, marks=pytest.mark.nightly) for theme in BUILTIN_THEMES.values()),
    ],
)
async def test_every_theme_draws_the_same_text(theme: Any) -> None:
    async with shown(recordings.running(), (120, 40), theme=theme.name) as (app, _, _):
        assert app.current_theme.name == theme.name
        text = text_of(app)
        assert "lab-desktop" in text
        assert "attic-nuc" in text


async def test_t_goes_between_dark_and_light_and_what_is_chosen_is_told() -> None:
    chosen: list[str] = []
    async with shown(recordings.running(), (120, 40), theme="nord") as (app, pilot, _):
        app.on_theme = chosen.append
        await pilot.press("t")
        assert app.theme == LIGHT.name
        await pilot.press("t")
        assert app.theme == DARK.name
        assert chosen == [LIGHT.name, DARK.name]
        assert "Choose a theme" in [command.title for command in app.get_system_commands(app.screen)]
        app.action_choose_theme()
        await settle(app, pilot)
        await pilot.press(*"dracula")
        await pilot.pause(0.5)
        await pilot.press("down", "enter")
        await settle(app, pilot)
        assert chosen[-1] == app.theme == "dracula"


def test_what_was_chosen_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from tui.__main__ import _theme

    folder = tmp_path / "config" / "p2pfl"
    monkeypatch.setattr(preferences, "user_config", lambda _: folder)
    assert _theme(None) == DARK.name
    preferences.save(preferences.Preferences("nord"))
    assert _theme(None) == "nord"
    assert _theme("light") == LIGHT.name
    preferences.save(preferences.Preferences("of a later version"))
    assert _theme(None) == DARK.name
