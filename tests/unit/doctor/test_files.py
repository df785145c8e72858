from __future__ import annotations

import pytest

from p2pfl.doctor.files import check_files, hard_limit


@pytest.mark.parametrize(
    ("peers", "limit", "level"),
    [(3, 4096, "ok"), (3, 64, "warn"), (40, 64, "FAIL"), (100, 256, "warn"), (0, 60, "ok"), (1, 20, "FAIL")],
)
def test_the_limit_is_compared_with_the_number_of_peers(peers: int, limit: int, level: str) -> None:
    finding = check_files(peers, limit)
    assert finding.level == level
    assert str(limit) in finding.text
    assert ("ulimit" in " ".join(finding.commands)) == (level != "ok")


def test_the_limit_here_is_a_number() -> None:
    assert 0 < hard_limit() <= 4096
