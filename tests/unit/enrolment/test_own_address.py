from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from p2pfl.enrolment.own_address import own_address


def without_way(monkeypatch: pytest.MonkeyPatch, **interfaces: list[tuple[int, str]]) -> None:
    """Let this device have *interfaces* only, and no way out of them."""

    def no_way(*_: Any) -> None:
        raise OSError("no way")

    monkeypatch.setattr(socket.socket, "connect", no_way)
    states = {name: SimpleNamespace(isup=not name.startswith("down")) for name in interfaces}
    found = {
        name: [SimpleNamespace(family=family, address=address) for family, address in addresses]
        for name, addresses in interfaces.items()
    }
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)


def test_without_a_way_out_it_is_the_address_of_an_interface_that_is_up_ipv4_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_way(
        monkeypatch,
        down0=[(socket.AF_INET, "192.0.2.1")],
        lo=[(socket.AF_INET, "127.0.0.1")],
        eth0=[
            (socket.AF_INET6, "fe80::1%eth0"),
            (socket.AF_INET6, "2001:db8::7"),
            (socket.AF_INET, "192.0.2.7"),
        ],
    )
    assert own_address() == "192.0.2.7"


def test_a_device_without_a_network_has_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    without_way(monkeypatch, lo=[(socket.AF_INET, "127.0.0.1")])
    assert own_address() == "127.0.0.1"


def test_with_a_way_out_it_is_the_address_on_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.enrolment.own_address.FAR", "127.0.0.1")
    assert own_address() == "127.0.0.1"
