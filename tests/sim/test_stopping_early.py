"""A run ends before its last round: by a target, or after rounds without a better model. Every member checks it."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.stopping import STOPPED
from p2pfl.messages import Record
from p2pfl.sim.faults import HEAVY
from p2pfl.sim.setting import spec_of
from p2pfl.sim.world import World
from p2pfl.spec import MetricTarget, Stopping, with_options
from tests.support.worlds import LIMIT, at_round, chain, news, number

EARLY = Stopping(MetricTarget("accuracy", 0.6), 3)


def world(seed: int, stopping: Stopping = EARLY, nodes: int = 5, rounds: int = 40) -> World:
    return World(seed, nodes=nodes, spec=spec_of(rounds, stopping=stopping))


def ended(seed: int, stopping: Stopping = EARLY, nodes: int = 5) -> tuple[World, list[Record]]:
    """A run to its end, and its records."""
    made = world(seed, stopping, nodes)
    made.begin()
    made.run_until(made.is_complete, LIMIT)
    return made, chain(number(made, 1))


def extend(made: World, rounds: int) -> None:
    """Start all devices again, one of them with a higher number of rounds."""
    asker = number(made, 2)
    more = with_options(asker.options.spec, rounds=rounds)
    asker.options = msgspec.structs.replace(asker.options, spec=more, given=frozenset({"rounds"}))
    for device in made.devices.values():
        made.start(device)


def test_a_run_ends_at_its_target_with_the_model_that_reached_it() -> None:
    made, records = ended(4, Stopping(MetricTarget("accuracy", 0.6)))
    *_, parent, last = records
    assert (last.kind, last.then, last.model) == ("evaluate", "end", parent.model)
    assert last.trained == parent.trained < last.rounds == 40
    assert last.note.endswith("reached 0.6")
    assert last.updates == ()
    assert {left.reason for left in last.left_out} == {STOPPED}
    for device in made.devices.values():
        (told,) = news(device, events.RunEnded)
        assert told.metrics["accuracy"] >= 0.6


def test_a_run_ends_after_rounds_without_a_better_model() -> None:
    _, records = ended(5, Stopping(patience=3))
    last = records[-1]
    assert last.note.startswith("no better accuracy for 3 rounds (best 0.")
    assert last.note.endswith(f" in round {last.trained - 3})")


def test_a_run_without_such_a_rule_trains_all_its_rounds() -> None:
    _, records = ended(5, Stopping())
    assert records[-1].trained == 40


def test_a_restarted_member_and_one_that_lost_its_disk_agree_when_the_run_ends() -> None:
    made = world(6, Stopping(patience=3))
    late = number(made, 5)
    made.begin()
    made.run_until(at_round(made, 2, number(made, 1)), LIMIT)
    made.crash(number(made, 2), 1.0)
    made.lose_disk(late, 2.0)
    made.run_until(made.is_complete, LIMIT)
    notes = {chain(device)[-1].note for device in made.devices.values()}
    assert len(notes) == 1
    assert notes.pop().startswith("no better accuracy for 3 rounds")


def test_a_run_that_ended_early_goes_on_with_more_rounds_and_has_its_patience_again() -> None:
    made, records = ended(5, Stopping(patience=3), nodes=3)
    before = records[-1].trained
    extend(made, 60)
    made.run_until(at_round(made, len(records) + 4), LIMIT)
    assert chain(number(made, 1))[len(records) + 2].kind == "train"
    made.run_until(made.is_complete, LIMIT)
    last = chain(number(made, 1))[-1]
    assert last.rounds == 60
    assert last.trained >= before + 3


def test_a_target_that_was_reached_does_not_end_the_extended_run_again() -> None:
    made, records = ended(4, Stopping(MetricTarget("accuracy", 0.3)), nodes=3)
    assert records[-1].trained < 5
    extend(made, 45)
    made.run_until(lambda: chain(number(made, 1))[-1].trained == 45, LIMIT)
    made.run_until(made.is_complete, LIMIT)
    assert [record.then for record in chain(number(made, 1))].count("end") == 2


@pytest.mark.parametrize("seed", range(6))
def test_all_faults_leave_the_decision_alone(seed: int) -> None:
    made = World(seed, spec=spec_of(30, stopping=EARLY), faults=HEAVY)
    made.run()
    last = max((chain(device) for device in made.devices.values()), key=len)[-1]
    assert last.then == "end"
