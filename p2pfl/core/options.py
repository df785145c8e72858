"""One node's options, and the safety-critical decisions as functions that the simulator can replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from p2pfl.agreement import misfit
from p2pfl.cards import Agreement, DataCard, Measures
from p2pfl.core.content import count_flaw, kept_flaw, metrics_flaw, roles_flaw, shortage
from p2pfl.core.lease import LeaderLease, LeaseStep, hear
from p2pfl.core.stopping import Judged, MetricHistory, decide_stopping
from p2pfl.messages import (
    Ballot,
    Commit,
    Evaluation,
    Genesis,
    Member,
    Record,
    RecordBlobs,
    RosterEntry,
    UpdateEntry,
    quorum,
)
from p2pfl.proofs import Verify, accepted_by
from p2pfl.spec import RunSpec, Stopping, TaskSpec
from p2pfl.work import TrainingJob

Found = tuple[Ballot, Record]
"""A value named in a promise, with the ballot in which the acceptor accepted it."""

Due = tuple[str, int, str, str, str]
"""The run, the open round, the model and the state to train from, and the memory to train with."""


class Options(msgspec.Struct, frozen=True):
    """The options of one node's command line that the protocol needs."""

    spec: RunSpec
    """The spec with which this node founds a run; `partitions` below replaces its field then."""
    given: frozenset[str]
    """Fields of `spec` that the operator gave. Only these are compared with those of other devices before a
    run, and reported when a run's values differ."""
    partitions: int
    """Number of data partitions; 0 makes one for each founding member."""
    min_nodes: int
    """Minimum number of nodes before a run is founded."""
    nonce: str
    """32 hex digits, random at every start: makes the id of a run founded by this process unique."""
    listed: int = 1
    """Number of devices whose addresses the operator listed, and this one."""
    is_open: bool = False
    """Whether nobody said how many devices there are, and more may be found in the network: then a run is
    never founded before a steady moment."""
    software: str = ""
    """The version of p2pfl, which record 0 names."""
    wait: bool = False
    """Whether to hold the founding of a run until the operator starts it."""
    new_run: bool = False
    """Whether to leave the run in the journal for good, and to ignore ended runs."""
    stay: bool = False
    """Whether to keep serving after the end of the run."""
    continue_with: frozenset[str] | None = None
    """Node ids of the survivors with which to continue the run in the journal, whose majority is lost for
    good; None without such a request."""


def highest_accepted(found: Iterable[Found]) -> Record | None:
    """Return the value that an elected aggregator must propose: that of the highest ballot in *found*.

    This is the adoption rule of single-decree Paxos (Lamport 2001, "Paxos Made Simple", section 2.2, P2c). If
    a quorum may already have accepted a value, only that value may be proposed.
    """
    return max(found, key=lambda pair: pair[0], default=(None, None))[1]


FIRST_ATTEMPT = 1
"""Attempt of a round's lowest ballot, which only the member first in rank uses (`has_lowest`)."""


def has_lowest(order: Sequence[str], node: str) -> bool:
    """Whether *node* has the round's lowest ballot, where *order* is the roster by rank.

    An aggregator with the lowest ballot needs no promises. Promises name values accepted in lower ballots,
    and there are none (Lamport 2001, "Paxos Made Simple", section 2.2: P2c is about lower proposals only). So
    the commit that decided the roster has elected this member. Every other member, and this one when it runs
    again, needs a quorum of promises.
    """
    return order[0] == node


MAX_ATTEMPT_GAP = 1000
"""Maximum gap between a ballot's attempt and the highest attempt a member knows in the round, so that no
single message can use the attempts up. Losing candidates back off up to ten seconds, so a member that misses
this many ballots was cut off for hours; the refusals of its own candidacies bring it up to date."""


def next_attempt(promised: Ballot | None, refused: int) -> int:
    """Return the attempt of a new candidacy: above every ballot that this member promised or lost against.

    Promises survive a restart, so an old ballot is never used again (rule "One value a ballot").
    """
    return max(promised.attempt if promised is not None else 0, refused) + 1


