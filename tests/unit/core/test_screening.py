"""Which messages of a round count, as the whole member takes them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.aggregator import Candidacy
from p2pfl.core.effects import SaveSeen, Sever, Tell, can_wait
from p2pfl.core.options import FIRST_ATTEMPT, MAX_ATTEMPT_GAP
from p2pfl.core.roster import ranked
from p2pfl.core.screening import is_of_member
from p2pfl.messages import MAX_ATTEMPT, Accept, Accepted, Collect, Prepare, Promise, Refuse, Submit
from p2pfl.proofs import CastVote
from tests.support.core import ballot, context, ledger, member, model, of_kind, sent, taken, told
from tests.support.records import NAMES, Chain, node, result_of, signed
from tests.support.running import Bench


@pytest.fixture
def bench() -> Any:
    return Bench()


def test_a_vote_that_its_member_has_not_signed_does_not_count(bench: Any) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    mine = bench.it.aggregator.ballot
    for vote in (
        signed("cleo", bench.chain.run, 2, mine),
        signed("ben", bench.chain.run, 2, ballot(9, "ada")),
        msgspec.structs.replace(signed("ben", bench.chain.run, 2, mine), votes=7),
    ):
        bench.hear("ben", Promise(bench.chain.run, 2, mine, None, None, vote))
        assert bench.it.aggregator.candidacy is Candidacy.PREPARING
    bench.hear("ben", Promise(bench.chain.run, 2, mine, None, None, signed("ben", bench.chain.run, 2, mine)))
    assert bench.it.aggregator.candidacy is Candidacy.COLLECTING


@pytest.mark.parametrize("attempt", [5, MAX_ATTEMPT])
def test_a_candidate_that_is_no_member_is_ignored_and_named_once(bench: Bench, attempt: int) -> None:
    run, stands = bench.chain.run, ballot(attempt, "eve")
    effects = [
        *bench.hear("eve", Prepare(run, 2, stands)),
        *bench.hear("eve", Collect(run, 2, stands, selected=True)),
        *bench.hear("eve", Accept(run, 2, stands, bench.proposal())),
    ]
    assert [type(effect) for effect in effects] == [Tell]
    (notice,) = told(effects, events.Notice)
    assert "runs for aggregator of record 2, but is no member of the run" in notice.text
    assert bench.it.acceptor.promised is None
    assert bench.it.acceptor.lease is None


def test_a_candidate_with_another_data_directory_than_the_rosters_is_ignored(bench: Bench) -> None:
    bench.it.received(member("ben", "another disk"), Prepare(bench.chain.run, 2, ballot(5, "ben")))
    assert sent(taken(bench.ctx), Promise) == []


def test_an_attempt_far_above_all_known_ones_is_ignored_and_named(bench: Bench) -> None:
    run = bench.chain.run
    effects = bench.hear("ben", Prepare(run, 2, ballot(FIRST_ATTEMPT + MAX_ATTEMPT_GAP + 1, "ben")))
    assert [type(effect) for effect in effects] == [Tell]
    assert told(effects, events.Notice)[0].text.startswith(
        "ben runs with attempt 1002 for record 2, far above 1"
    )
    assert sent(bench.hear("ben", Prepare(run, 2, ballot(FIRST_ATTEMPT + MAX_ATTEMPT_GAP, "ben"))), Promise)
    assert sent(
        bench.hear("ben", Prepare(run, 2, ballot(FIRST_ATTEMPT + 2 * MAX_ATTEMPT_GAP, "ben"))), Promise
    )


def test_a_vote_that_comes_too_late_is_remembered_all_the_same(bench: Bench) -> None:
    stands, record = ballot(1, "ada"), model("record")
    bench.learn(bench.chain.commit())
    vote = signed("cleo", bench.chain.run, 2, stands, record, votes=9)
    effects = bench.hear("cleo", Accepted(bench.chain.run, 2, stands, record, vote))
    assert effects == [SaveSeen((CastVote(bench.chain.run, 2, stands, record, vote),), at_once=False)]
    (save,) = of_kind(effects, SaveSeen)
    assert can_wait(save)


def test_a_vote_of_a_journal_that_has_forgotten_some_does_not_elect(bench: Any) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    mine = bench.it.aggregator.ballot
    bench.ctx.learn_vote(CastVote("0" * 64, 1, mine, "", signed("ben", "0" * 64, 1, mine, votes=8)))
    vote = signed("ben", bench.chain.run, 2, mine, votes=7)
    effects = bench.hear("ben", Promise(bench.chain.run, 2, mine, None, None, vote))
    assert bench.it.aggregator.candidacy is Candidacy.PREPARING
    assert [effect.node for effect in of_kind(effects, Sever)] == [node("ben")]


def test_nobody_collects_in_anothers_name(bench: Bench) -> None:
    bench.it.local_trainer.trained(result_of("ada", 2))
    taken(bench.ctx)
    assert (
        sent(bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "cleo"), selected=True)), Submit) == []
    )


def first_in_rank(chain: Chain) -> tuple[str, ...]:
    """Who has the lowest ballot of the round after the last of *chain*, and somebody who has not."""
    order = ranked(chain.run, len(chain.commits) + 1, [node(name) for name in NAMES[:3]])
    names = {node(name): name for name in NAMES[:3]}
    return names[order[0]], names[order[1]]


def test_the_first_in_rank_is_taken_at_its_word_and_nobody_else_has_its_ballot(bench: Bench) -> None:
    run = bench.chain.run
    while (first := first_in_rank(bench.chain)[0]) == "ada":
        bench.learn(bench.chain.commit())
    second, round_ = first_in_rank(bench.chain)[1], bench.ledger.round + 1
    other = second if second != "ada" else next(name for name in NAMES[:3] if name not in ("ada", first))
    record = bench.proposal()
    for message in (
        Prepare(run, round_, ballot(1, other)),
        Collect(run, round_, ballot(1, other), selected=True),
        Accept(run, round_, ballot(1, other), record),
    ):
        assert bench.hear(other, message) == []
    bench.hear(first, Accept(run, round_, ballot(1, first), record))
    bench.it.blob_ready(inputs.BlobReady(record.model, durable=True))
    assert bench.it.acceptor.accepted_ballot == ballot(1, first)


def test_a_member_that_is_kept_out_only_votes() -> None:
    ctx = context()
    its = ledger(ctx)
    ctx.banned = {node("ben"): "is banned by desk (operator)"}
    run, ballot_ = its.run, ballot(2, "ben")
    leads = Prepare(run, 1, ballot_), Collect(run, 1, ballot_, selected=True)
    submits = Submit(run, 1, ballot(2, "ada"), run, None, "no", None)
    for message in (*leads, submits):
        assert not is_of_member(ctx, its, member("ben"), message)
        assert is_of_member(ctx, its, member("cleo"), message)
    assert is_of_member(ctx, its, member("ben"), Refuse(run, 1, ballot_, ballot(3, "ada")))
    assert taken(ctx) == []
