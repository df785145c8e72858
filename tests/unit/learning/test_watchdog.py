from __future__ import annotations

import pytest

from p2pfl.learning.watchdog import SILENT_TICKS, UNKNOWN_SECONDS, StallDetector, Watchdog


def test_only_looks_in_a_row_without_a_frame_count_as_silence() -> None:
    watchdog = Watchdog()
    for _ in range(SILENT_TICKS - 1):
        assert not watchdog.is_silent()
    watchdog.heard = True
    assert [watchdog.is_silent() for _ in range(SILENT_TICKS + 1)] == [False] * SILENT_TICKS + [True]


def looks(stall: StallDetector, *expected: float | None, count: int, tick: float = 5.0) -> list[bool]:
    return [stall.is_stalled(expected, tick) for _ in range(count)]


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [((4.0,), 100.0), ((4.0, 1.0), 100.0), ((0.0,), 60.0)],
)
def test_a_job_hangs_after_many_times_what_the_longest_is_to_take(
    expected: tuple[float, ...], seconds: float
) -> None:
    stall = StallDetector(10.0, 60.0)
    assert looks(stall, *expected, count=int(seconds / 5) + 1) == [False] * int(seconds / 5) + [True]


def test_progress_begins_the_count_anew() -> None:
    stall = StallDetector(10.0, 60.0)
    assert not any(looks(stall, 1.0, count=14))
    stall.note_progress()
    assert not any(looks(stall, 1.0, count=14))
    assert stall.stalled_seconds == 70.0


@pytest.mark.parametrize("expected", [(None,), (1.0, None)])
def test_a_job_of_which_nothing_is_known_may_take_an_hour(expected: tuple[float | None, ...]) -> None:
    ticks = int(UNKNOWN_SECONDS / 5)
    assert looks(StallDetector(10.0, 60.0), *expected, count=ticks + 1) == [False] * ticks + [True]


def test_time_without_a_job_does_not_count() -> None:
    stall = StallDetector(10.0, 60.0)
    assert not any(looks(stall, count=1000))
    assert not any(looks(stall, 1.0, count=14))
