from __future__ import annotations

from datetime import UTC, datetime, timedelta

from p2pfl.identity.lifetime import CLOCK_ALLOWANCE, Lifetime
from p2pfl.identity.renewal_plan import ANSWER, LONGEST_SPREAD, Announce, Ask, RenewalPlan

MADE = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
YEAR = Lifetime(MADE - CLOCK_ALLOWANCE, MADE + 360 * DAY)
DUE = MADE + 240 * DAY


def plan(now: datetime, *holders: str, place: float = 0.0, lifetime: Lifetime = YEAR) -> RenewalPlan:
    return RenewalPlan(lifetime, now, lambda: place, holders)


def test_nothing_is_asked_before_a_third_of_the_life_is_left() -> None:
    one = plan(MADE, "ca")
    assert one.wake_at() == DUE
    assert one.tick(DUE - SECOND) == []
    assert one.tick(DUE) == [Ask("ca")]
    assert one.is_awaited_from("ca")
    assert not one.is_awaited_from("other")


def test_each_device_asks_at_a_time_of_its_own() -> None:
    times = [plan(MADE, "ca", place=place).wake_at() for place in (0.0, 0.5, 1.0)]
    assert times == [DUE, DUE + 15 * DAY, DUE + 30 * DAY]


def test_a_device_that_is_due_at_its_start_asks_within_a_minute() -> None:
    now = MADE + 330 * DAY
    assert [plan(now, "ca", place=place).wake_at() for place in (0.0, 0.5, 1.0)] == [
        now,
        now + LONGEST_SPREAD / 2,
        now + LONGEST_SPREAD,
    ]


def test_without_a_holder_nothing_is_asked_until_one_comes() -> None:
    one = plan(DUE, place=0.5)
    later = DUE + 20 * DAY
    assert one.tick(later) == []
    one.holder_came("ca", later)
    assert one.tick(later) == []
    assert one.tick(later + LONGEST_SPREAD / 2) == [Ask("ca")]


def test_a_holder_that_comes_twice_counts_once_and_does_not_delay() -> None:
    one = plan(DUE, "ca", place=0.5)
    later = DUE + 20 * DAY
    one.holder_came("ca", later)
    assert one.holders == ("ca",)
    assert one.tick(later) == [Ask("ca")]


def test_a_refusal_is_followed_by_another_holder_after_a_wait_that_doubles() -> None:
    one = plan(DUE, "ca", "cb")
    assert one.tick(DUE) == [Ask("ca")]
    waits = []
    now = DUE
    for expected in ("cb", "ca", "cb", "ca", "cb", "ca", "cb"):
        one.failed(now)
        at = one.wake_at()
        assert at is not None
        waits.append(at - now)
        now = at
        assert one.tick(now) == [Ask(expected)]
    assert waits == [timedelta(hours=hours) / 2 for hours in (1, 2, 4, 8, 16, 24, 24)]


def test_a_certificate_of_minutes_is_asked_for_again_after_seconds() -> None:
    short = Lifetime(MADE - CLOCK_ALLOWANCE, MADE + timedelta(minutes=10))
    now = MADE + timedelta(minutes=7)
    one = plan(now, "ca", lifetime=short)
    assert one.tick(now) == [Ask("ca")]
    one.failed(now)
    assert one.wake_at() == now + 1.5 * SECOND


def test_an_answer_that_does_not_come_is_a_failure() -> None:
    one = plan(DUE, "ca")
    one.tick(DUE)
    assert one.wake_at() == DUE + ANSWER
    assert one.tick(DUE + ANSWER) == []
    assert not one.is_awaited_from("ca")
    assert one.wake_at() == DUE + ANSWER + timedelta(minutes=30)


def test_a_holder_that_goes_while_it_is_asked_is_a_failure() -> None:
    one = plan(DUE, "ca", "cb")
    one.tick(DUE)
    one.holder_went("ca", DUE)
    assert not one.is_awaited_from("ca")
    assert one.holders == ("cb",)
    assert one.tick(DUE + timedelta(minutes=30)) == [Ask("cb")]
    one.holder_went("unknown", DUE)


def test_the_end_is_announced_three_times_and_its_passing_once() -> None:
    one = plan(MADE)
    told = []
    for _ in range(4):
        at = one.wake_at()
        assert at is not None
        assert one.tick(at - SECOND / 10) == []
        told.append((YEAR.not_after - at, one.tick(at)))
        assert one.tick(at) == []
    before = [left.total_seconds() / DAY.total_seconds() for left, _ in told]
    assert [round(left) for left in before] == [30, 7, 1, 0]
    assert [steps for _, steps in told] == [[Announce(has_ended=False)]] * 3 + [[Announce(has_ended=True)]]
    assert one.wake_at() is None


def test_a_device_that_starts_late_is_told_once_after_holders_had_time_to_be_linked() -> None:
    now = YEAR.not_after - 3 * DAY
    one = plan(now)
    assert one.tick(now) == []
    assert one.wake_at() == now + LONGEST_SPREAD
    assert one.tick(now + LONGEST_SPREAD) == [Announce(has_ended=False)]
    assert one.tick(now + LONGEST_SPREAD) == []


def test_an_expired_certificate_is_not_asked_for() -> None:
    after = YEAR.not_after + DAY
    one = plan(after, "ca")
    assert one.tick(after + LONGEST_SPREAD) == [Announce(has_ended=True)]
    assert one.wake_at() is None
