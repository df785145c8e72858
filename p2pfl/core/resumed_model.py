"""After a start, makes this device's model fit the run that it goes on with.

The worker describes the model that its task makes. If only its frozen tensors differ from the run's, they are
pulled, once: afterwards they are on this disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from p2pfl.core.context import Context
from p2pfl.core.effects import Fetch, ReadSchema, fetch_frozen
from p2pfl.core.inputs import BlobFailed, Described, SchemaRead
from p2pfl.core.ledger import Ledger
from p2pfl.schema import Schema, first_difference, frozen_to_take

NO_FROZEN = "its frozen parameters differ from those of the run, which could not be pulled"


@dataclass
class ResumedModel:
    """The comparison of the model of a resumed run with this device's, and the pull of what differs."""

    ctx: Context
    described: Described | None = None
    """What the worker said, with the schema of the run once that is known; None: nothing differs."""
    retry_at: float | None = None
    """When to ask again for what nobody who is here has."""
    _wanted: ReadSchema | Fetch | None = None
    _told: str = ""
    """The last reason for waiting."""

    def compare(self, described: Described, ledger: Ledger) -> None:
        """Read the schema of the run of *ledger*, which is another one than the *described*."""
        self.described = described
        self._want(ReadSchema(ledger.model, ledger.genesis.layout, self._sources(ledger)))

    def schema_read(self, read: SchemaRead, ledger: Ledger) -> str:
        """Pull the frozen tensors of the run; return why this device cannot go on with it, else nothing."""
        described = self.described
        assert described is not None, "it was compared"
        assert described.schema is not None, "the agreement is known"
        if read.schema is None:
            self._wait(f"the model of the run could not be read: {read.reason}")
            return ""
        frozen = frozen_to_take(described.schema, read.schema)
        if frozen is None:
            return differs(described.schema, read)
        self.described = msgspec.structs.replace(described, schema=read.schema)
        self._want(fetch_frozen(frozen, self._sources(ledger)))
        return ""

    def blob_ready(self, digests: tuple[str, ...]) -> Described | None:
        """Return the description of the model that fits if *digests* is what was missing."""
        if not isinstance(self._wanted, Fetch) or self._wanted.digests != digests:
            return None
        described, self.described, self._wanted = self.described, None, None
        return described

    def blob_failed(self, failed: BlobFailed) -> str:
        """Ask again later; return why this device cannot go on with the run, else nothing."""
        if not isinstance(self._wanted, Fetch) or self._wanted.digests != failed.digests:
            return ""
        if failed.invalid:
            return f"{NO_FROZEN}: {failed.reason}"
        self._wait(f"{NO_FROZEN}: {failed.reason}")
        return ""

    def advance(self) -> None:
        """Ask again if it is time."""
        if self._wanted is not None and self.retry_at is not None and self.retry_at <= self.ctx.now:
            self._want(self._wanted)

    def _wait(self, reason: str) -> None:
        """Ask again in a while, and say why, once."""
        if reason != self._told:
            self._told = reason
            self.ctx.warn(f"{reason}. This device trains when it reaches one that has what is missing"[:400])
        self.retry_at = self.ctx.now + self.ctx.settings.resend

    def _want(self, wanted: ReadSchema | Fetch) -> None:
        self._wanted, self.retry_at = wanted, None
        self.ctx.do(wanted)

    def _sources(self, ledger: Ledger) -> tuple[str, ...]:
        return tuple(entry.node for entry in ledger.roster if entry.node != self.ctx.me.node)


def differs(mine: Schema, theirs: SchemaRead) -> str:
    """Describe the first tensor in which this device's model differs from the run's, if it is known."""
    difference = first_difference(mine, theirs.schema) if theirs.schema is not None else None
    if difference is None:
        difference = f"the different tensor is unknown ({theirs.reason or 'its file has another layout'})"
    else:
        difference += " (run's model first)"
    return f"its model differs: {difference}. Use the same task, model and version on all devices"
