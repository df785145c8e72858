"""Network namespaces: devices with a cable each to one switch, made by a test itself, on one Linux machine.

The switch is a bridge in a namespace of its own, so nothing of the machine's own network is touched. Needs
the rights of root and a kernel that allows it; elsewhere the test is skipped and says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import pytest

SUBNET = "10.203.0"
"""Nobody but the devices sees it."""


class Wires:
    """One namespace, address and cable for each of *names*."""

    def __init__(self, names: Sequence[str]) -> None:
        self._prefix = f"p2pfl-{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._numbers = {name: number for number, name in enumerate(names, 1)}

    def inside(self, name: str) -> tuple[str, ...]:
        """Return what to write before a command so that it runs on device *name*."""
        return ("ip", "netns", "exec", self._namespace(name))

    def address(self, name: str) -> str:
        return f"{SUBNET}.{self._numbers[name]}"

    def pull(self, name: str) -> None:
        """Pull the cable of *name* out of the switch."""
        _ip("-n", self._switch, "link", "set", f"port{self._numbers[name]}", "down")

    def plug(self, name: str) -> None:
        """Plug it in again."""
        _ip("-n", self._switch, "link", "set", f"port{self._numbers[name]}", "up")

    def drop(self, sender: str, receiver: str) -> None:
        """Lose all that *sender* sends to *receiver*; the other direction goes on."""
        _ip("-n", self._namespace(sender), "route", "replace", "blackhole", f"{self.address(receiver)}/32")

    def carry(self, sender: str, receiver: str) -> None:
        """Let it arrive again."""
        _ip("-n", self._namespace(sender), "route", "del", "blackhole", f"{self.address(receiver)}/32")

    def reset(self, name: str) -> None:
        """Reset all TCP connections of *name*."""
        _run(*self.inside(name), "ss", "--kill", "--tcp", "state", "established")

    def refuse_calls(self, name: str) -> None:
        """Lose every packet that would open a connection to *name*, as a laptop's firewall does."""
        _run(*self.inside(name), "iptables", "-A", "INPUT", "-p", "tcp", "--syn", "-j", "DROP")

    def lay(self) -> None:
        """Make everything."""
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for name, number in self._numbers.items():
            inside, port = self._namespace(name), f"port{number}"
            _ip("netns", "add", inside)
            cable = ("link", "add", "cable", "netns", inside, "type", "veth")
            _ip(*cable, "peer", "name", port, "netns", self._switch)
            _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", inside, "addr", "add", f"{self.address(name)}/24", "dev", "cable")
            _ip("-n", inside, "link", "set", "cable", "up")
            _ip("-n", inside, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove all of it that there is; cables go with their namespaces."""
        for namespace in (*map(self._namespace, self._numbers), self._switch):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "del", namespace)

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"


@contextlib.contextmanager
def wires(*names: str) -> Iterator[Wires]:
    """Lay the wires between *names*; nothing of them is left afterwards. Skips the test where that cannot be."""
    if shutil.which("ip") is None:
        pytest.skip("there is no 'ip' command (iproute2) to make network namespaces with")
    laid = Wires(names)
    try:
        try:
            laid.lay()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        yield laid
    finally:
        laid.remove()


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
