"""A data directory is restored from a backup, or copied: the others notice and refuse it, and no member votes twice."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.effects import Send
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Accepted, Promise
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.driver_rules import DriverRules
from p2pfl.sim.world import REPEATS, World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, number, others, spec


def restored(seed: int) -> tuple[World, Device, Disk]:
    """Node 3 comes back in round 3 with a backup made before its last start."""
    world = World(seed, spec=spec(20, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    device = number(world, 3)
    backup = device.disk.backup()
    world.crash(device, 0.0)
    world.run_until(at_round(world, 3), LIMIT)
    return world, device, backup


def test_a_restored_backup_is_refused_by_the_first_who_meets_it() -> None:
    world, device, backup = restored(35)
    exits = []
    world.on_effect = lambda *_: (
        exits.append(device.exit) if device.exit and device.exit not in exits else None
    )
    world.restore_disk(device, backup, 0.5)
    world.run_for(1.5)
    assert [exit_.code for exit_ in exits] == [ExitCode.CLONED]
    assert "is a copy or was restored from a backup" in exits[0].reason
    assert "--new-journal" in exits[0].reason


def test_a_restored_backup_votes_for_nothing() -> None:
    world, device, backup = restored(36)
    member = device.member
    votes = []

    def watch(one: Any, effect: Any) -> None:
        if one is device and one.member == member and isinstance(effect, Send):
            votes.extend([effect.message] if isinstance(effect.message, Promise | Accepted) else [])

    world.restore_disk(device, backup, 0.5)
    world.on_effect = watch
    world.run_until(world.is_complete, LIMIT)
    assert votes == []


@pytest.mark.parametrize("same_start", [True, False], ids=["of this start", "of an earlier start"])
@pytest.mark.parametrize("is_marked", [True, False], ids=["marked", "not marked"])
def test_started_again_and_again_it_is_refused_each_time_until_it_has_a_new_journal(
    is_marked: Any, same_start: bool
) -> None:
    world = World(38, spec=spec(40, drop_after=1000.0), trace=True)
    device = number(world, 3)
    device.driver_rules = DriverRules(keeps_refusal=is_marked)
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    backup = device.disk.backup()
    if not same_start:
        world.crash(device, 0.0)
    world.run_until(at_round(world, 3), LIMIT)
    old = device.member
    world.restore_disk(device, backup, 0.5)
    world.run_until(lambda: device.member != old, LIMIT)
    lines = [line for line in known(world.trace) if device.name in line.split()[1:2]]
    refusals = sum("exits 8" in line for line in lines)
    assert refusals == (1 if is_marked else 1 + REPEATS)
    assert sum("does not start" in line for line in lines) == (REPEATS if is_marked else 0)
    world.run_until(world.is_complete, LIMIT)


def test_with_a_new_journal_it_is_a_member_again_in_its_old_slot() -> None:
    world, device, backup = restored(37)
    old = device.member
    world.restore_disk(device, backup, 0.5)
    world.run_until(world.is_complete, LIMIT)
    assert device.member.journal != old.journal
    slots = {entry.slot for record in chain(device) for entry in record.roster if entry.node == old.node}
    assert len(slots) == 1
    assert device.member in {entry.member for entry in chain(device)[-1].roster}


def test_of_two_processes_on_one_directory_only_one_stays_a_member() -> None:
    world = World(38, spec=spec(60, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    device = number(world, 3)
    copy = world.copy(device)
    world.run_for(30.0)  # it is started again and again before it has a new journal
    assert device.member != copy.member
    world.run_until(at_round(world, len(chain(others(world, device)[0])) + 1, *others(world, device)), LIMIT)
    assert {copy.is_up, device.is_up} == {True}, (
        "the older start was told, and is here again with a new journal"
    )
