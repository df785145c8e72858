import msgspec

from p2pfl.sim.driver_rules import ALL_RULES, DriverRules


def test_a_driver_keeps_every_rule_unless_it_is_taken_away() -> None:
    assert all(msgspec.structs.asdict(ALL_RULES).values())
    assert msgspec.structs.asdict(DriverRules(pulls_first=False)) == {
        **msgspec.structs.asdict(ALL_RULES),
        "pulls_first": False,
    }
