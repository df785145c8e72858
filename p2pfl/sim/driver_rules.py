"""What every driver does for the protocol, as habits a simulated device can be without.

The protocol core decides nothing about disks and workers; its safety rests on drivers that keep these rules.
Tests, and `p2pfl simulate --without`, take one away and expect the judge to notice.
"""

from __future__ import annotations

import msgspec


class DriverRules(msgspec.Struct, frozen=True):
    """The rules one simulated device keeps; the real driver keeps all of them."""

    flushes_first: bool = True
    """No answer is sent before the votes saved in front of it are on disk."""
    saves_lowest: bool = True
    """The promise with which a proposer takes the round's lowest ballot is on disk before its ACCEPT."""
    spares_accepted: bool = True
    """The blob of a value accepted in an open round is not collected."""
    pulls_first: bool = True
    """A blob counts as here when its bytes are."""
    mends_blobs: bool = True
    """A blob whose bytes are found to be wrong is deleted, and pulled again where it is needed."""
    ends_hanging: bool = True
    """A worker that does nothing is killed after a while, and its job has failed."""
    tells_undelivered: bool = True
    """A candidate is told whose model cannot be had."""
    renews_journal: bool = True
    """A new data directory gets a new journal id."""
    keeps_refusal: bool = True
    """A journal that was refused is marked, and no process starts with it any more."""
    judges_incarnations: bool = True
    """A journal that comes back from the past is refused (by what it claims in HELLO)."""
    counts_votes: bool = True
    """A node shows how many votes its journal has cast, and remembers what others have shown."""


ALL_RULES = DriverRules()
"""Nothing left out."""
