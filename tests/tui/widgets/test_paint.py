from typing import Any

import pytest
from rich.console import Console
from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from tests.support.drawn import alone, lines_of
from tui.theme import DARK, LIGHT, STYLES, palette_of
from tui.widgets.paint import painted, set_title, strip_of

CONSOLE = Console(width=80)
BASE = Style.parse("white on black")


def test_meanings_become_the_theme_s_colours_and_other_styles_stay() -> None:
    text = Text("x", style="quiet").append("a", style="bad").append("b", style="bold reverse").append("c")
    for palette in (palette_of(DARK), palette_of(LIGHT)):
        made = painted(text, palette)
        assert made.style == palette["quiet"]
        assert [span.style for span in made.spans] == [palette["bad"], "bold reverse"]
    assert text.spans[0].style == "bad"


@pytest.mark.parametrize("name", STYLES)
def test_every_meaning_can_be_drawn(name: Any) -> None:
    strip = strip_of(Text("a", style=name), 3, BASE, CONSOLE, palette_of(DARK))
    assert strip.text == "a  "
    style = strip._segments[0].style
    assert style is not None
    assert style.color is not None
    assert style.color.name == STYLES[name][0]


def _overlapping() -> Text:
    text = Text("abcdef", style="quiet")
    text.stylize("bad", 1, 5)
    text.stylize("bold", 2, 6)
    return text


@pytest.mark.parametrize(
    "text",
    [
        Text("abc").append("de", style="bad").append("f"),
        Text("", style="quiet").append("ab", style="good").append("cdef", style="bold reverse"),
        Text("abcdef", style="quiet"),
        _overlapping(),
    ],
    ids=["gaps", "base", "one", "overlapping"],
)
def test_each_character_has_the_styles_that_rich_gives_it(text: Text) -> None:
    strip = strip_of(text, 6, BASE, CONSOLE, palette_of(DARK))
    drawn = [(sign, segment.style) for segment in strip for sign in segment.text]
    plain = painted(text, palette_of(DARK))
    base = BASE + CONSOLE.get_style(plain.style)
    assert drawn == [
        (sign, base + plain.get_style_at_offset(CONSOLE, place)) for place, sign in enumerate(text.plain)
    ]


@pytest.mark.parametrize("width", [0, 1, 4, 9])
def test_a_strip_is_exactly_as_wide_as_asked(width: int) -> None:
    for text in ("", "abcd", "日本語", "a\nb"):
        assert strip_of(Text(text), width, BASE, CONSOLE, palette_of(DARK)).cell_length == width


def test_markup_in_a_text_is_text() -> None:
    assert strip_of(Text("[red]x[/red]"), 12, BASE, CONSOLE, palette_of(DARK)).text == "[red]x[/red]"


async def test_a_title_is_no_markup_and_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = Widget()
    async with alone(widget, (40, 5)) as (app, pilot, _):
        widget.styles.border = ("ascii", "white")
        drawn: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(widget, "refresh", lambda *regions, **options: drawn.append("again"))
            for title in ("[/red] 1 [b]", "[/red] 1 [b]", "Peers 6 · 1 gone", "Peers 6 · 1 gone"):
                set_title(widget, title)
        assert len(drawn) == 2
        set_title(widget, "[/red] 1 [b]")
        assert (await lines_of(app, pilot))[0].startswith("+- [/red] 1 [b] -")
