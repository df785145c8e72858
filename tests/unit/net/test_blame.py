from __future__ import annotations

import pytest

from p2pfl.errors import BlobError
from p2pfl.net.blame import FORGET_SECONDS, MAX_REMEMBERED, REPEAT_SECONDS, Blame

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


def test_what_is_remembered_is_bounded() -> None:
    blame = Blame()
    for number in range(MAX_REMEMBERED + 1):
        blame.blame("ant", "pi", str(number), WRONG, 0.0)
    assert blame.error("ant", "0", 1.0) is None
    assert blame.error("ant", "1", 1.0) is WRONG
