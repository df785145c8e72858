"""When a member stands, and when it does not."""

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Evaluate, SavePromise
from p2pfl.core.saved import Vote
from p2pfl.messages import MAX_ATTEMPT, Prepare
from tests.support.core import ballot, of_kind, sent, status, told, unlink
from tests.support.records import NAMES, evaluation, node
from tests.support.running import Bench


def test_where_no_attempt_is_left_a_member_does_not_run_and_says_so_once() -> None:
    vote = Vote(2, ballot(MAX_ATTEMPT, "cleo"), None, None)
    bench = Bench(vote=vote)
    for peer in bench.ctx.peers.values():
        peer.hear(status(run=bench.chain.run, round=1, holds=True), bench.ctx.now)
    effects = [*bench.began, *bench.advance(60.0), *bench.advance(20.0)]
    assert (of_kind(effects, SavePromise), told(effects, events.ElectionStarted)) == ([], [])
    texts = [notice.text for notice in told(effects, events.Notice)]
    assert sum("all 2147483648 attempts are used up" in text for text in texts) == 1


def test_without_a_quorum_nobody_runs_for_election() -> None:
    bench = Bench(members=NAMES)
    for name in ("ben", "cleo", "dan"):
        unlink(bench.ctx, name)
    assert sent(bench.advance(600.0), Prepare) == []


def test_in_a_new_run_nobody_is_a_candidate_before_a_quorum_is_in_it_and_every_rank_has_its_turn_from_then_on() -> (
    None
):
    bench = Bench(rounds=0)
    bench.it.turn.order = [node(name) for name in ("ben", "ada", "cleo")]
    step = bench.ctx.settings.rank_step
    assert told(bench.advance(600.0), events.ElectionStarted) == [], (
        "ben and cleo have not taken record 0 yet"
    )
    bench.ctx.peers[node("ben")].status = status(run="another", round=0)
    assert told(bench.advance(), events.ElectionStarted) == []
    bench.ctx.peers[node("ben")].status = status(run=bench.chain.run, round=0)
    assert told(bench.advance(), events.ElectionStarted) == []
    assert told(bench.advance(0.9 * step), events.ElectionStarted) == [], (
        "ben, who is before ada, has its turn"
    )
    assert [event.round for event in told(bench.advance(0.2 * step), events.ElectionStarted)] == [1]


def test_a_roster_of_one_is_no_candidate_again_after_its_run_has_ended() -> None:
    lone = Bench(10, members=NAMES[:1])
    assert lone.ledger.next_kind == "evaluate"
    [asked] = of_kind(lone.began, Evaluate)
    lone.it.evaluated(inputs.Evaluated(asked.job, evaluation(1, 2, 0.5)))
    effects = lone.advance() + lone.advance()
    lone.it.blob_ready(inputs.BlobReady(lone.ledger.model, durable=True))
    effects += lone.advance()
    assert lone.ledger.is_over
    assert [event.round for event in told(effects, events.ElectionStarted)] == [11]


def test_a_lone_member_that_comes_back_runs_for_election_without_listening() -> None:
    lone, one_of_three = Bench(members=NAMES[:1]), Bench()
    for bench in (lone, one_of_three):
        bench.it.open_round(is_resumed=True)
    assert [event.round for event in told(lone.advance(), events.ElectionStarted)] == [2]
    assert told(one_of_three.advance(), events.ElectionStarted) == [], "it hears first what it has forgotten"
