from __future__ import annotations

from p2pfl.net.refusals import MAX_REMEMBERED, REPEAT_SECONDS, Refusals


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
    told.now += REPEAT_SECONDS - 1
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
