from __future__ import annotations

import asyncio

import pytest

from p2pfl.net.bulk.request import PROGRESS_SECONDS, throttled

Reports = list[tuple[str, int, int]]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The event loop's clock, as a list of one."""
    clock = [100.0]
    loop = type("Loop", (), {"time": lambda _: clock[0]})()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return clock


def test_a_fast_transfer_reports_first_and_last(now: list[float]) -> None:
    told: Reports = []
    report = throttled(lambda *one: told.append(one))
    for done in range(1, 101):
        report("ben", done, 100)
    assert told == [("ben", 1, 100), ("ben", 100, 100)]


def test_a_long_transfer_reports_at_most_four_times_a_second(now: list[float]) -> None:
    told: Reports = []
    report = throttled(lambda *one: told.append(one))
    for done in range(1000):
        report("ben", done, 10_000)
        now[0] += 0.01
    assert 1 / PROGRESS_SECONDS == 4
    assert 36 <= len(told) <= 41


def test_transfers_are_throttled_independently(now: list[float]) -> None:
    told: Reports = []
    for peer in ("ben", "cleo"):
        throttled(lambda *one: told.append(one))(peer, 1, 100)
    assert told == [("ben", 1, 100), ("cleo", 1, 100)]


def test_without_a_callback_nothing_is_reported(now: list[float]) -> None:
    throttled(None)("ben", 100, 100)
