from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from p2pfl.identity.lifetime import CLOCK_ALLOWANCE, Lifetime, in_words

ISSUED = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def lifetime(length: timedelta) -> Lifetime:
    return Lifetime(ISSUED - CLOCK_ALLOWANCE, ISSUED + length)


@pytest.mark.parametrize("length", [timedelta(minutes=10), 365 * DAY])
def test_a_life_begins_when_the_certificate_was_made_and_not_where_its_dates_begin(length: timedelta) -> None:
    one = lifetime(length)
    assert (one.issued_at, one.length) == (ISSUED, length)
    assert one.renewed_from == one.not_after - length / 3


def test_the_dates_of_another_program_are_taken_as_they_are() -> None:
    one = Lifetime(ISSUED, ISSUED + timedelta(hours=6))
    assert (one.issued_at, one.length) == (ISSUED, timedelta(hours=6))


def test_devices_ask_at_times_of_their_own_after_a_third_before_the_end() -> None:
    one = lifetime(360 * DAY)
    assert one.asks_at(0.0) == one.not_after - 120 * DAY
    assert one.asks_at(1.0) == one.not_after - 90 * DAY


def test_the_end_of_a_year_is_announced_a_month_a_week_and_a_day_before() -> None:
    one = lifetime(365 * DAY)
    assert one.announced_at() == [one.not_after - before for before in (30 * DAY, 7 * DAY, DAY)]


def test_the_end_of_a_short_life_is_announced_after_it_could_have_been_renewed() -> None:
    one = lifetime(timedelta(minutes=10))
    seconds = [(one.not_after - at).total_seconds() for at in one.announced_at()]
    assert seconds == [150, 50, 15]
    assert one.announced_at()[0] > one.asks_at(1.0) - timedelta(seconds=1)


def test_a_life_ends_after_its_last_moment() -> None:
    one = lifetime(DAY)
    assert not one.has_ended(one.not_after)
    assert one.has_ended(one.not_after + timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (19.9 * DAY, "19 days"),
        (DAY, "1 day"),
        (timedelta(hours=23, minutes=59), "23 hours"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(seconds=59), "0 minutes"),
        (-DAY, "0 minutes"),
    ],
)
def test_a_time_that_is_left_is_said_in_its_largest_unit(left: timedelta, words: str) -> None:
    assert in_words(left) == words
