from __future__ import annotations

import pytest

from p2pfl.errors import DataDirectoryError, HandshakeRefused
from p2pfl.messages import Member
from p2pfl.runtime.boots import Boots
from tests.support.core import member

BEN = member("ben")
FULL = DataDirectoryError("the disk is full")


class Memory:
    """A journal's memory of starts, on a disk that may be full."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.known: dict[Member, tuple[int, str]] = {}
        self._is_full = is_full

    def seen_boot(self, of: Member) -> tuple[int, str] | None:
        return self.known.get(of)

    def save_boot(self, of: Member, boot: int, nonce: str) -> None:
        if self._is_full:
            raise FULL
        self.known[of] = (boot, nonce)


def test_starts_are_remembered_by_the_journal():
    boots = Boots(Memory(), fail=pytest.fail)
    assert boots.seen_boot(BEN) is None
    boots.save_boot(BEN, 3, "a" * 32)
    assert boots.seen_boot(BEN) == (3, "a" * 32)


def test_a_disk_that_refuses_ends_the_node_and_not_the_mesh():
    failures: list[DataDirectoryError] = []
    boots = Boots(Memory(is_full=True), failures.append)
    with pytest.raises(HandshakeRefused, match="it ends and says why"):
        boots.save_boot(BEN, 3, "a" * 32)
    assert failures == [FULL]
