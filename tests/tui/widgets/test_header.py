from typing import get_args

import pytest

from p2pfl.observe.state import Phase
from tests.support.recordings import HOSTILE
from tui.symbols import glyphs
from tui.widgets.header import HeaderValues, draw_header, draw_keys

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)
VALUES = HeaderValues(
    task="digits",
    node="macbook-1",
    phase="RUNNING",
    phase_kind="running",
    trained=42,
    rounds=100,
    value=0.9612,
    change=0.0011,
    reachable=5,
    members=6,
    remaining=780.0,
    attached="operator@192.0.2.20:9000",
)
KEYS = [
    ("1-5", "screens"),
    ("⏎", "open"),
    ("p", "pause"),
    ("x", "stop"),
    ("?", "help"),
    ("^p", "commands"),
    ("q", "detach"),
]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (10, " ● RUNNING"),
        (30, " ● RUNNING  r42/100  acc .9612"),
        (60, " ● RUNNING  r42/100  acc .9612  ▲.0011  5/6 members!  !1"),
        (80, " digits  ● RUNNING  r42/100  acc .9612  ▲.0011  5/6 members!  !1  ETA 13m"),
        (
            120,
            " digits  ● RUNNING  r42/100  ▇▇▇▇▇▇▇·········  acc .9612  ▲.0011  5/6 members!  !1  ETA 13m  operator@192.0.2.20:9000",
        ),
    ],
)
def test_what_matters_least_goes_first_where_there_is_no_room(width: int, expected: str) -> None:
    assert draw_header(VALUES, width, UNICODE, problems=1).plain == expected


def test_in_ascii_the_line_has_the_same_words() -> None:
    line = draw_header(VALUES, 80, ASCII).plain
    assert line == " digits  * RUNNING  r42/100  acc .9612  +.0011  5/6 members!  ETA 13m"


def test_before_a_run_there_is_no_round_and_no_accuracy() -> None:
    values = VALUES._replace(
        phase="WAITING", phase_kind="waiting", rounds=0, value=None, members=0, remaining=None
    )
    assert draw_header(values, 80, UNICODE).plain == " digits  ○ WAITING  operator@192.0.2.20:9000"


def test_a_run_without_a_known_end_has_only_its_round() -> None:
    assert draw_header(VALUES._replace(rounds=0), 30, UNICODE).plain == " ● RUNNING  r42  acc .9612"


def test_a_whole_accuracy_keeps_its_one() -> None:
    assert "acc 1.0000" in draw_header(VALUES._replace(value=1.0, change=None), 80, UNICODE).plain


@pytest.mark.parametrize("phase", get_args(Phase))
def test_every_phase_of_a_node_has_a_sign(phase: str) -> None:
    values = VALUES._replace(phase_kind=phase)
    assert draw_header(values, 80, ASCII).plain.isascii()
    assert draw_header(values, 80, UNICODE).plain != draw_header(values, 80, ASCII).plain


def test_it_fits_any_width_whatever_others_call_themselves() -> None:
    for width in range(1, 130):
        line = draw_header(VALUES._replace(task=HOSTILE, attached=HOSTILE * 9), width, UNICODE, problems=99)
        assert line.cell_len <= width
        assert line.plain.isprintable()


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (12, " q detach"),
        (40, " ? help  ^p commands  q detach"),
        (60, " 1-5 screens  ⏎ open  p pause  ? help  ^p commands  q detach"),
        (90, " 1-5 screens  ⏎ open  p pause  x stop  ? help  ^p commands  q detach"),
    ],
)
def test_how_to_get_help_and_out_is_told_at_any_width(width: int, expected: str) -> None:
    assert draw_keys(KEYS, width).plain.rstrip() == expected


def test_the_line_of_keys_fits() -> None:
    assert all(draw_keys(KEYS, width).cell_len <= max(1, width) for width in range(100))


def test_another_strategy_than_fedavg_is_shown_where_there_is_room() -> None:
    values = VALUES._replace(strategy="trimmed-mean")
    assert " digits  trimmed-mean  ● RUNNING" in draw_header(values, 120, UNICODE).plain
    assert "trimmed-mean" not in draw_header(values, 60, UNICODE).plain
