from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from p2pfl.times import show_time, show_timestamp


def test_a_time_is_shown_in_utc_to_the_second() -> None:
    moment = datetime(2026, 3, 14, 1, 59, 26, 535897, tzinfo=timezone(timedelta(hours=2)))
    assert show_time(moment) == "2026-03-13 23:59:26 UTC"
    assert show_timestamp(moment.astimezone(UTC).timestamp()) == show_time(moment)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 1e300, -1e18])
def test_a_time_of_another_device_that_no_calendar_has_is_no_fault(seconds: float) -> None:
    assert show_timestamp(seconds) == "a time out of range"
