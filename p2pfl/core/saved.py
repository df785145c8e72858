"""What a journal gives back at a start: all that the protocol must not have forgotten."""

from __future__ import annotations

import msgspec

from p2pfl.messages import Ballot, Commit, Genesis, Record, RosterEntry, UpdateEntry


class Vote(msgspec.Struct, frozen=True):
    """What this journal promised and accepted in the open round of one run."""

    round: int
    promised: Ballot | None
    accepted_ballot: Ballot | None
    accepted: Record | None


class SavedRun(msgspec.Struct, frozen=True):
    """The run a journal is in."""

    run: str
    genesis: Genesis
    last: Commit | None
    """The last committed record; None when only record 0 is."""
    update: UpdateEntry | None
    """This node's update for the round after `last`, trained from `last`, if one is here whole."""
    resumed: bool
    """Whether the pause after `last` was lifted."""
    voters: tuple[RosterEntry, ...] = ()
    """The roster that voted for `last`; empty when there is only record 0."""
    parent: str = ""
    """The model before that of `last`."""
    settled: int = 0
    """The last round whose record paused or ended the run; 0 when none did."""


class Saved(msgspec.Struct, frozen=True):
    """A journal's whole memory, as far as the protocol needs it."""

    current: SavedRun | None
    """The run that is not closed; None in a new directory or after `--new-run`."""
    votes: dict[str, Vote]
    """By run id, of open rounds only; also of runs that are closed."""
    closed: frozenset[str]
    """Runs this journal turned its back on."""
    votes_cast: int = 0
    """How many votes this journal has cast, in all runs; it never falls."""
