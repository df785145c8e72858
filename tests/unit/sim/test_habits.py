import msgspec

from p2pfl.sim.habits import ALL, Habits


def test_a_driver_keeps_every_rule_unless_it_is_taken_away():
    assert all(msgspec.structs.asdict(ALL).values())
    assert msgspec.structs.asdict(Habits(pulls_first=False)) == {
        **msgspec.structs.asdict(ALL),
        "pulls_first": False,
    }
