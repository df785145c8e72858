import pytest
from rich.cells import cell_len

from tests.support.drawn import plain
from tests.support.recordings import HOSTILE
from tui.symbols import glyphs
from tui.widgets.gantt import GanttRow, Span, draw_gantt

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)
ROWS = [
    GanttRow(
        "macbook-1",
        False,
        (Span("train", 0, 8.2), Span("transfer", 8.2, 10.1), Span("aggregate", 14.5, 15.0)),
        " .957  20%",
    ),
    GanttRow("roof-jetson", True, (Span("train", 0, 9.3), Span("aggregate", 14.5, 15.0)), " .947  13%"),
    GanttRow("日本語のデバイス名前", False, (Span("train", 0, 14.0),), " .940   8%"),
    GanttRow("attic-nuc", False, (), "nothing was heard from it"),
]


def test_who_did_what_when() -> None:
    assert (
        plain(draw_gantt(ROWS, 15.0, 78, UNICODE))
        == """
                0s              5               10              15
 macbook-1      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒··············░░   .957  20%
★roof-jetson    ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓················░░   .947  13%
 日本語のデバ…  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓···   .940   8%
 attic-nuc      ✗ nothing was heard from it

 ▓ train  ▒ transfer  ░ aggregate  · idle"""
    )


def test_in_ascii_every_part_has_a_sign_of_its_own() -> None:
    drawn = draw_gantt([*ROWS[:2], ROWS[3]], 15.0, 60, ASCII)
    assert all(line.plain.isascii() for line in drawn)
    assert (
        plain(drawn)
        == """
                0s        5         10        15
 macbook-1      ################====.........-   .957  20%
@roof-jetson    ###################..........-   .947  13%
 attic-nuc      x nothing was heard from it

 # train  = transfer  - aggregate  . idle"""
    )


def test_a_short_part_is_seen() -> None:
    row = GanttRow("a", False, (Span("train", 0, 1000), Span("aggregate", 1000, 1000.01)), "")
    assert "░" in draw_gantt([row], 1000.01, 60, UNICODE)[1].plain


@pytest.mark.parametrize("total", [0.0, 0.1, 0.7, 15.0, 3599.0, 8.64e4, 1e9])
@pytest.mark.parametrize("width", [0, 1, 20, 40, 80, 200])
def test_it_fits_any_width_and_length(width: int, total: float) -> None:
    rows = [*ROWS, GanttRow(HOSTILE, True, (Span("train", -1.0, 2 * total),), HOSTILE)]
    drawn = draw_gantt(rows, total, width, UNICODE)
    assert all(cell_len(line.plain) <= width for line in drawn)
    assert len(drawn) == (len(rows) + 3 if width else 0)


def test_labels_of_the_axis_stand_apart() -> None:
    for total in (0.3, 1.0, 4.2, 22.8, 61.0, 599.0, 86_400.0):
        axis = draw_gantt([], total, 78, UNICODE)[0].plain.split()
        assert 2 <= len(axis) <= 8, axis
        assert axis[0] == "0s"
        assert [float(label) for label in axis[1:]] == sorted({float(label) for label in axis[1:]})


def test_where_there_is_room_names_and_notes_are_whole() -> None:
    name, note = "a-name-longer-than-usual", " .957  20%   3.1M  cut at 10 of 30"
    drawn = plain(draw_gantt([GanttRow(name, True, ROWS[0].spans, note)], 15.0, 118, UNICODE))
    assert name in drawn
    assert note in drawn
