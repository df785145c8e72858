"""Executes the commands of authorised observers: pause, resume, stop, start, leave, save."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.ledger import Ledger
from p2pfl.core.node import Node
from p2pfl.errors import P2pflError
from p2pfl.runtime.driver import Driver
from p2pfl.store.blobs import BlobStore
from p2pfl.store.durable import make_folder
from p2pfl.store.export import export_blob, personal_file
from p2pfl.wire.observing import CommandName, CommandResult

logger = logging.getLogger(__name__)

SHORT = 7
"""Number of characters of a digest in a file's name."""

_CONTROL_REQUESTS: dict[CommandName, tuple[Literal["pause", "resume", "end", "end-now"], str]] = {
    "pause": ("pause", "the run pauses with the next commit"),
    "resume": ("resume", "the run continues"),
    "stop": ("end", "the run ends with the next commit"),
    "stop-now": ("end-now", "the run ends now, with the updates there are"),
}
"""For each command the request to the federation, and the answer to the user."""


class CommandExecutor:
    """Executes commands and publishes who gave them."""

    def __init__(
        self, node: Node, driver: Driver, store: BlobStore, save_dir: Path, leave: Callable[[], bool]
    ) -> None:
        """Execute commands at *node*; models are saved in *save_dir*.

        *leave* starts a polite leave and returns False if the node is leaving already.
        """
        self._node = node
        self._driver = driver
        self._store = store
        self._save_dir = save_dir
        self._leave = leave

    async def execute(self, what: CommandName, who: str) -> CommandResult:
        """Execute the command *what* of the user *who*, and publish the result."""
        refused, text = await self._do(what, who)
        logger.info("%s commands %s: %s", who, what, f"refused: {refused}" if refused else text)
        self._driver.publish(events.Commanded(who, what, refused))
        return CommandResult(0, refused, text)

    async def _do(self, what: CommandName, who: str) -> tuple[str, str]:
        """Execute the command; return the reason of a refusal or "", and a text on what was done."""
        if what in _CONTROL_REQUESTS:
            control_request, text = _CONTROL_REQUESTS[what]
            refused = self._node.objection(control_request)
            if not refused:
                self._driver.feed(inputs.OperatorRequest(control_request, who))
            return refused, "" if refused else text
        if what == "start":
            if self._node.waits_because is None:
                return "this node is in a run already, whose options hold", ""
            self._driver.feed(inputs.Go())
            missing = self._node.waits_because
            done = "the start is given, and the options of this device hold"
            return "", f"{done}; still waiting: {missing}" if missing else done
        if what == "leave":
            if not self._leave():
                return "this node is leaving already; Ctrl-C or SIGTERM stops it at once", ""
            return "", "this node leaves"
        return await self._save()

    async def _save(self) -> tuple[str, str]:
        """Copy the last committed model to the folder of saved models."""
        ledger = self._node.ledger
        if ledger is None or ledger.last is None:
            return "no round is committed yet", ""
        if not ledger.holds:
            return "the last committed model is not here yet; try again in a moment", ""
        target = self._save_dir / f"round-{ledger.trained}-{ledger.model[:SHORT]}.safetensors"
        model = ledger.model
        self._store.pin(model)
        try:
            await asyncio.to_thread(self._copy, ledger, model, target)
        except P2pflError as error:
            return str(error), ""
        finally:
            self._store.unpin(model)
        return "", f"saved as {target}"

    def _copy(self, ledger: Ledger, model: str, target: Path) -> None:
        make_folder(target.parent)
        personal, spec = None, ledger.genesis.spec
        if spec.personalisation.personal and ledger.last is not None:
            updates = [update.digest for update in ledger.last.record.updates]
            personal = personal_file(self._store.directory, ledger.run, updates)
        source = self._store.path(model)
        export_blob(
            source,
            ledger.genesis.layout,
            target,
            force=True,
            personal=personal,
            lora_scale=spec.lora_scale,
        )