def keeps_promise(promised: Ballot | None, ballot: Ballot) -> bool:
    """Whether a member that has *promised* may still vote for *ballot* (rule "Monotone promises")."""
    return promised is None or ballot >= promised


def by_node_id(nodes: Iterable[str]) -> list[str]:
    """Return *nodes* in the order in which their updates are aggregated and recorded."""
    return sorted(nodes)


def due_of(job: TrainingJob) -> Due:
    """Return what *job* trains for and from."""
    return job.run, job.round, job.model, job.state, job.memory


def is_due(job: TrainingJob, due: Due) -> bool:
    """Whether *job* trains an update for the open round, from the blobs of its parent."""
    return due_of(job) == due


def is_here(says: str, run: str, is_begun: bool) -> bool:
    """Whether a linked member that reports run *says* (empty: none) counts as present in *run*.

    Before the first commit a member may still be about to join the run.
    """
    return says == run or (not says and not is_begun)


def is_no_older(votes: int, seen: int) -> bool:
    """Whether a journal that shows *votes* is no older than when it showed *seen*."""
    return votes >= seen


class Policy(msgspec.Struct, frozen=True):
    """Replaceable decisions: the simulator replaces one and must then find a violation."""

    adopt: Callable[[Iterable[Found]], Record | None] = highest_accepted
    quorum: Callable[[int], int] = quorum
    """Quorum of a roster's size, never of the number of live members."""
    attempt: Callable[[Ballot | None, int], int] = next_attempt
    lowest: Callable[[Sequence[str], str], bool] = has_lowest
    """Which member may aggregate without promises."""
    permits: Callable[[Ballot | None, Ballot], bool] = keeps_promise
    """Whether a vote may be cast; asked again after the pull, when a higher ballot may have been promised."""
    order: Callable[[Iterable[str]], list[str]] = by_node_id
    """The order of the updates, which decides the last bits of the aggregated model."""
    proven: Callable[[Commit, set[Member], Verify], set[Member]] = accepted_by
    """Members whose signatures prove that they accepted a commit."""
    current: Callable[[int, int], bool] = is_no_older
    """Whether a journal has forgotten no votes: it shows no lower number than before."""
    fits: Callable[[TrainingJob, Due], bool] = is_due
    """Whether a training belongs to the open round; a stopped one may still deliver a result."""
    takes_part: Callable[[str, str, bool], bool] = is_here
    """Whether a linked member takes part; a link alone does not show that."""
    lease: Callable[[LeaderLease | None, Ballot, LeaseStep, float], LeaderLease] = hear
    """The lease that a member grants to a candidate."""
    roles: Callable[[Record | Genesis, RunSpec], str] = roles_flaw
    """Why a record names other blobs than its run's spec asks for; empty when it names the right ones."""
    metrics: Callable[[Evaluation, Agreement], str] = metrics_flaw
    """Why an evaluation does not have the run's metrics; empty when it has."""
    counts: Callable[[UpdateEntry, RosterEntry | None], str] = count_flaw
    """Why an update's count exceeds the examples that its member has stated; empty when it does not."""
    enough: Callable[[int, RunSpec], str] = shortage
    """Why a number of updates is too small for the run's strategy; empty when it is not."""
    keeps: Callable[[Record, RecordBlobs], str] = kept_flaw
    """Why a record may not have its blobs after those of its parent; empty when it may."""
    data: Callable[[TaskSpec, Agreement, DataCard], str] = misfit
    """Why a node's data do not fit the agreement; empty when they do."""
    excludes: Callable[[str], bool] = bool
    """Whether a node is kept out of which an operator said this; empty if nobody said anything."""
    stops: Callable[[Stopping, Measures, MetricHistory, Judged | None], tuple[bool, str]] = decide_stopping
    """Whether the evaluations in a record end the run early, and why."""
