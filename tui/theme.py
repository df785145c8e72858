"""The colours of the dark and the light theme: Okabe and Ito's, which colour-blind people can tell apart.

Text has a contrast of at least 4.5 to 1 on its background in both themes; a test computes it. With NO_COLOR
Textual removes the colours; symbols and words carry the same meaning.
"""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

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


def colour(name: str, *, is_dark: bool) -> str:
    """Return the colour of a meaning."""
    dark, light = STYLES[name]
    return dark if is_dark else light
