"""Systemd's journal and its service manager, played by a file and a socket."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl import systemd

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets of Unix")


def test_the_journal_is_known_by_the_device_and_the_inode_of_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert systemd.is_journal(stream)
        assert not systemd.is_journal(other), "redirected after the start, as with a shell"
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not systemd.is_journal(stream)


def test_a_stream_that_is_none_of_the_system_is_no_journal() -> None:
    assert not systemd.is_journal(object())


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("notify")  # the whole path may be longer than a socket's may be
        receiver.settimeout(10)
        yield receiver


def test_a_manager_that_asks_is_told(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path("notify").absolute()
    monkeypatch.setenv("NOTIFY_SOCKET", str(place))
    systemd.notify(systemd.READY, systemd.status("é" * 300))
    ready, status = manager.recv(4096).decode().split("\n")
    assert ready == "READY=1"
    assert status == f"STATUS={'é' * 200}"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"p2pfl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.notify(systemd.STOPPING)
        assert receiver.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("place", ["", "/nowhere/socket", "relative"])
def test_without_a_manager_nothing_happens(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", place)
    systemd.notify(systemd.READY)
