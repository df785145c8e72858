from __future__ import annotations

import io

import pytest

from p2pfl.experiment.progress import ProgressLine, duration
from tests.support.simulated import row


def test_the_line_has_the_value_and_the_time_left() -> None:
    stream, ticks = io.StringIO(), iter([0.0, 10.0, 30.0])
    line = ProgressLine(stream, 4, "mine: ", clock=lambda: next(ticks))
    line.show(row(1), "accuracy")
    line.show(row(2, metrics={}), "accuracy")
    line.close()
    line.close()
    assert stream.getvalue() == (
        "\r\x1b[2Kmine: round 1 of 4, accuracy 0.5100, 30 s left"
        "\r\x1b[2Kmine: round 2 of 4, 30 s left"
        "\r\x1b[2K"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
