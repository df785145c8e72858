"""The program `tests.bench.synthetic_node` that also records how many bytes it received over the network.

At each event of `MOMENTS` it appends a line to NAME.traffic in its working folder, with the counters of
`p2pfl.net.transport.traffic`, which no event contains.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from p2pfl import events
from p2pfl.runtime.driver import Driver
from tests.bench import synthetic_node

PROGRAM = ("-m", "tests.bench.counted_node")
"""Argument of `tests.support.processes.Fleet.start`."""

MOMENTS = (events.RunJoined, events.RunEnded)
"""Published when the node has the initial model, and when it has the last one."""


class Received(msgspec.Struct, frozen=True):
    """Bytes received since the start of the node."""

    bulk: int
    control: int


def read_received(folder: Path, name: str) -> list[Received]:
    """Return what node *name* recorded, one value for each event of `MOMENTS`."""
    lines = (folder / f"{name}.traffic").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Received) for line in lines]


def main() -> None:
    publish = Driver.publish

    def counting(self: Driver, event: events.AnyEvent) -> None:
        if isinstance(event, MOMENTS):
            assert self.mesh is not None, "a run needs a network"
            total = self.mesh.traffic.total
            received = Received(total("bulk").received, total("control").received)
            with Path(f"{self._node._ctx.name}.traffic").open("ab") as file:
                file.write(msgspec.json.encode(received) + b"\n")
        publish(self, event)

    Driver.publish = counting  # type: ignore[method-assign]
    synthetic_node.main()


if __name__ == "__main__":
    main()
