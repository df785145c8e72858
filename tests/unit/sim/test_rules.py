import msgspec
import pytest

from p2pfl.core.options import Policy
from p2pfl.sim.driver_rules import ALL_RULES
from p2pfl.sim.rules import RULES
from p2pfl.sim.world import World


@pytest.mark.parametrize("name", RULES)
def test_each_rule_takes_something_away(name: str) -> None:
    device = next(iter(World(1, without=RULES[name]).devices.values()))
    decisions = [
        field
        for field in Policy.__struct_fields__
        if getattr(device.policy, field) is not getattr(Policy(), field)
    ]
    driver_rules = [field for field, kept in msgspec.structs.asdict(device.driver_rules).items() if not kept]
    assert len(decisions) == 1 if RULES[name].policy else driver_rules


def test_without_a_rule_left_out_a_device_keeps_them_all() -> None:
    device = next(iter(World(1).devices.values()))
    assert (device.policy, device.driver_rules) == (Policy(), ALL_RULES)


def test_a_quorum_of_the_living_counts_this_node_and_its_links() -> None:
    world = World(1, without=RULES["quorum"])
    device = next(iter(world.devices.values()))
    assert device.policy.quorum(5) == 1
    world.begin()
    world.run_for(2.0)
    assert device.policy.quorum(5) == 3
