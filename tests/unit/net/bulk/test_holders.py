from __future__ import annotations

import pytest

from p2pfl.errors import BlobError
from p2pfl.net.bulk.holders import (
    BACKOFF_FACTOR,
    CORRUPT_SECONDS,
    DIRECTION_DELAY_SECONDS,
    LOG_SECONDS,
    MAX_BACKOFF_SECONDS,
    MAX_REMEMBERED,
    REDIAL_SECONDS,
    CorruptHolders,
    DialBackoff,
    DialDirections,
    DialPlan,
)


def test_the_back_off_is_a_multiple_of_the_duration_of_the_failed_attempt() -> None:
    backoff = DialBackoff()
    backoff.failed("ant", "no answer", 103.0, 105.0)
    assert backoff.reason("ant", 105.0 + 2 * BACKOFF_FACTOR - 0.1) == "no answer"
    assert backoff.reason("ant", 105.0 + 2 * BACKOFF_FACTOR) is None
    assert backoff.reason("bee", 105.0) is None


def test_a_quick_failure_has_no_back_off_unless_there_is_a_minimum() -> None:
    eager, calm = DialBackoff(), DialBackoff(1.0)
    for backoff in (eager, calm):
        backoff.failed("ant", "refused", 100.0, 100.0)
    assert eager.reason("ant", 100.0) is None
    assert calm.reason("ant", 100.9) == "refused"
    assert calm.reason("ant", 101.0) is None


def test_the_back_off_is_bounded_and_a_forgotten_node_has_none() -> None:
    backoff = DialBackoff()
    backoff.failed("ant", "no answer", 0.0, 1000.0)
    assert backoff.reason("ant", 1000.0 + MAX_BACKOFF_SECONDS) is None
    backoff.failed("ant", "no answer", 0.0, 1000.0)
    backoff.forget("ant")
    assert backoff.reason("ant", 1000.0) is None


def test_the_oldest_unreachable_node_is_forgotten_when_there_are_too_many() -> None:
    backoff = DialBackoff(9.0)
    for number in range(MAX_REMEMBERED + 1):
        backoff.failed(str(number), "refused", 0.0, 0.0)
    assert backoff.reason("0", 0.0) is None
    assert backoff.reason("1", 0.0) == "refused"


DIAL_FIRST = DialPlan(("dial", "dial back"), DIRECTION_DELAY_SECONDS)


def test_an_unknown_node_is_dialled_first() -> None:
    assert DialDirections().plan("ant", 0.0) == DIAL_FIRST


def test_after_a_dial_back_worked_it_is_tried_first() -> None:
    directions = DialDirections()
    directions.worked("ant", "dial back", 100.0)
    assert directions.plan("ant", 100.0 + REDIAL_SECONDS - 1) == DialPlan(
        ("dial back", "dial"), DIRECTION_DELAY_SECONDS
    )
    assert directions.plan("bee", 100.0) == DIAL_FIRST


def test_from_time_to_time_both_directions_are_tried_at_once() -> None:
    directions = DialDirections()
    directions.worked("ant", "dial back", 100.0)
    assert directions.plan("ant", 100.0 + REDIAL_SECONDS) == DialPlan(("dial", "dial back"), 0.0)


def test_after_a_dial_or_a_dialled_link_dialling_is_tried_first_again() -> None:
    directions = DialDirections()
    directions.worked("ant", "dial back", 100.0)
    directions.worked("ant", "dial", 101.0)
    assert directions.plan("ant", 102.0) == DIAL_FIRST
    directions.worked("ant", "dial back", 100.0)
    directions.forget("ant")
    assert directions.plan("ant", 102.0) == DIAL_FIRST


def test_the_oldest_direction_is_forgotten_when_there_are_too_many() -> None:
    directions = DialDirections()
    for number in range(MAX_REMEMBERED + 1):
        directions.worked(str(number), "dial back", 0.0)
    assert directions.plan("0", 1.0) == DIAL_FIRST
    assert directions.plan("1", 1.0) != DIAL_FIRST


WRONG = BlobError("other bytes")


def test_a_corrupt_holder_is_not_asked_for_that_blob_for_a_while_but_for_others() -> None:
    corrupt = CorruptHolders()
    corrupt.add("ant", "pi", "d1", WRONG, 100.0)
    assert corrupt.error("ant", "d1", 100.0 + CORRUPT_SECONDS - 1) is WRONG
    assert corrupt.error("ant", "d2", 101.0) is None
    assert corrupt.error("bee", "d1", 101.0) is None
    assert corrupt.error("ant", "d1", 100.0 + CORRUPT_SECONDS) is None, "it may have repaired its disk"


def test_the_log_names_a_holder_at_most_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    corrupt = CorruptHolders()
    for number, now in enumerate((100.0, 101.0, 100.0 + LOG_SECONDS)):
        corrupt.add("ant", "pi", f"d{number}", WRONG, now)
    corrupt.add("bee", "laptop", "d0", WRONG, 101.0)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["pi", "pi", "laptop"]
    assert "pi gave wrong bytes and is not asked for that blob again: other bytes" in caplog.text


def test_the_oldest_corrupt_holder_is_forgotten_when_there_are_too_many() -> None:
    corrupt = CorruptHolders()
    for number in range(MAX_REMEMBERED + 1):
        corrupt.add("ant", "pi", str(number), WRONG, 0.0)
    assert corrupt.error("ant", "0", 1.0) is None
    assert corrupt.error("ant", "1", 1.0) is WRONG
