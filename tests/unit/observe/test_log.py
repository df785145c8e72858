from __future__ import annotations

import pytest

from p2pfl.events import AnyEvent, Measured, Notice, PeerLost, Published, SteppedDown, UpdateRefused
from p2pfl.observe.log import row_of


@pytest.mark.parametrize(
    ("event", "level", "peer", "kind"),
    [
        (Notice("info", "so it is"), "info", "", "notice"),
        (Notice("error", "it is bad"), "error", "", "notice"),
        (UpdateRefused(3, "ada", "not finite"), "warning", "ada", "update_refused"),
        (PeerLost("id", "ada", "silent"), "info", "ada", "peer_lost"),
        (SteppedDown(3, 1, "ben", "disk full"), "warning", "ben", "stepped_down"),
    ],
)
def test_a_row_says_how_bad_it_is_and_whom_it_is_about(
    event: AnyEvent, level: str, peer: str, kind: str
) -> None:
    row = row_of(Published(7, 12.5, event))
    assert row is not None
    assert (row.seq, row.time, row.level, row.peer, row.kind) == (7, 12.5, level, peer, kind)


def test_measurements_are_not_worth_a_row() -> None:
    assert row_of(Published(1, 0.0, Measured(0.1, 1, ()))) is None


def test_a_row_is_one_harmless_line() -> None:
    row = row_of(Published(1, 0.0, Notice("info", "a\x1b[2J\nb")))
    assert row is not None
    assert row.text.isprintable()
