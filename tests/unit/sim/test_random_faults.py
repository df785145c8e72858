from typing import Any

import msgspec
import pytest

from p2pfl.sim.device import CARD
from p2pfl.sim.faults import CALM, HEAVY, PROFILES, Faults
from p2pfl.sim.random_faults import RandomFaults, black_out
from p2pfl.sim.setting import spec_of
from p2pfl.sim.world import World
from tests.support.known import known

LONG = 50


def world(seed: Any = 5, nodes: Any = 3, **faults: Any) -> Any:
    made = World(seed, nodes=nodes, spec=spec_of(LONG), faults=Faults(until=40.0, **faults), trace=True)
    made.begin()
    made.run_for(60.0)
    return made


def lines(made: Any, text: Any) -> list[str]:
    return [line for line in known(made.trace) if text in line]


def test_crashes_come_at_their_rate_and_stop_in_time() -> None:
    crashes = lines(world(crash_every=4.0, power_cuts=0.0), " crashes")
    assert 3 <= len(crashes) <= 20
    assert max(float(line.split()[0]) for line in crashes) < 40.0


def test_some_crashes_are_power_cuts() -> None:
    made = world(crash_every=2.0)
    assert lines(made, " crashes")
    assert lines(made, " loses power")


def test_cuts_come_and_are_healed_at_the_end() -> None:
    made = world(cut_every=5.0)
    assert lines(made, "cut off: ")
    assert made.network.cut_off == set()
    nodes = list(made.devices)
    assert all(made.is_connected(a, b) for a in nodes for b in nodes if a < b)


def test_silent_losses_come_and_are_healed_at_the_end() -> None:
    made = world(message_loss_every=5.0)
    assert lines(made, "are lost")
    assert made.network.lossy_pairs == set()


def test_disks_are_lost_one_at_a_time_and_made_up_for() -> None:
    made = world(lose_disk_every=5.0)
    assert lines(made, "loses its disk")
    made.run_until(made.is_complete, 600.0)


@pytest.mark.parametrize("turns_away", [False, True])
def test_nobody_leaves_while_another_device_has_turned_away(turns_away: bool) -> None:
    """Otherwise the next roster may hold only the device that turned away and the third, and decide nothing."""
    made = World(5, nodes=3, spec=spec_of(LONG))
    made.begin()
    made.run_for(10.0)
    faults = RandomFaults(made.environment, made, made.network, made.transfers, made.limits)
    if turns_away:
        made.turn_away(next(iter(made.devices.values())), 5.0)
        made.run_for(1.0)
    for _ in range(20):
        faults._let_device_leave()
    assert any(device.is_leaving for device in made.devices.values()) != turns_away


def test_backups_are_put_back_and_refused() -> None:
    found = []
    for seed in range(8):
        made = world(seed, restore_disk_every=5.0, crash_every=5.0)
        found += lines(made, "is a copy or was restored")
        assert len(lines(made, "comes back with a backup")) >= len(lines(made, "exits 8"))
    assert found


@pytest.mark.parametrize(
    ("field", "text"),
    [("freeze_every", "is suspended for"), ("sleep_every", "sleeps for"), ("leave_every", "exits 3")],
)
def test_processes_are_suspended_sleep_and_leave(field: str, text: str) -> None:
    made = world(**{field: 5.0}, freeze=10.0)
    assert lines(made, text)
    made.run_until(made.is_complete, 600.0)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("blackout_every", "loses power"),
        ("block_every", "no models come "),
        ("damage_every", "has wrong bytes of its last model"),
        ("turn_away_every", "is to take part in a new run"),
    ],
)
def test_models_and_members_fail_in_ways_of_their_own(field: str, text: str) -> None:
    made = world(**{field: 5.0})
    assert lines(made, text)
    made.run_until(made.is_complete, 600.0)


def test_from_one_device_models_may_never_come() -> None:
    made = World(5, nodes=3, spec=spec_of(LONG), faults=Faults(until=40.0, unpullable=1.0), trace=True)
    made.begin()
    assert len(made.network.unpullable) == 1
    made.run_until(made.is_complete, 600.0)
    assert made.network.unpullable == set()


@pytest.mark.parametrize(("field", "text"), [("hang", "has a worker that hangs"), ("fail", "out of memory")])
def test_workers_hang_and_fail(field: str, text: str) -> None:
    made = world(**{field: 0.1})
    assert lines(made, text)
    made.run_until(made.is_complete, 600.0)


def test_updates_that_never_fit_are_left_out() -> None:
    made = world(invalid_result=0.2)
    assert made.transfers.invalid_updates
    assert lines(made, "its shape is not the run's")
    made.run_until(made.is_complete, 600.0)


def test_after_a_failure_of_all_power_a_majority_is_back_before_the_others() -> None:
    made = World(5, nodes=5, rounds=LONG, trace=True)
    made.begin()
    made.run_for(5.0)
    known(made.trace).clear()
    first = list(made.devices.values())[2]
    black_out(made.environment, made, first=first)
    made.run_for(10.0)
    starts = [line.split()[:2] for line in known(made.trace) if line.endswith(" starts")]
    assert starts[0][1] == first.name
    assert [float(at) < 6.0 for at, _ in starts] == [True] * 3 + [False] * 2


def test_one_node_may_be_slow() -> None:
    slow = [device.slowness for device in world(slow_node=1.0).devices.values() if device.slowness > 1.0]
    assert len(slow) == 1


def test_without_faults_nothing_happens() -> None:
    made = World(5, nodes=3, rounds=2, faults=CALM, trace=True)
    made.run()
    assert [line for line in known(made.trace) if "crashes" in line or "cut off" in line] == []


def test_every_fault_can_be_left_out() -> None:
    rates = {
        name: rate
        for name, rate in msgspec.structs.asdict(CALM).items()
        if name
        not in ("until", "down", "freeze", "cut", "delay", "pull", "power_cuts", "block", "away", "ban")
    }
    assert set(rates.values()) == {0.0}


def test_the_heavy_profile_has_every_fault_there_is() -> None:
    rates = {name: rate for name, rate in msgspec.structs.asdict(HEAVY).items() if name != "allowance"}
    assert 0.0 not in rates.values()
    assert PROFILES["heavy"] is HEAVY


def test_a_forged_commit_is_sent_to_whoever_has_a_last_record_and_is_not_believed() -> None:
    world = World(3, rounds=4, faults=Faults(forge_every=0.5), trace=True)
    world.run()
    assert any("is sent a forged commit" in line for line in known(world.trace))
    assert any("is not believed: 0 members of the roster signed" in line for line in known(world.trace))


def test_only_one_device_at_a_time_has_other_data() -> None:
    world = World(5, faults=Faults(until=60.0, other_data_every=1.0, away=20.0))
    most = 0

    def count(*_: object) -> None:
        nonlocal most
        most = max(most, sum(device.card != CARD for device in world.devices.values()))

    world.on_effect = count
    world.begin()
    world.run_for(50.0)
    assert most == 1
