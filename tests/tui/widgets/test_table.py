from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from rich.text import Text

from tests.support.drawn import alone, lines_of, styles_of
from tests.support.recordings import HOSTILE
from tui.symbols import delta, duration, glyphs, rate, samples, share, size
from tui.theme import DARK, LIGHT, palette_of
from tui.widgets.table import Column, LiveTable, Row, by_value, by_word

COLUMNS = (
    Column("star", "★", 1, 9),
    Column("name", "NAME", 12, 10),
    Column("doing", "STATE", 10, 10),
    Column("rtt", "RTT", 6, 6, "right"),
    Column("up", "UP", 7, 3, "right"),
)
PEERS = [
    ("macbook-1", "● train", "14ms", "12.0K/s"),
    ("lab", "✗ lost", "—", "—"),
    ("roof", "✓ merged", "2ms", "3.1M/s"),
]


def rows(*peers: tuple[str, str, str, str]) -> list[Row]:
    return [
        Row(name, {"star": " ", "name": name, "doing": doing, "rtt": rtt, "up": up}, dim="lost" in doing)
        for name, doing, rtt, up in peers or PEERS
    ]


def many(count: int) -> list[Row]:
    return rows(*((f"peer-{number:02}", "● train", f"{number}ms", "1B/s") for number in range(count)))


def table() -> LiveTable:
    return LiveTable(COLUMNS, searched=("name",))


async def test_columns_of_fixed_width_below_their_titles() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(rows())
        assert await lines_of(app, pilot) == [
            " ★ NAME         STATE         RTT      UP",
            "›  macbook-1    ● train      14ms 12.0K/s",
            "   lab          ✗ lost          —       —",
            "   roof         ✓ merged      2ms  3.1M/s",
            "",
            "",
        ]


async def test_the_least_important_columns_go_where_it_is_narrow() -> None:
    widget = table()
    async with alone(widget, (30, 3)) as (app, pilot, _):
        widget.set_rows(rows()[:2])
        assert await lines_of(app, pilot) == [
            " ★ NAME         STATE",
            "›  macbook-1    ● train",
            "   lab          ✗ lost",
        ]
        await pilot.resize_terminal(60, 3)
        assert (await lines_of(app, pilot))[0].endswith("RTT      UP")


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 2), (3, 10), (300, 2)])
async def test_it_draws_at_any_size(size: Any) -> None:
    widget = table()
    async with alone(widget, size) as (app, pilot, _):
        widget.set_rows(many(30))
        await pilot.press("down", "end", "home")
        assert len(await lines_of(app, pilot)) == size[1]


async def test_without_rows_there_is_nothing_to_open() -> None:
    widget = table()
    async with alone(widget, (40, 4), message=LiveTable.Opened) as (app, pilot, posted):
        await pilot.press("down", "enter")
        widget.set_rows(rows())
        widget.set_rows([])
        await pilot.press("up", "enter")
        assert (await lines_of(app, pilot))[1:] == ["", "", ""]
        assert (posted, widget.cursor_key) == ([], None)


async def test_names_are_no_markup_and_no_control_characters() -> None:
    widget = table()
    async with alone(widget, (60, 3)) as (app, pilot, _):
        widget.set_rows(
            rows((HOSTILE, "● train", "1ms", "1B/s"), ("日本語のデバイス", "● train", "1ms", "1B/s"))
        )
        first, second = (await lines_of(app, pilot))[1:]
        assert first == "›  [red]x?[2J   ● train       1ms    1B/s"
        assert second == "   日本語のデ…  ● train       1ms    1B/s"


# --- order and filter ---------------------------------------------------------------------------------------


async def test_numbers_are_sorted_by_value_and_words_by_the_alphabet() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(rows())
        orders = {}
        for key in ("rtt", "up", "name", "", "no such column"):
            widget.sort_by(key)
            orders[key] = widget.keys
        assert orders == {
            "rtt": ["macbook-1", "roof", "lab"],
            "up": ["roof", "macbook-1", "lab"],
            "name": ["lab", "macbook-1", "roof"],
            "": ["macbook-1", "lab", "roof"],
            "no such column": ["macbook-1", "lab", "roof"],
        }
        widget.sort_by("rtt")
        assert (await lines_of(app, pilot))[0] == " ★ NAME         STATE        RTT▼      UP"


async def test_the_cursor_follows_its_row_while_rows_are_sorted() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(rows())
        await pilot.press("down", "down")
        assert widget.cursor_key == "roof"
        widget.sort_by("up")
        assert widget.cursor_key == "roof"
        assert (await lines_of(app, pilot))[1].startswith("›  roof")


async def test_sorting_scrolls_to_the_cursor() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(many(40))
        widget.sort_by("rtt")
        assert (await lines_of(app, pilot))[-1].startswith("›  peer-00")


async def test_the_cursor_stays_at_its_place_when_its_row_goes() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(rows())
        await pilot.press("down")
        widget.set_rows(rows(PEERS[0], PEERS[2]))
        assert widget.cursor_key == "roof"
        assert (await lines_of(app, pilot))[2].startswith("›  roof")
        widget.set_rows(rows(PEERS[0], ("new", "● train", "1ms", "1B/s")))
        assert (await lines_of(app, pilot))[2].startswith("›  new")


async def test_a_filter_shows_what_has_the_text_and_inverted_what_has_not() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (_, _, _):
        widget.set_rows(rows())
        shown = {}
        for text in ("ROOF", "lost", "!lab", "!", "", "nothing has this"):
            widget.filter(text)
            shown[text] = widget.keys
        everyone = ["macbook-1", "lab", "roof"]
        assert shown == {
            "ROOF": ["roof"],
            "lost": [],
            "!lab": ["macbook-1", "roof"],
            "!": everyone,
            "": everyone,
            "nothing has this": [],
        }


