from __future__ import annotations

from p2pfl.net.dialling.notices import (
    DOUBT_SECONDS,
    MAX_REMEMBERED,
    REFUSAL_REPEAT_SECONDS,
    CopyDoubts,
    RefusalNotices,
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


def test_a_copy_is_confirmed_by_a_second_claim_that_is_behind() -> None:
    now = [100.0]
    doubts = CopyDoubts(lambda: now[0])
    assert not doubts.is_confirmed("bee")
    assert not doubts.is_confirmed("bee"), "two connections at the same time show the same claim"
    now[0] += DOUBT_SECONDS
    assert doubts.is_confirmed("bee")
    assert not doubts.is_confirmed("cow")
    doubts.settle("bee")
    assert not doubts.is_confirmed("bee")


def test_the_number_of_doubts_is_bounded() -> None:
    now = [100.0]
    doubts = CopyDoubts(lambda: now[0])
    for number in range(MAX_REMEMBERED + 1):
        doubts.is_confirmed(f"node {number}")
    now[0] += DOUBT_SECONDS
    assert doubts.is_confirmed("node 0")
    assert not doubts.is_confirmed(f"node {MAX_REMEMBERED}")
