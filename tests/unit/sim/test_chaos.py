import msgspec

from p2pfl.sim.faults import CALM, Faults
from p2pfl.sim.world import World

LONG = 50


def world(**faults):
    made = World(5, nodes=3, rounds=LONG, faults=Faults(until=40.0, **faults), trace=True)
    made.begin()
    made.run_for(60.0)
    return made


def lines(made, text):
    return [line for line in made.trace if text in line]


def test_crashes_come_at_their_rate_and_stop_in_time():
    crashes = lines(world(crash_every=4.0), " crashes")
    assert 3 <= len(crashes) <= 20
    assert max(float(line.split()[0]) for line in crashes) < 40.0


def test_cuts_come_and_are_healed_at_the_end():
    made = world(cut_every=5.0)
    assert lines(made, "cut off: ")
    assert made.cut_off == set()
    nodes = list(made.devices)
    assert all(made.is_connected(a, b) for a in nodes for b in nodes if a < b)


def test_one_way_losses_come_and_are_healed_at_the_end():
    made = world(deafen_every=5.0)
    assert lines(made, "are lost")
    assert made.deaf == set()


def test_one_disk_at_most_is_lost():
    made = world(lose_disk=True)
    assert len(lines(made, "loses its disk")) == 1


def test_in_calm_weather_nothing_happens():
    made = World(5, nodes=3, rounds=2, faults=CALM, trace=True)
    made.run()
    assert [line for line in made.trace if "crashes" in line or "cut off" in line] == []


def test_every_fault_can_be_left_out():
    assert set(msgspec.structs.asdict(CALM)) == set(Faults.__struct_fields__)
    assert Faults().crash_every == Faults().drop == 0.0
