from __future__ import annotations

import pytest

from p2pfl.errors import BlobError
from p2pfl.net.bulk.holders import (
    FACTOR,
    FORGET_SECONDS,
    HEAD_START_SECONDS,
    MAX_REMEMBERED,
    MOST_SECONDS,
    PROBE_SECONDS,
    REPEAT_SECONDS,
    Barred,
    Blame,
    Plan,
    Ways,
)


def test_a_node_rests_several_times_as_long_as_its_failed_try_took() -> None:
    barred = Barred()
    barred.failed("ant", "no answer", 103.0, 105.0)
    assert barred.reason("ant", 105.0 + 2 * FACTOR - 0.1) == "no answer"
    assert barred.reason("ant", 105.0 + 2 * FACTOR) is None
    assert barred.reason("bee", 105.0) is None


def test_a_quick_failure_bars_nobody_unless_a_least_rest_is_wanted() -> None:
    eager, calm = Barred(), Barred(1.0)
    for barred in (eager, calm):
        barred.failed("ant", "refused", 100.0, 100.0)
    assert eager.reason("ant", 100.0) is None
    assert calm.reason("ant", 100.9) == "refused"
    assert calm.reason("ant", 101.0) is None


def test_nobody_rests_for_ever_and_a_forgotten_node_not_at_all() -> None:
    barred = Barred()
    barred.failed("ant", "no answer", 0.0, 1000.0)
    assert barred.reason("ant", 1000.0 + MOST_SECONDS) is None
    barred.failed("ant", "no answer", 0.0, 1000.0)
    barred.forget("ant")
    assert barred.reason("ant", 1000.0) is None


def test_the_oldest_unreachable_node_is_forgotten_when_there_are_too_many() -> None:
    barred = Barred(9.0)
    for number in range(MAX_REMEMBERED + 1):
        barred.failed(str(number), "refused", 0.0, 0.0)
    assert barred.reason("0", 0.0) is None
    assert barred.reason("1", 0.0) == "refused"


DIAL_FIRST = Plan(("dial", "call"), HEAD_START_SECONDS)


def test_an_unknown_node_is_dialled_first() -> None:
    assert Ways().plan("ant", 0.0) == DIAL_FIRST


def test_a_node_that_was_called_with_success_is_called_first_without_waiting_for_a_dial() -> None:
    ways = Ways()
    ways.worked("ant", "call", 100.0)
    assert ways.plan("ant", 100.0 + PROBE_SECONDS - 1) == Plan(("call", "dial"), HEAD_START_SECONDS)
    assert ways.plan("bee", 100.0) == DIAL_FIRST


def test_now_and_then_both_are_tried_at_once() -> None:
    ways = Ways()
    ways.worked("ant", "call", 100.0)
    assert ways.plan("ant", 100.0 + PROBE_SECONDS) == Plan(("dial", "call"), 0.0)


def test_a_dial_that_worked_puts_the_dial_first_again_and_so_does_a_dialled_link() -> None:
    ways = Ways()
    ways.worked("ant", "call", 100.0)
    ways.worked("ant", "dial", 101.0)
    assert ways.plan("ant", 102.0) == DIAL_FIRST
    ways.worked("ant", "call", 100.0)
    ways.forget("ant")
    assert ways.plan("ant", 102.0) == DIAL_FIRST


def test_the_oldest_direction_is_forgotten_when_there_are_too_many() -> None:
    ways = Ways()
    for number in range(MAX_REMEMBERED + 1):
        ways.worked(str(number), "call", 0.0)
    assert ways.plan("0", 1.0) == DIAL_FIRST
    assert ways.plan("1", 1.0) != DIAL_FIRST


WRONG = BlobError("other bytes")


def test_who_gave_wrong_bytes_is_not_asked_for_that_blob_for_a_while_but_for_others() -> None:
    blame = Blame()
    blame.blame("ant", "pi", "d1", WRONG, 100.0)
    assert blame.error("ant", "d1", 100.0 + FORGET_SECONDS - 1) is WRONG
    assert blame.error("ant", "d2", 101.0) is None
    assert blame.error("bee", "d1", 101.0) is None
    assert blame.error("ant", "d1", 100.0 + FORGET_SECONDS) is None, "it may have mended its disk"


def test_the_log_names_a_holder_once_a_minute_at_most(caplog: pytest.LogCaptureFixture) -> None:
    blame = Blame()
    for number, now in enumerate((100.0, 101.0, 100.0 + REPEAT_SECONDS)):
        blame.blame("ant", "pi", f"d{number}", WRONG, now)
    blame.blame("bee", "laptop", "d0", WRONG, 101.0)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["pi", "pi", "laptop"]
    assert "pi gave wrong bytes and is not asked for that blob again: other bytes" in caplog.text


def test_the_oldest_corrupt_holder_is_forgotten_when_there_are_too_many() -> None:
    blame = Blame()
    for number in range(MAX_REMEMBERED + 1):
        blame.blame("ant", "pi", str(number), WRONG, 0.0)
    assert blame.error("ant", "0", 1.0) is None
    assert blame.error("ant", "1", 1.0) is WRONG
