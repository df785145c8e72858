"""What one device's operator asked for, and the decisions all safety rests on, which tests may replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from p2pfl.core.lease import LeaderLease, LeaseStep, hear
from p2pfl.messages import Ballot, Commit, Member, Record, RunSpec, quorum
from p2pfl.proofs import Verify, accepted_by
from p2pfl.work import TrainingJob

Found = tuple[Ballot, Record]
"""A value an acceptor named in its promise, with the ballot it accepted it in."""

Due = tuple[str, int, str]
"""The run, the open round and the model to train from."""


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
    continue_with: frozenset[str] | None = None
    """Node ids to continue the run in the journal with, its majority being gone for good; None continues
    nothing."""


def highest_accepted(found: Iterable[Found]) -> Record | None:
    """Return the value a newly elected aggregator must propose: that of the highest ballot named, if any.

    This is the adoption rule of single-decree Paxos (Lamport 2001, "Paxos Made Simple", section 2.2, P2c): a
    value that a quorum may already have accepted is the only one that can be proposed without contradicting
    it.
    """
    return max(found, key=lambda pair: pair[0], default=(None, None))[1]


FIRST_ATTEMPT = 1
"""Of a round's lowest ballot. There is only one: that of the member first in rank (`has_lowest`)."""


def has_lowest(order: Sequence[str], node: str) -> bool:
    """Whether *node* has the round's lowest ballot, where *order* is the roster by rank.

    With the lowest ballot an aggregator need not ask for votes. They would tell it what was accepted in lower
    ones, and there are none (Lamport 2001, "Paxos Made Simple", section 2.2: P2c is about lower proposals
    only). So the commit that decided the roster has elected it. Everybody else, and this one when it stands
    once more, needs a quorum of promises.
    """
    return order[0] == node


MAX_JUMP = 1000
"""How far a ballot's attempt may be above the highest a member knows of in the round. Candidates that lose
wait longer each time, up to ten seconds, so a member that misses so many ballots of one round was deaf for
hours; and no single message can use the attempts up. Such a member comes closer by what its candidacies are
refused with."""


def next_attempt(promised: Ballot | None, refused: int) -> int:
    """Return the attempt of a new candidacy: above all this member promised, itself included, or lost to.

    What was promised survives a restart, so an old ballot is never resumed (rule 2).
    """
    return max(promised.attempt if promised is not None else 0, refused) + 1


def keeps_promise(promised: Ballot | None, ballot: Ballot) -> bool:
    """Whether a member that has *promised* may still vote for *ballot* (rule 1)."""
    return promised is None or ballot >= promised


def by_node_id(nodes: Iterable[str]) -> list[str]:
    """Return the order in which the updates of *nodes* are aggregated, whoever does it, and recorded."""
    return sorted(nodes)


def is_due(job: TrainingJob, due: Due) -> bool:
    """Whether the update that *job* makes is one for the open round, from its parent."""
    return (job.run, job.round, job.model) == due


def is_here(says: str, run: str, is_begun: bool) -> bool:
    """Whether a linked member that *says* which run it is in (or in none) may be waited for in *run*.

    Before the first commit it may still be on its way into the run.
    """
    return says == run or (not says and not is_begun)


def is_no_older(votes: int, seen: int) -> bool:
    """Whether a journal that shows *votes* may be the one that had cast *seen*: the number never falls."""
    return votes >= seen


class Policy(msgspec.Struct, frozen=True):
    """Decisions whose absence the simulator must notice: it replaces one and expects a violation."""

    adopt: Callable[[Iterable[Found]], Record | None] = highest_accepted
    quorum: Callable[[int], int] = quorum
    """Of a roster's size, never of the number of those alive."""
    attempt: Callable[[Ballot | None, int], int] = next_attempt
    lowest: Callable[[Sequence[str], str], bool] = has_lowest
    """Who may aggregate without having asked for votes."""
    permits: Callable[[Ballot | None, Ballot], bool] = keeps_promise
    """Asked again after the pull: meanwhile a higher ballot may have been promised."""
    order: Callable[[Iterable[str]], list[str]] = by_node_id
    """The order of updates decides the last bits of the model made of them."""
    proven: Callable[[Commit, set[Member], Verify], set[Member]] = accepted_by
    """Who has accepted a commit, by signatures that only they could make."""
    current: Callable[[int, int], bool] = is_no_older
    """A vote with a lower number than was seen before is of a journal that has forgotten some."""
    fits: Callable[[TrainingJob, Due], bool] = is_due
    """A training that was to be stopped may have ended just then."""
    takes_part: Callable[[str, str, bool], bool] = is_here
    """A link says that a device is up, not that it takes part."""
    lease: Callable[[LeaderLease | None, Ballot, LeaseStep, float], LeaderLease] = hear
    """What a member leaves to a candidate that it hears again."""
