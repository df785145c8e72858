"""`p2pfl.node`: a node in a process beside this program, such as a notebook whose own loop trains.

The node is a child process of its own session, so Ctrl-C in this program does not reach it; and it ends with
this program, however that ends, because it reads a pipe whose other end this program holds.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, Unpack

from p2pfl.errors import UserError
from p2pfl.identity.credentials import check_is_node, load_credentials
from p2pfl.learning.scripts.frames import TOKEN_VARIABLE, TrainerEndpoint, read_endpoint
from p2pfl.paths import full
from p2pfl.programs import detached, start
from p2pfl.runtime.configure import NodeOptions, checked_options
from p2pfl.runtime.observing import endpoint as observing
from p2pfl.store.directory import DataDirectory, default_data_dir
from p2pfl.store.durable import disk_errors, make_folder

OUTPUT_FILE = "node.out"
"""Output of the node's last start, in the folder of the logs."""

START_SECONDS = 60.0
"""Time limit until the node listens; an idle machine needs a second."""

POLL_SECONDS = 0.05

LEAVE_SECONDS = 15.0
"""Time for a polite leave; then the node is killed."""


class ChildNode:
    """A node that was started by `node`; a context manager that ends it."""

    def __init__(self, words: tuple[str, ...], directory: DataDirectory) -> None:
        self.words = words
        """The arguments of `p2pfl node`."""
        self.data_dir = directory.path
        """The folder of its models, its journal and its logs."""
        self.output = directory.logs_path / OUTPUT_FILE
        """The file of what it prints; more is in `node.log` beside it."""
        self.address = ""
        """The addresses that it listens on, for `peers` of other devices."""
        self._token = secrets.token_hex(32)
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"listens on {self.address}" if self.is_running else "has ended"
        return f"<node on {self.data_dir}, {state}>"

    @property
    def is_running(self) -> bool:
        """Whether the node has not ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """Leave the federation politely, and wait for the end of the node."""
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(OSError):
            self._input.close()

    def trainer(self) -> TrainerEndpoint | None:
        """Return where a training loop connects; None if the run is over.

        Raises:
            UserError: the node has ended for another reason.
        """
        if self.is_running:
            endpoint = self._endpoint()
            if endpoint is not None:
                return endpoint
        if reason := self.why_ended():
            raise UserError(reason)
        return None

    def why_ended(self) -> str:
        """Wait for the end of the node; return the reason as a sentence, empty if its run is over."""
        try:
            code = self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"The node does not answer; its log is in {self.output.parent}."
        return "" if code == 0 else f"The node has ended: {self._last_line()}"

    def wait_until_it_listens(self) -> None:
        """Return when a training loop can connect, or when the run is over.

        Raises:
            UserError: the node ended, or does not listen in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running:
                self.trainer()
                return
            found = observing.read_endpoint(DataDirectory(self.data_dir).observe_path)
            if self._endpoint() is not None and found is not None:
                self.address = ",".join(found.addresses)
                return
            time.sleep(POLL_SECONDS)
        raise UserError(f"The node did not listen within {START_SECONDS:.0f} s: see {self.output}.")

    def _endpoint(self) -> TrainerEndpoint | None:
        """Return the endpoint of this node, not that of an earlier one on the same folder."""
        endpoint = read_endpoint(self.data_dir)
        return endpoint if endpoint is not None and endpoint.token == self._token else None

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _start(self) -> subprocess.Popen[bytes]:
        make_folder(self.data_dir)
        make_folder(self.output.parent)
        with disk_errors("write", self.output), self.output.open("wb") as output:
            return start(
                "p2pfl",
                "node",
                *self.words,
                variables={TOKEN_VARIABLE: self._token},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                **detached(),
            )

    def _last_line(self) -> str:
        text = self.output.read_text(encoding="utf-8", errors="backslashreplace")
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1].removeprefix("p2pfl: ") if lines else f"its log is in {self.output.parent}."


_running: dict[Path, ChildNode] = {}
"""The nodes that this program has started, by data directory."""


REFUSED = {
    "script": "this program itself trains, with p2pfl.rounds(model, node=...)",
    "arguments": "only a script that the node starts has arguments",
}
"""Options of `p2pfl node` that have no meaning here, with the reason."""


REPEATED = frozenset({"interface", "track", "strategy_arg"})
"""Options that are given once for each of their values; other lists are one text with commas."""


def node(*, options: Sequence[str] = (), **given: Unpack[NodeOptions]) -> ChildNode:
    """Start a node beside this program, whose loop trains with `p2pfl.rounds(model, node=...)`.

    If this program has started the node before, as when a cell of a notebook runs again, and it still runs,
    that one is returned. The node ends with its run, with `ChildNode.close`, or with this program.

    Args:
        options: further words for `p2pfl node`, for the few options that are for a terminal, such as
            "--events=events.jsonl".
        given: the options of `p2pfl node`, with underscores, such as certs="certs", rounds=20 and threads=1;
            `p2pfl node --help` explains each. `task` is a name for what is trained, which all devices need to
            give alike (default: "script"). The task of a device with `p2pfl node --script train.py` is
            "train".

    Raises:
        UserError: the node cannot be started as wanted; the message says why.
    """
    checked = checked_options(given)
    for name, reason in REFUSED.items():
        if name in checked:
            raise UserError(f"p2pfl.node takes no {name}: {reason}.")
    certs = full(checked.pop("certs", Path("certs")))
    certificate = load_credentials(certs, checked.get("name"))
    check_is_node(certificate)
    directory = DataDirectory(checked.pop("data_dir", None) or default_data_dir(certificate.name))
    directory.check()
    fixed = {"task": "script", "peers": (), **checked, "certs": certs, "data_dir": directory.path}
    words = ["--script=-", *_words(fixed), "--until-eof", "--quiet", *options]
    earlier = _running.get(directory.path)
    if earlier is not None and earlier.is_running:
        if earlier.words != tuple(words):
            raise UserError(f"A node with other options runs on {directory.path}: close it first.")
        return earlier
    started = _running[directory.path] = ChildNode(tuple(words), directory)
    try:
        started.wait_until_it_listens()
    except BaseException:
        started.close()
        raise
    return started


def _words(options: Mapping[str, Any]) -> list[str]:
    """Return checked *options* as words of a command line; the names become those of flags."""
    words = []
    for name, value in sorted(options.items()):
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else []
        elif name in REPEATED:
            words += [f"{flag}={one}" for one in value]
        else:
            words.append(f"{flag}={','.join(value) if isinstance(value, tuple) else value}")
    return words
