"""Rules that every driver keeps for the protocol, as switches of a simulated device.

The protocol core decides nothing about disks and workers: its safety depends on drivers that keep these
rules. Tests, and `p2pfl simulate --without`, switch one rule off and expect the checker to find a violation.
"""

from __future__ import annotations

import msgspec


class DriverRules(msgspec.Struct, frozen=True):
    """The rules that one simulated device keeps; the real driver keeps all of them."""

    flushes_first: bool = True
    """Votes are on disk before the answers behind them are sent."""
    saves_lowest: bool = True
    """The promise with which a proposer takes the round's lowest ballot is on disk before its ACCEPT."""
    spares_accepted: bool = True
    """The blob of a value accepted in an open round is not collected."""
    pulls_first: bool = True
    """A blob counts as present only when its bytes are."""
    mends_blobs: bool = True
    """A blob with wrong bytes is deleted, and pulled again where it is needed."""
    ends_hanging: bool = True
    """A hanging worker is killed after a while, and its job fails."""
    tells_undelivered: bool = True
    """A candidate is told that its model cannot be pulled (UNDELIVERED)."""
    renews_journal: bool = True
    """A new data directory gets a new journal id."""
    keeps_refusal: bool = True
    """A refused journal is marked, and no process starts with it any more."""
    judges_incarnations: bool = True
    """A journal restored from a backup is refused (by its claim in HELLO)."""
    counts_votes: bool = True
    """A node shows how many votes its journal has cast, and remembers what others have shown."""


ALL_RULES = DriverRules()
"""All rules are kept."""
