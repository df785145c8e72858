"""A run whose members do not train stops looking busy: it pauses with the reason, or waits for a member."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Train
from p2pfl.core.pausing import UNPRODUCTIVE_ROUNDS
from p2pfl.exit_codes import ExitCode
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, names, news, number, others, rig, spec


def break_worker(
    device: Device, reason: str = "batch normalisation needs more than one sample"
) -> Callable[..., Any]:
    """Let every training of *device* fail; return what mends it."""
    work = device.work

    def fail(effect: Any, chance: Any) -> Any:
        if isinstance(effect, Train):
            return 0.1, inputs.WorkFailed(effect, reason)
        return work(effect, chance)

    rig(device, "work", fail)
    return lambda: rig(device, "work", work)


def test_when_everybody_fails_the_run_pauses_with_the_reason_and_can_be_resumed() -> None:
    world = World(61, nodes=3, spec=spec(4))
    mend = [break_worker(device) for device in world.devices.values()]
    world.begin()
    world.run_for(60.0)
    for device in world.devices.values():
        (record,) = chain(device)
        assert (record.then, record.updates) == ("pause", ())
        assert record.note.startswith("nobody who is here could train, so the run pauses")
        failed = "its training failed: batch normalisation needs more than one sample"
        assert [left.reason for left in record.left_out] == [failed] * 3
        told = [notice.text for notice in news(device, events.Notice)]
        [pause] = [text for text in told if text.startswith("the run is paused after round 1: ")]
        assert pause.count(failed) == 1
        assert "p2pfl resume" in pause
    for one in mend:
        one()
    world.feed(number(world, 1), inputs.OperatorRequest("resume"))
    world.run_until(world.is_complete, LIMIT)


def test_a_run_in_which_most_fail_for_some_rounds_pauses() -> None:
    world = World(62, nodes=3, spec=spec(40))
    for index in (1, 2):
        break_worker(number(world, index))
    world.begin()
    world.run_for(60.0)
    records = chain(number(world, 3))
    assert len(records) == UNPRODUCTIVE_ROUNDS
    assert [record.then for record in records] == ["go"] * (UNPRODUCTIVE_ROUNDS - 1) + ["pause"]


def test_one_of_three_that_always_fails_stops_nothing() -> None:
    world = World(63, nodes=3, spec=spec(8))
    break_worker(number(world, 1))
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    assert {record.then for record in chain(number(world, 1))} == {"go", "end"}


def test_rounds_wait_while_a_leaver_stays_for_the_quorum_and_go_on_with_the_next_member() -> None:
    world = World(64, nodes=3, spec=spec(30, drop_after=600.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    away, leaver, stays = (number(world, index) for index in (1, 2, 3))
    world.crash(away, 40.0)
    world.run_for(3.0)
    before = len(chain(stays))
    world.feed(leaver, inputs.Leave())
    world.run_for(20.0)
    assert len(chain(stays)) <= before + 1, "a record that was proposed before is decided"
    told = [notice.text for device in (leaver, stays) for notice in news(device, events.Notice)]
    assert any("leaving, and too few others are here: the round waits" in text for text in told)
    assert leaver.is_up
    world.run_until(lambda: leaver.exit is not None, LIMIT)
    assert known(leaver.exit).code == ExitCode.LEFT
    assert names(chain(stays)[-1]) == {device.name for device in others(world, leaver)}
    world.run_until(lambda: len(chain(stays)) > before + 5, LIMIT)


def test_an_operator_can_end_the_run_while_it_waits() -> None:
    world = World(65, nodes=3, spec=spec(30))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    world.crash(number(world, 1), 10_000.0)
    world.run_for(3.0)
    world.feed(number(world, 2), inputs.Leave())
    world.run_for(10.0)
    world.feed(number(world, 3), inputs.OperatorRequest("end"))
    world.run_until(lambda: chain(number(world, 3))[-1].then == "end", world.now + 30.0)


def test_a_leaver_is_let_go_once_the_absent_member_may_be_dropped_too() -> None:
    world = World(66, nodes=3, spec=spec(30, drop_after=20.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    away, leaver, stays = (number(world, index) for index in (1, 2, 3))
    world.crash(away, 10_000.0)
    world.run_for(3.0)
    world.feed(leaver, inputs.Leave())
    world.run_until(lambda: leaver.exit is not None, world.now + 40.0)
    assert names(chain(stays)[-1]) == {stays.name}
