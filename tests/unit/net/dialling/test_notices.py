from __future__ import annotations

import pytest

from p2pfl.net.dialling.notices import (
    FAILURE_REPEAT_SECONDS,
    GRACE_SECONDS,
    MAX_REMEMBERED,
    REFUSAL_REPEAT_SECONDS,
    RefusalNotices,
    UnreachableAddresses,
)


class Refusals:
    def __init__(self) -> None:
        self.now = 100.0
        self.notices: list[tuple[str, str]] = []
        self.refusals = RefusalNotices(lambda *notice: self.notices.append(notice), lambda: self.now)

    def refused(self, address: str, reason: str) -> int:
        self.refusals.report(address, reason)
        return len(self.notices)


def test_a_refusal_notice_repeats_only_after_a_minute() -> None:
    refusals = Refusals()
    assert refusals.refused("a:1", "no TLS") == 1
    refusals.now += REFUSAL_REPEAT_SECONDS - 1
    assert refusals.refused("a:1", "no TLS") == 1
    refusals.now += 1
    assert refusals.refused("a:1", "no TLS") == 2


def test_a_refusal_to_be_told_once_is_not_repeated() -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.refusals.report("a:1", "p2pfl 0.2 there", once=True)
        refusals.now += 2 * REFUSAL_REPEAT_SECONDS
    assert refusals.notices == [("a:1", "p2pfl 0.2 there")]


def test_another_address_or_reason_is_reported_at_once() -> None:
    refusals = Refusals()
    assert refusals.refused("a:1", "no TLS") == 1
    assert refusals.refused("b:1", "no TLS") == 2
    assert refusals.refused("a:1", "another CA") == 3


def test_a_reason_that_differs_only_in_the_time_is_a_repeat() -> None:
    refusals = Refusals()
    assert refusals.refused("a:1", "expired; the clock shows 10:00:01") == 1
    assert refusals.refused("a:1", "expired; the clock shows 10:00:06") == 1


def test_remembered_refusals_are_bounded() -> None:
    refusals = Refusals()
    for number in range(MAX_REMEMBERED + 10):
        refusals.refused(f"{number:x}:", "no TLS")
    assert len(refusals.refusals._sent) == MAX_REMEMBERED


class Failures:
    def __init__(self) -> None:
        self.now = 0.0
        self.notices: list[tuple[str, str, bool]] = []
        self.unreached = UnreachableAddresses(lambda *notice: self.notices.append(notice), lambda: self.now)

    def fail(self, now: float, reason: str, *, is_refused: bool = False) -> None:
        self.now = now
        self.unreached.failed("bee:1", reason, is_refused=is_refused)


@pytest.fixture
def failures() -> Failures:
    return Failures()


def test_a_device_that_starts_within_the_grace_time_is_not_reported(failures: Failures) -> None:
    failures.fail(0.0, "nothing listens there")
    failures.fail(GRACE_SECONDS - 1, "nothing listens there")
    failures.unreached.reached("bee:1")
    assert failures.notices == []
    assert failures.unreached.reasons == {}


def test_a_reason_is_reported_once_after_the_grace_time(failures: Failures) -> None:
    for now in (0.0, GRACE_SECONDS, 100.0, 200.0):
        failures.fail(now, "nothing listens there")
    assert failures.notices == [("bee:1", "nothing listens there", False)]
    assert failures.unreached.reasons == {"bee:1": "nothing listens there"}


def test_a_changed_reason_is_reported_again_but_not_too_often(failures: Failures) -> None:
    failures.fail(0.0, "a")
    failures.fail(GRACE_SECONDS, "a")
    failures.fail(GRACE_SECONDS + 1, "b")
    failures.fail(GRACE_SECONDS + FAILURE_REPEAT_SECONDS, "b", is_refused=True)
    assert failures.notices == [("bee:1", "a", False), ("bee:1", "b", True)]


def test_the_time_in_a_reason_makes_no_changed_reason(failures: Failures) -> None:
    failures.fail(0.0, "it shows 10:00")
    failures.fail(50.0, "it shows 10:50")
    failures.fail(99.0, "it shows 11:39")
    assert len(failures.notices) == 1


def test_a_reached_address_is_reported_if_its_failure_was(failures: Failures) -> None:
    failures.fail(0.0, "a")
    failures.fail(GRACE_SECONDS, "a")
    failures.unreached.reached("bee:1")
    failures.unreached.reached("bee:1")
    assert failures.notices == [("bee:1", "a", False), ("bee:1", "", False)]
