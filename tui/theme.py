"""The themes, and the colours of meanings: Okabe and Ito's, which colour-blind people can tell apart.

Text has a contrast of at least 4.5 to 1 on its background; on themes whose background needs it, the colours
are made lighter or darker (`palette_of`). With NO_COLOR Textual removes the colours; symbols and words carry
the same meaning. The themes "ansi-dark" and "ansi-light" use the terminal's own sixteen colours.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from textual.color import Color
from textual.design import ColorSystem
from textual.theme import BUILTIN_THEMES, Theme

from p2pfl.errors import UserError

STYLES: Final[dict[str, tuple[str, str]]] = {
    "train": ("#56b4e9", "#005a8c"),
    "move": ("#f0e442", "#6b5f00"),
    "lead": ("#e69f00", "#8a5a00"),
    "good": ("#2fc19a", "#00664b"),
    "warning": ("#e69f00", "#8a5a00"),
    "bad": ("#ff8a5c", "#a63c00"),
    "error": ("#ff8a5c", "#a63c00"),
    "quiet": ("#9aa5b1", "#566270"),
    "elected": ("#e69f00", "#8a5a00"),
    "info": ("#c8d0d9", "#2b333d"),
    "global": ("#56b4e9", "#005a8c"),
    "me": ("#e69f00", "#8a5a00"),
    "alone": ("#cc79a7", "#8f3a68"),
    "third": ("#2fc19a", "#00664b"),
    "fourth": ("#f0e442", "#6b5f00"),
    "fifth": ("#ff8a5c", "#a63c00"),
    "sixth": ("#8fa0ff", "#4b3fbf"),
    "seventh": ("#dde3ea", "#1c232b"),
    "band": ("#4a5b6c", "#a9bccb"),
}
"""Colours on dark and on light, by meaning; meanings of the same colour differ in symbol and word."""

BACKGROUNDS: Final[tuple[str, str]] = ("#11151a", "#fbfbf8")
"""Backgrounds, dark and light."""

DARK = Theme(
    name="p2pfl-dark",
    primary="#56b4e9",
    secondary="#e69f00",
    accent="#56b4e9",
    foreground="#dde3ea",
    background=BACKGROUNDS[0],
    surface="#1a2027",
    panel="#1a2027",
    success="#2fc19a",
    warning="#e69f00",
    error="#ff8a5c",
    dark=True,
    variables={"panel-border": "#3a4653", "text-muted": "#9aa5b1"},
)

LIGHT = Theme(
    name="p2pfl-light",
    primary="#005a8c",
    secondary="#8a5a00",
    accent="#005a8c",
    foreground="#1c232b",
    background=BACKGROUNDS[1],
    surface="#efefe9",
    panel="#efefe9",
    success="#00664b",
    warning="#8a5a00",
    error="#a63c00",
    dark=False,
    variables={"panel-border": "#b4bcc4", "text-muted": "#566270"},
)


HIGH_CONTRAST = Theme(
    name="p2pfl-high-contrast",
    primary="#7cc8ff",
    secondary="#ffc02e",
    accent="#ffff00",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    success="#3fe0b4",
    warning="#ffc02e",
    error="#ffa27f",
    dark=True,
    variables={"panel-border": "#ffffff", "text-muted": "#e0e0e0"},
)

OURS: Final = (DARK, LIGHT, HIGH_CONTRAST)

SHORT_NAMES: Final[dict[str, str]] = {
    "dark": DARK.name,
    "light": LIGHT.name,
    "high-contrast": HIGH_CONTRAST.name,
    "ansi": "ansi-dark",
}
"""What people call our themes and the one of the terminal's own colours."""

READABLE, MORE_READABLE = 4.5, 7.0
"""Contrast of text that WCAG 2.1 asks for, and with high contrast."""

ANSI: Final[dict[str, str]] = {
    "train": "blue",
    "move": "cyan",
    "lead": "yellow",
    "good": "green",
    "warning": "yellow",
    "bad": "red",
    "error": "red",
    "quiet": "dim",
    "elected": "yellow",
    "info": "default",
    "global": "blue",
    "me": "yellow",
    "alone": "magenta",
    "third": "green",
    "fourth": "cyan",
    "fifth": "red",
    "sixth": "bright_blue",
    "seventh": "default",
    "band": "bright_black",
}
"""The terminal's own colours, by meaning."""

DRAWN_ONLY: Final = frozenset({"band"})
"""Colours that no text has."""


class Palette:
    """The colours of meanings on one theme."""

    def __init__(self, colours: dict[str, str]) -> None:
        self._colours = colours

    def __getitem__(self, name: str) -> str:
        """Return the colour of a meaning, as a Rich style."""
        return self._colours[name]


def theme_name(text: str) -> str:
    """Return the full name of the theme that a user names *text*.

    Raises:
        UserError: there is none.
    """
    name = SHORT_NAMES.get(text, text)
    if name not in BUILTIN_THEMES and name not in {theme.name for theme in OURS}:
        raise UserError(
            f"there is no theme {text!r}: give one of {', '.join([*SHORT_NAMES, *BUILTIN_THEMES])}"
        )
    return name


def palette_of(theme: Theme) -> Palette:
    """Return the colours of meanings on *theme*."""
    if theme.ansi:
        return _ANSI_PALETTE
    backgrounds = _backgrounds(theme.background, theme.surface, theme.dark)
    least = MORE_READABLE if theme.name == HIGH_CONTRAST.name else READABLE
    return _palette(theme.dark, backgrounds, least)


_ANSI_PALETTE = Palette(ANSI)


@lru_cache
def _backgrounds(background: str | None, surface: str | None, is_dark: bool) -> tuple[str, str]:
    """Return the colours behind text; Textual computes those that a theme does not name."""
    if background is None or surface is None:
        made = ColorSystem("#808080", background=background, surface=surface, dark=is_dark).generate()
        background, surface = made["background"], made["surface"]
    return background, surface


@lru_cache
def _palette(is_dark: bool, backgrounds: tuple[str, ...], least: float) -> Palette:
    return Palette(
        {
            name: one if name in DRAWN_ONLY else _readable(one, backgrounds, least)
            for name, one in ((name, pair[not is_dark]) for name, pair in STYLES.items())
        }
    )


def _readable(text: str, backgrounds: tuple[str, ...], least: float) -> str:
    """Return the colour *text*, or one near it that has the contrast *least* on all *backgrounds*."""
    given = Color.parse(text)
    behind = [Color.parse(one) for one in backgrounds]
    black, white = Color.parse("#000000"), Color.parse("#ffffff")
    extreme = max(black, white, key=lambda one: min(contrast(one, back) for back in behind))
    for step in range(21):
        made = given.blend(extreme, step / 20)
        if min(contrast(made, back) for back in behind) >= least:
            return made.hex6.lower()
    return extreme.hex6.lower()


def contrast(one: Color, other: Color) -> float:
    """Return the contrast of two colours, see https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    parts = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def variables_of(theme: Theme) -> dict[str, str]:
    """Return what the style sheet needs besides Textual's variables."""
    if theme.ansi:
        return {"panel-border": "ansi_bright_black"}
    return {"panel-border": (DARK if theme.dark else LIGHT).variables["panel-border"]}
