"""Meshes on loopback: all nodes become linked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.federation import make_federation
from tests.support.meshes import Recorder, lab


def is_linked_to(names: set[str]) -> Callable[[Recorder], bool]:
    return lambda told: told.names == names


@pytest.mark.parametrize("size", [2, 3, 5])
async def test_one_reachable_address_is_enough_to_link_all_nodes(tmp_path: Path, size: int) -> None:
    names = [f"n{number}" for number in range(size)]
    federation = make_federation(tmp_path / "ca", *names)
    async with lab(tmp_path) as world:
        first = await world.start(federation["n0"])
        nodes = [first] + [await world.start(federation[name], [first.address]) for name in names[1:]]
        for node in nodes:
            await node.told.until(is_linked_to(set(names) - {node.credentials.name}))
        for node in nodes:
            assert [what for what, _ in node.told.history] == ["linked"] * (size - 1)
            assert node.told.refusals == []
