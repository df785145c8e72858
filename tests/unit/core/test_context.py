import msgspec
import pytest

from p2pfl import events
from p2pfl.core.context import COMPLAINT_SECONDS, MAX_COMPLAINTS, earliest
from p2pfl.core.effects import Send, Sever
from p2pfl.messages import RecordsRequest
from p2pfl.proofs import CastVote
from tests.support.core import (
    NOW,
    ballot,
    context,
    link,
    member,
    model,
    of_kind,
    status,
    taken,
    told,
    unlink,
)
from tests.support.known import known
from tests.support.records import NAMES, digest, journal, node, roster, signed

ASK = RecordsRequest(digest("run"), 0)


def test_a_message_to_a_peer_without_a_link_is_not_asked_for() -> None:
    ctx = context("ada", linked=["ben"])
    ctx.send(node("cleo"), ASK)
    assert taken(ctx) == []


def test_everybody_linked_gets_a_broadcast() -> None:
    ctx = context("ada", linked=NAMES[1:4])
    unlink(ctx, "cleo")
    ctx.broadcast(ASK)
    assert taken(ctx) == [Send(node("ben"), ASK), Send(node("dan"), ASK)]


def test_a_member_without_a_link_is_gone_after_a_while_and_not_at_once() -> None:
    ctx = context("ada")
    entry = roster(*NAMES[:3])[1]
    unlink(ctx, "ben")
    assert not ctx.is_gone(entry)
    ctx.now += ctx.settings.gone
    assert ctx.is_gone(entry)


def test_after_a_start_all_count_as_heard_for_a_while() -> None:
    ctx = context("ada", linked=(), started=NOW)
    entry = roster(*NAMES[:3])[1]
    ctx.now += ctx.settings.start_grace - 0.1
    assert not ctx.is_gone(entry)
    ctx.now += 0.2
    assert ctx.is_gone(entry)


def test_a_node_that_is_back_with_another_journal_is_reachable_but_not_the_member() -> None:
    ctx = context("ada")
    entry = roster(*NAMES[:3])[1]
    assert ctx.is_seated(entry)
    link(ctx, "ben", other_journal="ben's new disk")
    assert ctx.is_reachable(node("ben"))
    assert not ctx.is_seated(entry)
    assert ctx.is_gone(entry)


def test_a_member_that_says_nothing_on_its_link_is_gone_after_a_while() -> None:
    ctx = context("ada", linked=())
    ctx.run = digest("run")
    entry = roster(*NAMES[:3])[1]
    link(ctx, "ben")
    assert ctx.is_seated(entry)
    assert ctx.gone_at(node("ben")) == NOW + ctx.settings.start_grace
    ctx.now = known(ctx.gone_at(node("ben")))
    assert not ctx.is_seated(entry)
    assert ctx.is_gone(entry)
    assert ctx.absent_since(entry) == NOW
    ctx.peers[node("ben")].hear(status(run=ctx.run), ctx.now)
    assert ctx.is_seated(entry)
    assert ctx.gone_at(node("ben")) is None


def test_this_node_is_seated_with_its_own_journal_only() -> None:
    ctx = context("ada")
    entry = roster("ada")[0]
    assert ctx.is_seated(entry)
    assert not ctx.is_seated(type(entry)(entry.node, "0" * 32, entry.name, entry.slot, 1))


@pytest.mark.parametrize(("phase", "is_leaving"), [("leaving", True), ("training", False)])
def test_a_peer_leaves_when_it_says_so(phase: str, is_leaving: bool) -> None:
    ctx = context("ada")
    link(ctx, "ben", status(phase=phase))
    assert ctx.is_leaving(node("ben")) == is_leaving


def test_absence_counts_from_the_end_of_the_link_or_from_this_nodes_start() -> None:
    ctx = context("ada", linked=["ben"], started=40.0)
    assert ctx.unlinked_since(node("ben")) is None
    unlink(ctx, "ben")
    assert ctx.unlinked_since(node("ben")) == NOW
    assert ctx.unlinked_since(node("cleo")) == 40.0


def test_names_come_from_links_and_strangers_go_by_their_id() -> None:
    ctx = context("ada", linked=["ben"])
    assert ctx.name_of(node("ben")) == "ben"
    assert ctx.name_of(node("ada")) == "ada"
    assert ctx.name_of(node("eve")) == node("eve")[:7]


