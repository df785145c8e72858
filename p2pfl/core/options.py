"""What one device's operator asked for, and the one decision tests may replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from p2pfl.messages import Ballot, Record, RunSpec

Found = tuple[Ballot, Record]
"""A value an acceptor named in its promise, with the ballot it accepted it in."""


class Options(msgspec.Struct, frozen=True):
    """The command line of one node, as far as the protocol needs it."""

    spec: RunSpec
    """What this node founds a run with; `partitions` is replaced at founding, see below."""
    given: frozenset[str]
    """The fields of `spec` the operator named. Only these are reported when a run's differ."""
    partitions: int
    """Parts of the data; 0 makes one for each founding member."""
    min_nodes: int
    """Nodes wanted before a run is founded."""
    nonce: str
    """32 hex digits, random at every start: makes the id of a run founded by this process unique."""
    wait: bool = False
    """Hold the founding until the operator says go."""
    new_run: bool = False
    """Turn away from the run in the journal and from ended ones."""
    stay: bool = False
    """Serve on after the end of the run."""


def highest_accepted(found: Iterable[Found]) -> Record | None:
    """Return the value a newly elected aggregator must propose: that of the highest ballot named, if any.

    This is the adoption rule of single-decree Paxos (Lamport 2001, "Paxos Made Simple", section 2.2, P2c): a
    value that a quorum may already have accepted is the only one that can be proposed without contradicting
    it.
    """
    return max(found, key=lambda pair: pair[0], default=(None, None))[1]


class Policy(msgspec.Struct, frozen=True):
    """Decisions whose absence the simulator must notice: tests replace one and expect a fork."""

    adopt: Callable[[Iterable[Found]], Record | None] = highest_accepted
