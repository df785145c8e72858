from __future__ import annotations

import pytest

from p2pfl.net.dialling.notices import (
    FAILURE_REPEAT_SECONDS,
    GRACE_SECONDS,
    MAX_REMEMBERED,
    REFUSAL_REPEAT_SECONDS,
    Refusals,
    UnreachableAddresses,
)


class Told:
    def __init__(self) -> None:
        self.now = 100.0
        self.sentences: list[tuple[str, str]] = []
        self.refusals = Refusals(lambda *sentence: self.sentences.append(sentence), lambda: self.now)

    def refused(self, address: str, reason: str) -> int:
        self.refusals.refused(address, reason)
        return len(self.sentences)


def test_a_sentence_is_repeated_after_a_minute_only() -> None:
    told = Told()
    assert told.refused("a:1", "no TLS") == 1
    told.now += REFUSAL_REPEAT_SECONDS - 1
    assert told.refused("a:1", "no TLS") == 1
    told.now += 1
    assert told.refused("a:1", "no TLS") == 2


def test_another_address_or_reason_is_told_at_once() -> None:
    told = Told()
    assert told.refused("a:1", "no TLS") == 1
    assert told.refused("b:1", "no TLS") == 2
    assert told.refused("a:1", "another CA") == 3


def test_a_sentence_that_differs_by_the_clock_it_shows_is_a_repetition() -> None:
    told = Told()
    assert told.refused("a:1", "expired; the clock shows 10:00:01") == 1
    assert told.refused("a:1", "expired; the clock shows 10:00:06") == 1


def test_strangers_cannot_fill_the_memory() -> None:
    told = Told()
    for number in range(MAX_REMEMBERED + 10):
        told.refused(f"{number:x}:", "no TLS")
    assert len(told.refusals._told) == MAX_REMEMBERED


class Failures:
    def __init__(self) -> None:
        self.now = 0.0
        self.words: list[tuple[str, str, bool]] = []
        self.unreached = UnreachableAddresses(lambda *words: self.words.append(words), lambda: self.now)

    def fail(self, now: float, reason: str, *, is_refused: bool = False) -> None:
        self.now = now
        self.unreached.failed("bee:1", reason, is_refused=is_refused)


@pytest.fixture
def failures() -> Failures:
    return Failures()


def test_devices_that_start_a_moment_later_are_not_complained_of(failures: Failures) -> None:
    failures.fail(0.0, "nothing listens there")
    failures.fail(GRACE_SECONDS - 1, "nothing listens there")
    failures.unreached.reached("bee:1")
    assert failures.words == []
    assert failures.unreached.reasons == {}


def test_a_reason_is_told_once_after_the_grace(failures: Failures) -> None:
    for now in (0.0, GRACE_SECONDS, 100.0, 200.0):
        failures.fail(now, "nothing listens there")
    assert failures.words == [("bee:1", "nothing listens there", False)]
    assert failures.unreached.reasons == {"bee:1": "nothing listens there"}


def test_another_reason_is_told_again_but_not_too_often(failures: Failures) -> None:
    failures.fail(0.0, "a")
    failures.fail(GRACE_SECONDS, "a")
    failures.fail(GRACE_SECONDS + 1, "b")
    failures.fail(GRACE_SECONDS + FAILURE_REPEAT_SECONDS, "b", is_refused=True)
    assert failures.words == [("bee:1", "a", False), ("bee:1", "b", True)]


def test_a_clock_in_a_reason_makes_no_other_reason(failures: Failures) -> None:
    failures.fail(0.0, "it shows 10:00")
    failures.fail(50.0, "it shows 10:50")
    failures.fail(99.0, "it shows 11:39")
    assert len(failures.words) == 1


def test_that_an_address_leads_somewhere_is_told_where_the_contrary_was(failures: Failures) -> None:
    failures.fail(0.0, "a")
    failures.fail(GRACE_SECONDS, "a")
    failures.unreached.reached("bee:1")
    failures.unreached.reached("bee:1")
    assert failures.words == [("bee:1", "a", False), ("bee:1", "", False)]
