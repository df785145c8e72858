"""A run of many rounds: what a node holds in memory does not grow with them."""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, spec

EARLY, LATE = 50, 300


def objects_behind(root: Any) -> int:
    """Count the objects that can be reached from *root*, code left out."""
    seen, todo = set(), [root]
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, type | ModuleType | FunctionType | BuiltinFunctionType):
            continue
        seen.add(id(found))
        todo.extend(gc.get_referents(found))
    return len(seen)


def test_nodes_and_their_blobs_stay_the_same_size_over_hundreds_of_rounds() -> None:
    world = World(81, nodes=3, spec=spec(LATE + 5))
    world.begin()
    sizes = []
    for round_ in (EARLY, LATE):
        world.run_until(at_round(world, round_), 10 * LIMIT)
        sizes.append([objects_behind(device.node) for device in world.devices.values()])
    early, late = sizes
    assert all(after < before * 1.2 for before, after in zip(early, late, strict=True)), sizes
    for device in world.devices.values():
        assert len(device.disk.blobs | device.disk.unflushed) <= 2 + 2 * len(world.devices)
        assert len(device.disk.votes) == len(device.disk.updates) == 1