# --- keys and mouse -----------------------------------------------------------------------------------------


async def test_keys_move_the_cursor_and_keep_it_in_sight() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(many(40))
        seen = []
        for key in ("up", "down", "pagedown", "end", "down", "pageup", "home"):
            await pilot.press(key)
            marked = [line for line in await lines_of(app, pilot) if line.startswith("›")]
            seen.append((key, widget.cursor_key, len(marked)))
        assert seen == [
            ("up", "peer-00", 1),
            ("down", "peer-01", 1),
            ("pagedown", "peer-11", 1),
            ("end", "peer-39", 1),
            ("down", "peer-39", 1),
            ("pageup", "peer-29", 1),
            ("home", "peer-00", 1),
        ]


async def test_the_header_stays_while_rows_scroll() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(many(40))
        await pilot.press("end")
        lines = await lines_of(app, pilot)
        assert lines[0].split()[:3] == ["★", "NAME", "STATE"]
        assert [line.split()[0] for line in lines[1:5]] == ["peer-35", "peer-36", "peer-37", "peer-38"]


async def test_enter_and_a_double_click_open_and_a_click_selects() -> None:
    widget = table()
    async with alone(widget, (60, 6), message=LiveTable.Opened) as (_, pilot, posted):
        widget.set_rows(rows())
        await pilot.press("down", "enter")
        await pilot.click(widget, offset=(5, 3))
        assert widget.cursor_key == "roof"
        await pilot.click(widget, offset=(5, 1), times=2)
        await pilot.click(widget, offset=(5, 0), times=2)
        await pilot.click(widget, offset=(5, 5), times=2)
        assert [(opened.key, opened.control) for opened in posted] == [("lab", widget), ("macbook-1", widget)]


# --- drawing ------------------------------------------------------------------------------------------------


async def test_only_lines_that_say_something_else_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = table()
    async with alone(widget, (60, 10)) as (app, pilot, _):
        widget.set_rows(rows())
        await lines_of(app, pilot)
        drawn: list[int] = []
        draw = widget.render_line

        def counted(y: int) -> Any:
            drawn.append(y)
            return draw(y)

        monkeypatch.setattr(widget, "render_line", counted)
        widget.set_rows(rows())
        await lines_of(app, pilot)
        assert drawn == []
        widget.set_rows(rows(PEERS[0], ("lab", "● train", "3ms", "1B/s"), PEERS[2]))
        await lines_of(app, pilot)
        assert set(drawn) == {2}


async def test_a_row_that_is_gone_is_dim_and_the_cursor_stands_out() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows(rows())
        await lines_of(app, pilot)
        _, chosen, gone, other = app.screen._compositor.render_strips()[:4]
        (ground,) = {segment.style.bgcolor for segment in chosen if segment.text.strip()}
        assert ground not in {segment.style.bgcolor for segment in gone + other}
        colours = [next(s.style.color for s in line if s.text.strip()) for line in (gone, other)]
        assert colours[0] != colours[1]


async def test_a_selected_row_keeps_the_colours_of_its_state() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        widget.set_rows([Row(key, {"name": key, "doing": Text("✗ lost", style="bad")}) for key in ("a", "b")])
        await lines_of(app, pilot)
        chosen, other = app.screen._compositor.render_strips()[1:3]
        colours = [{s.style.color for s in line if "lost" in s.text} for line in (chosen, other)]
        assert colours[0] == colours[1]


async def test_colours_are_those_of_the_theme() -> None:
    widget = table()
    async with alone(widget, (60, 6)) as (app, pilot, _):
        cell = Text("✗ lost", style="bad")
        other = Row("first", {"name": "first"})
        widget.set_rows([other, Row("lab", {"name": "lab", "doing": cell})])
        await lines_of(app, pilot)
        assert any(palette_of(DARK)["bad"] in style for style in styles_of(app, "✗ lost"))
        app.theme = LIGHT.name
        await lines_of(app, pilot)
        await lines_of(app, pilot)
        assert any(palette_of(LIGHT)["bad"] in style for style in styles_of(app, "✗ lost"))


async def test_other_signs_are_drawn_when_they_are_asked_for() -> None:
    widget = table()
    async with alone(widget, (60, 3)) as (app, pilot, _):
        widget.set_rows(rows())
        widget.sort_by("name")
        await lines_of(app, pilot)
        widget.glyphs = glyphs(ascii_only=True)
        lines = await lines_of(app, pilot)
        assert lines[0] == " @ NAME-        STATE         RTT      UP"
        assert lines[2].startswith(">  macbook-1")


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
def test_cells_with_numbers_are_sorted_by_what_they_stand_for_the_largest_first(
    form: Callable[..., Any], values: list[float] | list[int]
) -> None:
    shuffled = random.Random(7).sample([form(value) for value in values], len(values))
    assert sorted(shuffled, key=by_value) == [form(value) for value in values]


def test_cells_without_a_number_come_last_in_any_case() -> None:
    assert sorted(["—", "me", "2ms", ""], key=by_value) == ["2ms", "", "me", "—"]


def test_words_are_sorted_by_the_alphabet_whatever_their_case() -> None:
    assert sorted(["shelf", "Attic", "roof", "3d"], key=by_word) == ["3d", "Attic", "roof", "shelf"]


@pytest.mark.parametrize(
    "text", ["9" * 400, "-", "▲", ".", "1e999", "9" * 200 + "d" + "9" * 200, "٣", "\x1b[2J"]
)
def test_a_hostile_cell_is_sorted_like_any_other(text: str) -> None:
    assert sorted([text, "1s"], key=by_value)
