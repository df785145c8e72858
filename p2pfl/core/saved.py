"""The protocol state that a node restores from its journal at a start."""

from __future__ import annotations

import msgspec

from p2pfl.core.stopping import MetricHistory
from p2pfl.messages import Ballot, Commit, Genesis, Record, RecordBlobs, RosterEntry, UpdateEntry


class Vote(msgspec.Struct, frozen=True):
    """The promise and the acceptance of this journal in the open round of one run."""

    round: int
    promised: Ballot | None
    accepted_ballot: Ballot | None
    accepted: Record | None


class SavedRun(msgspec.Struct, frozen=True):
    """The run a journal is in."""

    run: str
    genesis: Genesis
    last: Commit | None
    """The last committed record; None when only record 0 exists."""
    update: UpdateEntry | None
    """This node's update for the round after `last`, trained from `last`, if its blobs are complete here."""
    resumed: bool
    """Whether the pause after `last` was lifted."""
    voters: tuple[RosterEntry, ...] = ()
    """The roster that voted for `last`; empty when there is only record 0."""
    parent: RecordBlobs | None = None
    """The blobs of the record before `last`; None when there is only record 0."""
    settled: int = 0
    """The last round whose record paused or ended the run; 0 when none did."""
    history: MetricHistory = MetricHistory()
    """What the committed evaluations say, if the run has a rule for stopping early."""
    memory: str = ""
    """Digest of this node's last update that a committed record counts; empty if there is none."""


class Saved(msgspec.Struct, frozen=True):
    """The whole protocol state in a journal."""

    current: SavedRun | None
    """The run that is not closed; None in a new directory or after `--new-run`."""
    votes: dict[str, Vote]
    """Votes in open rounds by run id, closed runs included."""
    closed: frozenset[str]
    """Runs that this journal has left for good."""
    votes_cast: int = 0
    """Number of votes that this journal has cast in all runs; it never decreases."""
