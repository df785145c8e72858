from __future__ import annotations

import pytest

from p2pfl.learning.progress import ProgressLines


def _lines(times: list[float], done: list[int], capfd: pytest.CaptureFixture[str]) -> list[str]:
    clock = iter([0.0, *times])
    lines = ProgressLines("reading", 20_000, lambda: next(clock))
    for count in done:
        lines.update(count)
    return capfd.readouterr().err.splitlines()


def test_a_line_every_few_seconds_and_one_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    assert _lines([1.0, 3.5, 6.0, 6.6, 7.0], [1, 12_000, 15_000, 16_000, 20_000], capfd) == [
        "reading: 12,000 of 20,000",
        "reading: 16,000 of 20,000",
        "reading: all 20,000 in 7 s",
    ]


def test_what_is_quick_has_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert _lines([1.0, 2.0], [10_000, 20_000], capfd) == []