def test_the_earliest_ignores_what_is_not_given() -> None:
    assert earliest(None, 3.0, 2.0) == 2.0
    assert earliest(None, None) is None


def test_a_member_that_is_linked_and_in_another_run_is_not_here() -> None:
    ctx, (_, ben, *_) = context(), roster(*NAMES[:3])
    ctx.run, ctx.is_begun = "this", True
    for said, is_here in ((None, True), ("this", True), ("", False), ("another", False)):
        ctx.peers[node("ben")].status = None if said is None else status(run=said)
        assert ctx.is_seated(ben) is is_here
        assert ctx.is_gone(ben) is not is_here
        assert ctx.count_seated(roster(*NAMES[:3])) == 2 + is_here


def test_before_the_first_commit_a_member_may_still_be_on_its_way_into_the_run() -> None:
    ctx, (_, ben, *_) = context(), roster(*NAMES[:3])
    ctx.run = "this"
    ctx.peers[node("ben")].status = status(run="")
    assert ctx.is_seated(ben)
    ctx.peers[node("ben")].declined = "this"
    assert not ctx.is_seated(ben)


def test_a_member_is_absent_from_when_it_could_not_do_its_part_any_more() -> None:
    ctx, (ada, ben, *_) = context(), roster(*NAMES[:3])
    ctx.run, ctx.is_begun = "this", True
    peer = ctx.peers[node("ben")]
    assert ctx.absent_since(ada) is ctx.absent_since(ben) is None
    peer.lacking_since = 50.0
    assert ctx.absent_since(ben) == 50.0
    peer.since, peer.run_since, peer.status = 20.0, 60.0, status(run="another")
    assert ctx.absent_since(ben) == 60.0
    peer.linked, peer.since = False, 70.0
    assert ctx.absent_since(ben) == 70.0


# --- votes of others ------------------------------------------------------------------------------------------


def promise_of(name: str, votes: int, other_journal: str = "") -> CastVote:
    """Promise number *votes* of a journal of *name*."""
    run, stands = model("run"), ballot(2, "cleo")
    vote = msgspec.structs.replace(
        signed(name, run, 1, stands, votes=votes), journal=journal(other_journal or name)
    )
    return CastVote(run, 1, stands, "", vote)


def test_a_vote_that_shows_fewer_than_were_seen_does_not_count_and_its_link_is_ended() -> None:
    ctx = context()
    assert ctx.takes_vote(promise_of("ben", 5))
    assert ctx.takes_vote(promise_of("ben", 5)), "a repetition"
    assert ctx.takes_vote(promise_of("ben", 7))
    assert taken(ctx) == []
    assert not ctx.takes_vote(promise_of("ben", 6))
    effects = taken(ctx)
    assert [effect.node for effect in of_kind(effects, Sever)] == [node("ben")]
    (notice,) = told(effects, events.Notice)
    assert notice.text.startswith("ben shows 6 votes, and 7 were seen: its data directory is a copy")
    assert "--new-journal" in notice.text
    assert ctx.seen[member("ben")] == promise_of("ben", 7)


def test_votes_are_counted_for_each_journal_by_itself() -> None:
    ctx = context()
    assert ctx.takes_vote(promise_of("ben", 5))
    assert ctx.takes_vote(promise_of("ben", 1, "new disk"))


def test_what_a_commit_shows_of_a_member_counts_as_well_but_not_of_this_node() -> None:
    ctx = context()
    ctx.learn_vote(promise_of("ben", 9))
    ctx.learn_vote(promise_of("ada", 9))
    assert not ctx.takes_vote(promise_of("ben", 8))
    assert member("ada") not in ctx.seen


def test_a_complaint_is_told_once_a_minute_for_each_kind_and_node() -> None:
    ctx = context()
    for node_, kind in (("a", "one"), ("a", "one"), ("a", "two"), ("b", "one")):
        ctx.complain(node_, kind, f"{node_} {kind}")
    assert [notice.text for notice in told(taken(ctx), events.Notice)] == ["a one", "a two", "b one"]
    ctx.now += COMPLAINT_SECONDS
    ctx.complain("a", "one", "again")
    assert [notice.text for notice in told(taken(ctx), events.Notice)] == ["again"]


def test_complaints_about_ever_new_nodes_take_no_more_memory() -> None:
    ctx = context()
    for number in range(3 * MAX_COMPLAINTS):
        ctx.complain(str(number), "one", "")
    assert len(ctx._complained) <= MAX_COMPLAINTS
