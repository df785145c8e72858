"""When a run without a majority is continued, and what a node does that meets such a run. Stories: `tests/sim`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.config import ProtocolSettings
from p2pfl.core.continuing import (
    MAX_CONTINUATIONS,
    MAX_NOTICES,
    Continuation,
    ContinuationSituation,
    ContinuationStep,
    FollowDecision,
    SurvivorView,
    decide_continuing,
    decide_following,
)
from p2pfl.core.effects import Exit
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import MAX_ORIGINS, Genesis, Origin, RecordBlobs, Status, record_digest
from tests.support.core import (
    chain_of,
    context,
    ledger,
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
from tests.support.records import CARD, NAMES, node

RUN, RECORD = model("run"), model("record")


def said(**changes: int | str) -> Status:
    return status(**({"run": RUN, "round": 4, "record": RECORD, "links": 1} | changes))


BASE = ContinuationSituation(
    run=RUN,
    round=4,
    record=RECORD,
    is_over=False,
    prepared=True,
    named=(SurvivorView("ben", said()),),
    here=2,
    away=0,
    members=5,
    needed=3,
)


@pytest.mark.parametrize(
    ("changes", "step", "says"),
    [
        ({}, ContinuationStep.FOUND, "all named are at record 4"),
        ({"named": ()}, ContinuationStep.FOUND, "all named are at record 4"),
        ({"is_over": True}, ContinuationStep.DROP, "the run is complete"),
        ({"round": 0}, ContinuationStep.DROP, "--new-run"),
        ({"here": 3}, ContinuationStep.DROP, "3 of 5 members are here, 3 needed: the run goes on by itself"),
        ({"prepared": False}, ContinuationStep.WAIT, "not ready here"),
    ],
)
def test_a_run_is_continued_only_where_it_cannot_go_on_by_itself(
    changes: dict[str, bool] | dict[str, bool] | dict[str, int] | dict[str, tuple[Any, ...]],
    step: ContinuationStep,
    says: str,
) -> None:
    verdict, reason = decide_continuing(msgspec.structs.replace(BASE, **changes))
    assert verdict is step
    assert says in reason


@pytest.mark.parametrize(
    ("heard", "says"),
    [
        (None, "ben is not linked"),
        (said(run=model("other run")), "ben is in another run"),
        (said(round=5), "ben is at record 5, this device at 4: one catches up"),
        (said(round=3), "ben is at record 3, this device at 4: one catches up"),
        (said(record=model("other")), "one catches up"),
        (said(links=2), "ben reaches 3 of 5 members, 3 needed"),
    ],
)
def test_every_named_node_is_waited_for_until_all_have_the_last_record(
    heard: Status | None, says: str
) -> None:
    step, reason = decide_continuing(msgspec.structs.replace(BASE, named=(SurvivorView("ben", heard),)))
    assert step is ContinuationStep.WAIT
    assert says in reason


def test_a_named_node_in_no_run_can_be_taken_along() -> None:
    assert (
        decide_continuing(msgspec.structs.replace(BASE, named=(SurvivorView("ben", said(run="")),)))[0]
        is ContinuationStep.FOUND
    )


def test_members_that_are_here_without_their_votes_make_no_majority_elsewhere() -> None:
    outlook = msgspec.structs.replace(BASE, named=(SurvivorView("ben", said(links=2)),), away=1)
    assert decide_continuing(outlook)[0] is ContinuationStep.FOUND


# --- one node -----------------------------------------------------------------------------------------------


class Bench:
    """Ada, after four rounds of a run of five, linked to ben only."""

    def __init__(self, wanted: Any = ()) -> None:
        self.ctx = context("ada", linked=("ben",))
        self.chain = chain_of(*NAMES, rounds=4)
        self.ledger = ledger(self.ctx, self.chain)
        self.it = Continuation(self.ctx, frozenset(node(name) for name in wanted), is_wanted=True)

    def hear(self, name: str, **changes: str) -> None:
        at = {"run": self.chain.run, "round": 4, "record": self.ledger.digest, "links": 1}
        self.ctx.peers[node(name)].status = status(**(at | changes))

    def continued(self, round_: int = 4, record: Any = None) -> Genesis:
        """Record 0 of a run that others continued from *round_*."""
        before = record or record_digest(self.chain.commits[round_ - 1].record)
        origin = Origin(self.chain.run, round_, before, round_)
        return msgspec.structs.replace(self.chain.genesis, nonce="12" * 16, continues=(origin,))


def test_record_0_names_where_the_run_comes_from_and_who_is_left() -> None:
    bench = Bench(["ben"])
    bench.hear("ben")
    genesis = known(bench.it.found(bench.ledger, ready=True))
    assert genesis.continues == (Origin(bench.chain.run, 4, bench.ledger.digest, 4),)
    assert genesis.model == bench.ledger.model
    assert genesis.nonce == bench.ctx.options.nonce != bench.chain.genesis.nonce
    assert [(entry.name, entry.slot) for entry in genesis.roster] == [("ada", 0), ("ben", 1)]
    assert genesis.spec == bench.ledger.spec
    assert not bench.it.is_wanted


def test_the_chain_of_origins_is_bounded_and_keeps_the_latest() -> None:
    bench = Bench()
    many = tuple(Origin(model(number), 1, RECORD, 1) for number in range(MAX_ORIGINS))
    bench.ledger.genesis = msgspec.structs.replace(bench.ledger.genesis, continues=many)
    genesis = known(bench.it.found(bench.ledger, ready=True))
    assert len(genesis.continues) == MAX_ORIGINS
    assert genesis.continues[-1].run == bench.chain.run
    assert genesis.continues[:-1] == many[1:]


def test_a_device_of_no_run_that_is_taken_along_has_the_examples_its_card_states() -> None:
    bench = Bench(["ben", "fay"])
    bench.hear("ben")
    bench.ctx.card = CARD
    link(bench.ctx, "fay", status(links=1)).card = msgspec.structs.replace(CARD, examples=600)
    genesis = bench.it.found(bench.ledger, ready=True)
    assert genesis is not None
    assert [(entry.name, entry.examples) for entry in genesis.roster] == [
        ("ada", CARD.examples),
        ("ben", CARD.examples),
        ("fay", 600),
    ]


def test_an_extension_nobody_voted_on_yet_is_part_of_the_new_run() -> None:
    bench = Bench()
    bench.ledger.wanted_rounds = 40
    assert known(bench.it.found(bench.ledger, ready=True)).spec.rounds == 40


def test_what_is_waited_for_is_said_when_it_changes() -> None:
    bench = Bench(["ben", "cleo"])
    bench.ctx.names[node("cleo")] = "cleo"
    bench.hear("ben")
    for _ in range(3):
        assert bench.it.found(bench.ledger, ready=True) is None
    (waiting,) = told(taken(bench.ctx), events.Waiting)
    assert (waiting.present, waiting.needed) == (2, 3)
    assert waiting.reason.endswith("cleo is not linked")
    assert bench.it.is_wanted


@pytest.mark.parametrize(
    ("round_", "is_same", "here", "verdict"),
    [
        (4, True, 2, FollowDecision.MOVE),
        (9, False, 2, FollowDecision.MOVE),
        (4, False, 2, FollowDecision.STOP),
        (3, True, 2, FollowDecision.STOP),
        (3, True, 3, FollowDecision.STAY),
        (9, False, 3, FollowDecision.STAY),
    ],
)
def test_a_member_moves_stays_or_stops(
    round_: int, is_same: bool, here: int, verdict: FollowDecision
) -> None:
    bench = Bench()
    record = bench.ledger.digest if is_same else RECORD
    assert decide_following(bench.ledger, Origin(bench.chain.run, round_, record, round_), here) is verdict


def test_a_member_at_the_fork_follows() -> None:
    bench = Bench()
    assert bench.it.follows(bench.ledger, bench.continued())
    assert taken(bench.ctx) == []


def test_a_member_beyond_the_fork_says_so_once_and_stops_unless_its_majority_comes() -> None:
    bench = Bench()
    genesis = bench.continued(3)
    for _ in range(3):
        assert not bench.it.follows(bench.ledger, genesis)
    (notice,) = told(taken(bench.ctx), events.Notice)
    assert notice.level == "error"
    assert bench.it.consider_stopping(bench.ledger) == bench.ctx.now + ProtocolSettings().start_grace
    bench.ctx.now += ProtocolSettings().start_grace
    assert bench.it.consider_stopping(bench.ledger) is None
    (exit_,) = of_kind(taken(bench.ctx), Exit)
    assert (exit_.code, exit_.reason) == (ExitCode.LEFT_BEHIND, notice.text)
    assert int(ExitCode.LEFT_BEHIND) == 9
    for part in ("round 3 of run", "has committed round 4", record_digest(genesis)[:12], "--new-run"):
        assert part in exit_.reason


def test_a_member_beyond_the_fork_goes_on_once_its_majority_is_here() -> None:
    bench = Bench()
    bench.it.follows(bench.ledger, bench.continued(3))
    for name in ("ben", "cleo"):
        link(bench.ctx, name)
        bench.hear(name)
    bench.ctx.now += 100.0
    taken(bench.ctx)
    assert bench.it.consider_stopping(bench.ledger) is None
    assert taken(bench.ctx) == []
    assert bench.it.beyond == ""


def test_with_a_majority_of_its_run_a_member_stays_and_says_that_there_are_two() -> None:
    bench = Bench()
    for name in ("ben", "cleo"):
        link(bench.ctx, name)
        bench.hear(name)
    for _ in range(2):
        assert not bench.it.follows(bench.ledger, bench.continued())
    (notice,) = told(taken(bench.ctx), events.Notice)
    assert "there are two runs now" in notice.text


@pytest.mark.parametrize("how", ["another run", "another journal", "unlinked"])
def test_only_linked_members_that_are_in_the_run_make_a_majority(how: str) -> None:
    bench = Bench()
    for name in ("ben", "cleo"):
        link(bench.ctx, name)
        bench.hear(name)
    if how == "another run":
        bench.hear("cleo", run=model("other run"))
    elif how == "another journal":
        bench.ctx.peers[node("cleo")].member = member("cleo", "new disk")
    else:
        unlink(bench.ctx, "cleo")
    assert bench.it.follows(bench.ledger, bench.continued())


def test_a_run_hears_once_that_the_one_it_continues_lives_on() -> None:
    bench = Bench()
    origin = Origin(RUN, 6, RECORD, 6)
    bench.ledger.genesis = msgspec.structs.replace(bench.ledger.genesis, continues=(origin,))
    for round_ in (6, 7, 8):
        bench.it.hear_of_old_run(bench.ledger, "dan", said(round=round_))
    (notice,) = told(taken(bench.ctx), events.Notice)
    assert "dan is at record 7 of run" in notice.text


def test_runs_made_up_without_end_are_forgotten_except_the_one_that_is_beyond() -> None:
    bench = Bench()
    beyond = bench.continued(3)
    bench.it.follows(bench.ledger, beyond)
    for number in range(2 * MAX_CONTINUATIONS):
        bench.it.follows(bench.ledger, msgspec.structs.replace(bench.continued(3), nonce=f"{number:032x}"))
    assert len(bench.it.kin) <= MAX_CONTINUATIONS + 1
    assert bench.it.beyond == record_digest(beyond)
    assert bench.it.kin[bench.it.beyond] == beyond


def test_what_was_said_once_is_remembered_in_bounded_number() -> None:
    bench = Bench()
    for name in NAMES[2:]:
        link(bench.ctx, name)
        bench.hear(name)
    for number in range(2 * MAX_NOTICES):
        bench.it.follows(bench.ledger, msgspec.structs.replace(bench.continued(3), nonce=f"{number:032x}"))
        assert len(bench.it.said) <= MAX_NOTICES + 1
    assert len(told(taken(bench.ctx), events.Notice)) == 2 * MAX_NOTICES


def test_a_continued_run_begins_with_the_state_of_the_old_one() -> None:
    bench = Bench(["ben"])
    last = known(bench.ledger.last)
    blobs = RecordBlobs(bench.ledger.model, model("state"))
    record = msgspec.structs.replace(last.record, blobs=blobs)
    bench.ledger.last = msgspec.structs.replace(last, record=record)
    bench.hear("ben")
    assert known(bench.it.found(bench.ledger, ready=True)).blobs == blobs
