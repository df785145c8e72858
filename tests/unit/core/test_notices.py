"""What is told of a run, and that it is told once."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl import events
from p2pfl.cards import DataCard
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect
from p2pfl.core.notices import Notices
from p2pfl.core.roster import selection
from p2pfl.core.stopping import STOPPED
from p2pfl.messages import Card, Collect, LeftOut
from p2pfl.spec import with_options
from tests.support.core import ballot, chain_of, context, ledger, link, options, taken, told, unlink
from tests.support.device import in_run
from tests.support.records import AGREEMENT, CARD, NAMES, SPEC, Chain, genesis, node, resigned, result_of
from tests.support.running import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_whose_update_is_not_counted_is_told_why(bench: Bench) -> None:
    bench.it.local_trainer.trained(result_of("ada", 2))
    taken(bench.ctx)
    commit = bench.chain.commit()
    without = tuple(entry for entry in commit.record.updates if entry.node != node("ada"))
    record = msgspec.structs.replace(commit.record, updates=without)
    effects = bench.learn(resigned(msgspec.structs.replace(commit, record=record)))
    assert [event.reason for event in told(effects, events.UpdateRefused)] == ["another record was adopted"]


def test_the_election_is_told_once_for_a_ballot(bench: Bench) -> None:
    collect = Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True)
    told_first = told(bench.hear("ben", collect), events.Elected)
    assert [(event.aggregator, event.attempt) for event in told_first] == [("ben", 3)]
    assert told(bench.hear("ben", collect), events.Elected) == []


def test_who_is_selected_to_train_is_told_once_a_round() -> None:
    bench = Bench(members=NAMES[:3], spec=with_options(SPEC, sample=1))
    (first,) = told(bench.advance() + bench.advance(1.0), events.MembersSelected)
    chosen = selection(bench.chain.run, 2, bench.ledger.roster, bench.ledger.spec)
    assert first.round == 2
    assert {node(name) for name in first.names} == set(chosen)
    (second,) = told(bench.learn(bench.chain.commit()) + bench.advance(), events.MembersSelected)
    assert second.round == 3


def test_where_all_members_train_nobody_is_told_to_be_selected(bench: Bench) -> None:
    assert told(bench.began + bench.advance(), events.MembersSelected) == []


def test_nobody_is_selected_for_the_final_evaluation() -> None:
    bench = Bench(rounds=3, members=NAMES[:3], spec=with_options(SPEC, sample=1, rounds=3))
    assert bench.ledger.next_kind == "evaluate"
    assert told(bench.began + bench.advance(), events.MembersSelected) == []


def test_a_learner_says_that_the_members_are_not_there() -> None:
    bench = Bench(members=("ben", "cleo", "dan"))
    assert not bench.ledger.is_member
    unlink(bench.ctx, "dan")
    (lost,) = told(bench.advance() + bench.advance(10.0), events.QuorumLost)
    assert (lost.reachable, lost.members, lost.needed) == (1, 3, 2)


def test_the_loss_and_the_return_of_the_quorum_are_told_once() -> None:
    bench = Bench(members=NAMES)
    for name in ("ben", "cleo", "dan"):
        unlink(bench.ctx, name)
    (lost,) = told(bench.advance() + bench.advance(5.0), events.QuorumLost)
    assert (lost.reachable, lost.members, lost.needed) == (2, 5, 3)
    bench.ctx.peers[node("ben")].linked = True
    (back,) = told(bench.advance() + bench.advance(1.0), events.QuorumBack)
    assert back.reachable == 3


def test_a_resumed_run_says_so_and_names_the_options_it_ignores() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    mine = with_options(options().spec, epochs=7)
    device = in_run(chain, spec=mine, given=frozenset({"epochs"}))
    assert [event.how for event in told(device.began, events.RunJoined)] == ["resumed"]
    assert told(device.began, events.OptionsIgnored)[0].differences == ("epochs 7 (the run has 1)",)


def test_a_node_whose_run_has_ended_names_the_options_it_ignores_too() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    chain.commit(kind="evaluate", then="end")
    mine = with_options(options().spec, epochs=7)
    device = in_run(chain, spec=mine, given=frozenset({"epochs"}))
    assert [event.how for event in told(device.began, events.RunJoined)] == ["finished"]
    assert told(device.began, events.OptionsIgnored)[0].differences == ("epochs 7 (the run has 1)",)


def test_an_ignored_strategy_is_named_with_its_arguments() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    mine = with_options(options().spec, strategy="fedprox", strategy_arg={"mu": 0.5})
    device = in_run(chain, spec=mine, given=frozenset({"strategy", "strategy_arg"}))
    [ignored] = told(device.began, events.OptionsIgnored)
    assert ignored.differences == ("strategy fedprox (mu 0.5) (the run has fedavg)",)


def warned_of_missing(effects: list[AnyEffect]) -> list[bool]:
    return ["has no link to it" in notice.text for notice in told(effects, events.Notice)]


def test_a_member_that_was_off_and_takes_part_again_is_not_blamed_on_a_firewall() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.now += 100.0
    device.link("cleo")
    assert warned_of_missing(device.hear("cleo", chain.commit())) == []
    device.link("ben")
    device.now += 100.0
    assert warned_of_missing(device.hear("cleo", chain.commit())) == []
    device.feed(inputs.Unlinked(node("ben")))
    assert warned_of_missing(device.hear("cleo", chain.commit())) == []


def test_a_member_that_goes_on_taking_part_without_a_link_is_named_once() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("cleo")
    warned = []
    for _ in range(4):
        device.now += 10.0
        warned += warned_of_missing(device.hear("cleo", chain.commit()))
    assert warned == [True]


def test_who_resumes_a_run_says_how_many_rounds_of_training_lie_behind() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    chain.commit(kind="evaluate", then="end")
    chain.commit()
    (joined,) = told(in_run(chain).began, events.RunJoined)
    assert (joined.round, joined.trained) == (3, 2)


@pytest.mark.parametrize(("trained", "warned"), [(9, []), (10, ["the run may be complete elsewhere"])])
def test_who_is_alone_with_the_evaluation_to_come_hears_once_that_the_run_may_be_over(
    trained: int, warned: list[str]
) -> None:
    bench = Bench(trained)
    said = []
    for _ in range(2):
        unlink(bench.ctx, "ben")
        unlink(bench.ctx, "cleo")
        said += bench.advance(30.0) + bench.advance(30.0)
        link(bench.ctx, "ben")
        said += bench.advance(1.0) + bench.advance(1.0)
    assert len(told(said, events.QuorumLost)) == 2
    texts = [notice.text for notice in told(said, events.Notice)]
    assert [text.rpartition(": ")[2] for text in texts if "only the final evaluation" in text] == warned


def noted(how: str, **changes: object) -> list[str]:
    """The warnings of a node that enters a run whose agreement has notes, as *how* says."""
    agreement = msgspec.structs.replace(AGREEMENT, notes=("ben: two pictures cannot be read",))
    start = msgspec.structs.replace(genesis(), agreement=agreement, spec=with_options(SPEC, **changes))
    ctx = context("ada")
    Notices(ctx, ledger(ctx, Chain(start))).joined(how)
    effects = taken(ctx)
    (joined,) = told(effects, events.RunJoined)
    assert joined.notes == agreement.notes
    assert (joined.measures, joined.classes) == (agreement.measures, agreement.classes)
    return [notice.text for notice in told(effects, events.Notice) if notice.level == "warning"]


def test_what_is_unusual_about_the_data_is_told_when_a_node_enters_the_run() -> None:
    for how in ("founded", "joined", "resumed", "learner"):
        assert noted(how) == ["ben: two pictures cannot be read"]
    assert noted("finished") == []


def test_a_target_that_nobody_measures_is_told() -> None:
    until = {"metric": "dice", "value": 0.9}
    text = "the run is to end at dice 0.9, but its evaluations measure accuracy, f1, loss: it trains all its rounds"
    assert noted("joined", until=until)[1:] == [text]


def test_nobody_is_told_of_its_own_update_where_the_run_ends_early(bench: Bench) -> None:
    bench.it.local_trainer.trained(result_of("ada", 2))
    taken(bench.ctx)
    left = tuple(LeftOut(node(name), STOPPED) for name in NAMES[:3])
    effects = bench.learn(bench.chain.commit(kind="evaluate", then="end", left_out=left))
    assert told(effects, events.UpdateRefused) == []


@pytest.mark.parametrize(("name", "partitions", "said"), [("ada", 2, 0), ("cleo", 2, 1), ("cleo", 3, 0)])
def test_a_member_that_finds_all_parts_taken_is_told_once_that_it_doubles_one(
    name: str, partitions: int, said: int
) -> None:
    ctx = context(name, linked=())
    notices = Notices(ctx, ledger(ctx, spec=with_options(SPEC, partitions=partitions)))
    notices.open_round()
    notices.open_round()
    texts = [notice.text for notice in told(taken(ctx), events.Notice)]
    assert len(texts) == said
    assert all("all 2 parts of the data are taken: this device trains on part 1" in text for text in texts)


def with_source(source: str, task: str = CARD.task) -> DataCard:
    return msgspec.structs.replace(CARD, source=source, task=task)


def warnings_of(effects: list[AnyEffect]) -> list[str]:
    return [notice.text for notice in told(effects, events.Notice)]


def test_another_source_of_the_task_is_told_once_on_a_late_joiner() -> None:
    ctx = context("dan", linked=NAMES[:3])
    link(ctx, "eve")
    unlink(ctx, "cleo")
    ctx.card = with_source("new")
    for name, card in [
        ("ada", with_source("old")),
        ("ben", with_source("old")),
        ("cleo", with_source("old")),
        ("eve", with_source("old", "another task")),
    ]:
        ctx.peers[node(name)].card = card
    notices = Notices(ctx, ledger(ctx))
    notices.joined("learner")
    notices.other_sources()
    assert warnings_of(taken(ctx)) == [
        "the source of the task on ada, ben differs from that on this device: use the same file on all devices"
    ]


@pytest.mark.parametrize(
    ("own", "theirs", "note"),
    [
        ("", "old", ""),
        ("old", "", ""),
        ("old", "old", ""),
        ("new", "old", "the source of the task on ada differs from that on ben"),
        ("old", "new", "the source of the task on ben differs from that on ada"),
    ],
)
def test_the_same_source_and_what_the_founders_were_told_is_not_told_again(
    own: str, theirs: str, note: str
) -> None:
    ctx = context("ada", linked=["ben"])
    ctx.card = with_source(own)
    ctx.peers[node("ben")].card = with_source(theirs)
    agreement = msgspec.structs.replace(AGREEMENT, notes=(note,) if note else ())
    record_0 = msgspec.structs.replace(genesis(), agreement=agreement)
    Notices(ctx, ledger(ctx, Chain(record_0))).other_sources()
    assert warnings_of(taken(ctx)) == []


def test_members_are_told_of_the_source_of_a_late_joiner_when_its_card_comes() -> None:
    chain = chain_of(*NAMES[:2], rounds=1)
    device = in_run(chain)
    device.node._ctx.card = with_source("old")
    device.link("dan")
    said = "the source of the task on dan differs from that on this device: use the same file on all devices"
    assert warnings_of(device.hear("dan", Card(with_source("new")))) == [said]
    assert warnings_of(device.hear("dan", Card(with_source("newer")))) == []


def test_another_source_of_the_strategy_is_told_too() -> None:
    ctx = context("dan", linked=["ada"])
    ctx.card = msgspec.structs.replace(CARD, strategy_source="new")
    ctx.peers[node("ada")].card = msgspec.structs.replace(CARD, strategy_source="old")
    Notices(ctx, ledger(ctx)).joined("joined")
    assert warnings_of(taken(ctx)) == [
        "the source of the strategy on ada differs from that on this device: use the same file on all devices"
    ]
