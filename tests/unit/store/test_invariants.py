"""What is wrong with a chain or a vote is found and said; what is right is not."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl.core.saved import Vote
from p2pfl.identity.signatures import verify
from p2pfl.messages import (
    Ballot,
    Commit,
    Evaluation,
    MemberEvaluation,
    Origin,
    RecordBlobs,
    record_digest,
)
from p2pfl.spec import MetricTarget, with_options
from p2pfl.store import invariants
from p2pfl.store.invariants import check_chain, contradiction, vote_violations
from tests.support.core import ballot, chain_of
from tests.support.records import (
    CARD,
    NAMES,
    SPEC,
    STATEFUL,
    Chain,
    digest,
    evaluations,
    genesis,
    node,
    resigned,
    roster,
    update,
)


@pytest.fixture
def chain() -> Chain:
    return chain_of(*NAMES[:3], rounds=3)


def checked(chain: Chain, commits: list[Commit] | None = None) -> tuple[invariants.CommittedChain, list[str]]:
    """Follow *commits*, those of *chain* unless given, each kept under its own digest."""
    found = invariants.CommittedChain(chain.run, chain.genesis)
    entries = chain.commits if commits is None else commits
    violations = list(
        check_chain(found, [(c.record.round, record_digest(c.record), c) for c in entries], verify)
    )
    return found, violations


def changed(chain: Chain, index: int, **changes: object) -> list[Commit]:
    """The commits of *chain* with the record number *index* changed and those after it joined on again."""
    commits = list(chain.commits)
    for position in range(index, len(commits)):
        previous = record_digest(commits[position - 1].record) if position else chain.run
        news = changes if position == index else {}
        record = msgspec.structs.replace(commits[position].record, **({"previous": previous} | news))
        commits[position] = resigned(msgspec.structs.replace(commits[position], record=record))
    return commits


def test_a_sound_chain_is_followed_to_its_end() -> None:
    chain = chain_of(*NAMES[:3], rounds=3, spec=with_options(SPEC, rounds=3))
    chain.commit(kind="evaluate", then="end")
    found, violations = checked(chain)
    assert violations == []
    assert found.round == 4
    assert found.digest(0) == chain.run
    assert found.digest(4) == record_digest(chain.commits[-1].record)
    assert found.digest(5) is None


def test_a_run_that_ends_early_has_a_reason_to() -> None:
    rule = with_options(SPEC, until=MetricTarget("accuracy", 0.9))
    stopped = chain_of(*NAMES[:3], rounds=3, spec=rule)
    stopped.commit(kind="evaluate", then="end", evaluated=evaluations((9, 10), (10, 10), (9, 10)))
    assert checked(stopped)[1] == []
    unfounded = chain_of(*NAMES[:3], rounds=3, spec=rule)
    unfounded.commit(kind="evaluate", then="end", evaluated=evaluations((8, 10), (8, 10), (9, 10)))
    found = "the record of round 4 does not fit the run: it ends the run early, and its evaluations are no reason to"
    assert checked(unfounded)[1] == [found]
    ignored = chain_of(*NAMES[:3], rounds=3, spec=with_options(SPEC, patience=1))
    for _ in range(2):
        ignored.commit(evaluated=evaluations((8, 10), (8, 10), (9, 10)))
    why = "no better accuracy for 1 round (best 0.8333 in round 3)"
    found = f"the record of round 5 does not fit the run: it goes on with the training, although {why}"
    assert checked(ignored)[1] == [found]


def test_a_chain_that_continues_another_run_counts_its_rounds_on() -> None:
    origin = Origin(digest("old run"), 5, digest("record"), 4)
    chain = Chain(msgspec.structs.replace(genesis(), continues=(origin,)))
    record = msgspec.structs.replace(chain.commit().record, trained=5)
    commit = resigned(msgspec.structs.replace(chain.commits[0], record=record))
    assert checked(chain, [commit])[1] == []
    assert checked(chain)[1] == ["the record of round 1 miscounts the rounds of training"]


@pytest.mark.parametrize(
    ("index", "changes", "violation"),
    [
        (1, {"previous": digest("other")}, "the record of round 2 does not follow the one before it"),
        (1, {"run": digest("other")}, "the record of round 2 does not follow the one before it"),
        (2, {"trained": 2}, "the record of round 3 miscounts the rounds of training"),
        (2, {"rounds": 9}, "the record of round 3 miscounts the rounds of training"),
        (0, {"updates": (update("ada", 1), update("ada", 1))}, "an update is counted twice in round 1"),
        (
            0,
            {"updates": (update("eve", 1),)},
            f"the record of round 1 does not fit the run: an update of {node('eve')[:7]} in it does not count: "
            "it is not from a member of the roster",
        ),
        (
            1,
            {"updates": (update("ben", 2, CARD.examples + 1),)},
            "the record of round 2 does not fit the run: an update of ben in it does not count: "
            "it claims 1001 samples, and its data card stated 1000",
        ),
        (
            1,
            {"evaluations": (MemberEvaluation(node("ben"), Evaluation(9, {"dice": 4.0})),)},
            "the record of round 2 does not fit the run: an evaluation has the metrics dice, not accuracy, loss",
        ),
        (
            2,
            {"blobs": RecordBlobs(digest(("model", 3)), state=digest("state"))},
            "the record of round 3 does not fit the run: it names the blobs model, state, not model",
        ),
        (
            2,
            {"updates": ()},
            "the record of round 3 does not fit the run: it counts no update, and does not repeat the blobs of "
            "the record before it",
        ),
        (2, {"roster": (*roster(*NAMES[:3]), *roster("ada"))}, "the roster of record 3 has a node twice"),
        (
            2,
            {"roster": (*roster("ada"), *roster("ben"))},
            "the roster of record 3 has a data slot twice",
        ),
        (
            1,
            {"ballot": ballot(2, "ben")},
            "the record of round 2 is committed in a ballot before its first one",
        ),
    ],
)
def test_a_record_that_cannot_be_is_found(
    chain: Chain, index: int, changes: dict[str, object], violation: str
) -> None:
    assert violation in checked(chain, changed(chain, index, **changes))[1]


def test_a_commit_without_a_quorum_of_its_own_rosters_members_is_found(chain: Chain) -> None:
    few = resigned(chain.commits[1], "ada", "eve")
    assert checked(chain, [chain.commits[0], few, chain.commits[2]])[1] == [
        "round 2 is committed with the signed acceptance of 1 of 3 members, 2 are needed"
    ]


def test_the_quorum_is_of_the_roster_the_record_before_named() -> None:
    chain = chain_of(*NAMES[:3])
    chain.commit(next_roster=roster(*NAMES))
    chain.commit()
    assert checked(chain)[1] == []
    two = resigned(chain.commits[1], "ada", "ben")
    assert checked(chain, [chain.commits[0], two])[1] == [
        "round 2 is committed with the signed acceptance of 2 of 5 members, 3 are needed"
    ]


def test_nothing_is_followed_beyond_a_gap(chain: Chain) -> None:
    found, violations = checked(chain, [chain.commits[0], chain.commits[2]])
    assert violations == ["after round 1 comes round 3: rounds between them are missing"]
    assert found.round == 1


def test_a_record_kept_under_another_digest_and_a_false_record_0_are_found(chain: Chain) -> None:
    found = invariants.CommittedChain(digest("run"), chain.genesis)
    (first, second, *_) = check_chain(found, [(1, digest("kept"), chain.commits[0])], verify)
    assert first == "record 0 does not give the run's id"
    assert second.endswith(f"was kept as {digest('kept')[:12]}")


# --- votes --------------------------------------------------------------------------------------------------


def vote(
    chain: Chain,
    round_: int,
    *,
    at: Ballot | None = None,
    promised: Ballot | None = None,
    **changes: object,
) -> Vote:
    """A vote for what follows in *chain* as *round_*, with the record changed."""
    commit = chain_of(*NAMES[:3], rounds=round_).commits[-1]
    record = msgspec.structs.replace(commit.record, **changes)
    accepted = at or record.ballot
    return Vote(round_, promised or accepted, accepted, record)


def test_a_vote_that_fits_has_no_violation(chain: Chain) -> None:
    found, _ = checked(chain)
    assert list(vote_violations(found, vote(chain, 4))) == []
    assert list(vote_violations(found, vote(chain, 3))) == []
    assert list(vote_violations(found, Vote(4, ballot(7, "cleo"), None, None))) == []


@pytest.mark.parametrize(
    ("round_", "changes", "violation"),
    [
        (5, {}, "it voted in round 5, but round 4 is not committed here"),
        (
            4,
            {"at": ballot(3, "ben"), "promised": ballot(2, "cleo")},
            "it accepted a ballot of round 4 above the one it had promised",
        ),
        (4, {"round": 3}, "what it accepted in round 4 is no record of that round"),
        (4, {"run": digest("other")}, "what it accepted in round 4 is no record of that round"),
        (4, {"ballot": ballot(2, "ben"), "at": ballot(1, "ben")}, "is no record of that round"),
        (
            4,
            {"previous": digest("other")},
            "what it accepted in round 4 does not follow the record committed before it",
        ),
    ],
)
def test_a_vote_that_cannot_be_is_found(
    chain: Chain, round_: int, changes: dict[str, object], violation: str
) -> None:
    found, _ = checked(chain)
    assert any(violation in one for one in vote_violations(found, vote(chain, round_, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("round_", [3, 4])
def test_an_accepted_record_that_does_not_fit_the_run_is_found(chain: Chain, round_: int) -> None:
    found, _ = checked(chain)
    flawed = vote(chain, round_, updates=(update("eve", round_),))
    flaw = f"what it accepted in round {round_} does not fit the run: an update of {node('eve')[:7]} in it "
    assert any(one.startswith(flaw) for one in vote_violations(found, flawed))


def test_the_first_round_is_voted_on_by_the_roster_of_record_0(chain: Chain) -> None:
    nothing, _ = checked(chain, [])
    assert list(vote_violations(nothing, vote(chain, 1))) == []
    (violation,) = vote_violations(nothing, vote(chain, 1, updates=(update("eve", 1),)))
    assert "it is not from a member of the roster" in violation


def test_a_record_0_with_other_blobs_than_its_spec_asks_for_is_found() -> None:
    begun = genesis()
    blobs = RecordBlobs(begun.model, state=digest("state"))
    found, violations = checked(Chain(msgspec.structs.replace(begun, blobs=blobs)))
    assert found.round == 0
    assert violations == ["record 0 does not fit the run: it names the blobs model, state, not model"]


@pytest.mark.parametrize(
    ("at", "model", "contradicts"),
    [
        (ballot(1, "ben"), "other", True),
        (ballot(2, "ada"), "other", True),
        (ballot(1, "ada"), "other", False),
        (ballot(2, "ada"), None, False),
    ],
)
def test_only_another_record_in_the_same_or_a_higher_ballot_contradicts_a_commit(
    chain: Chain, at: Ballot, model: str | None, contradicts: bool
) -> None:
    found, _ = checked(chain)
    value = {"blobs": RecordBlobs(digest(model))} if model else {}
    record = msgspec.structs.replace(chain.commits[2].record, **value)
    assert bool(list(contradiction(found, Vote(3, at, at, record)))) == contradicts


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_an_accepted_record_without_updates_repeats_the_blobs_of_its_own_parent(round_: int) -> None:
    chain = Chain(msgspec.structs.replace(genesis(), spec=STATEFUL))
    records = [chain.commit().record for _ in range(3)]
    found, violations = checked(chain, chain.commits[:2])
    assert violations == []
    parent = [chain.genesis.blobs, *(record.blobs for record in records)][round_ - 1]
    flaw = (
        f"what it accepted in round {round_} does not fit the run: it counts no update, and does not repeat"
    )
    for blobs, is_flawed in ((parent, False), (RecordBlobs(parent.model, digest("another state")), True)):
        record = msgspec.structs.replace(records[round_ - 1], updates=(), blobs=blobs)
        said = list(vote_violations(found, Vote(round_, record.ballot, record.ballot, record)))
        assert any(one.startswith(flaw) for one in said) is is_flawed
