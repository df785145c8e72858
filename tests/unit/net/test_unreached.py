from __future__ import annotations

import pytest

from p2pfl.net.unreached import GRACE_SECONDS, REPEAT_SECONDS, UnreachableAddresses


class Told:
    def __init__(self) -> None:
        self.now = 0.0
        self.words: list[tuple[str, str, bool]] = []
        self.unreached = UnreachableAddresses(lambda *words: self.words.append(words), lambda: self.now)

    def fail(self, now: float, reason: str, *, is_refused: bool = False) -> None:
        self.now = now
        self.unreached.failed("bee:1", reason, is_refused=is_refused)


@pytest.fixture
def told() -> Told:
    return Told()


def test_devices_that_start_a_moment_later_are_not_complained_of(told: Told) -> None:
    told.fail(0.0, "nothing listens there")
    told.fail(GRACE_SECONDS - 1, "nothing listens there")
    told.unreached.reached("bee:1")
    assert told.words == []
    assert told.unreached.reasons == {}


def test_a_reason_is_told_once_after_the_grace(told: Told) -> None:
    for now in (0.0, GRACE_SECONDS, 100.0, 200.0):
        told.fail(now, "nothing listens there")
    assert told.words == [("bee:1", "nothing listens there", False)]
    assert told.unreached.reasons == {"bee:1": "nothing listens there"}


def test_another_reason_is_told_again_but_not_too_often(told: Told) -> None:
    told.fail(0.0, "a")
    told.fail(GRACE_SECONDS, "a")
    told.fail(GRACE_SECONDS + 1, "b")
    told.fail(GRACE_SECONDS + REPEAT_SECONDS, "b", is_refused=True)
    assert told.words == [("bee:1", "a", False), ("bee:1", "b", True)]


def test_a_clock_in_a_reason_makes_no_other_reason(told: Told) -> None:
    told.fail(0.0, "it shows 10:00")
    told.fail(50.0, "it shows 10:50")
    told.fail(99.0, "it shows 11:39")
    assert len(told.words) == 1


def test_that_an_address_leads_somewhere_is_told_where_the_contrary_was(told: Told) -> None:
    told.fail(0.0, "a")
    told.fail(GRACE_SECONDS, "a")
    told.unreached.reached("bee:1")
    told.unreached.reached("bee:1")
    assert told.words == [("bee:1", "a", False), ("bee:1", "", False)]
