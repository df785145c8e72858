"""A node on loopback that only serves observers, with real sockets and TLS but no protocol core."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from p2pfl.events import AnyEvent, Published, RoundRow
from p2pfl.identity.names import Role
from p2pfl.identity.signatures import signer_of
from p2pfl.net.mesh import Mesh
from p2pfl.net.transport.addresses import Address
from p2pfl.observe.target import Target
from p2pfl.runtime.observing.observers import Observers
from p2pfl.store.blobs import BlobStore
from p2pfl.wire.observing import CommandName, CommandResult
from tests.support.federation import make_federation
from tests.support.meshes import FAST, Incarnations, Recorder, new_local

TOKEN, STREAM = "5e" * 32, "0a" * 16


class Observed:
    """The part of node "ada" that observers see."""

    def __init__(self, folder: Path, rows: list[RoundRow]) -> None:
        self._folder = folder
        self._rows = rows
        self.credentials = make_federation(folder / "ca", "ada")["ada"]
        self.orders: list[tuple[CommandName, str]] = []
        self.refused = ""
        """Answer to commands: the reason of a refusal; empty to accept."""
        self.observers = Observers(self.credentials, FAST, TOKEN, STREAM, self._history, self._obey)
        self.mesh = Mesh(
            self.credentials,
            replace(new_local(), signer=signer_of(self.credentials)),
            Recorder(),
            BlobStore(folder / "blobs"),
            listen=("127.0.0.1", 0),
            incarnations=Incarnations(),
            observers=self.observers.hear,
            settings=FAST,
        )
        self._seq = 0

    def tell(self, *told: AnyEvent) -> None:
        """Publish events."""
        for event in told:
            self._seq += 1
            self.observers.write(Published(self._seq, 100.0 + self._seq, event))

    def target(self, name: str | None = None, role: Role = "observer", *, token: str = TOKEN) -> Target:
        """Return the target of the local user; with *name*, of a user with a certificate of *role*."""
        address = Address("127.0.0.1", self.mesh.port)
        if name is None:
            return Target((address,), self.credentials, token, self.credentials.node_id, None)
        shown = make_federation(self._folder / "ca", name, role=role)[name]
        return Target((address,), shown, "", None, None)

    async def _history(self, _run: str) -> list[RoundRow]:
        return self._rows

    async def _obey(self, what: CommandName, who: str) -> CommandResult:
        self.orders.append((what, who))
        return CommandResult(0, self.refused, "" if self.refused else f"did {what}")


@contextlib.asynccontextmanager
async def observed(folder: Path, rows: list[RoundRow] | None = None) -> AsyncIterator[Observed]:
    """Run node "ada" on loopback, with *rows* as its history."""
    node = Observed(folder, rows or [])
    await node.mesh.start()
    try:
        yield node
    finally:
        await node.observers.close("the test is over")
        await node.mesh.close("the test is over")
