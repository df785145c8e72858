from __future__ import annotations

import pytest

from p2pfl.discovery.interfaces import Interface, check_interfaces, choose, usable_interfaces
from p2pfl.errors import UserError

LAN = frozenset({"up", "broadcast", "running", "multicast"})
VPN = frozenset({"up", "pointopoint", "running", "multicast"})


def interface(name: str, address: str = "192.0.2.7", flags: frozenset[str] = LAN) -> Interface:
    return Interface(name, 1, (address,), flags)


def chosen(*present: Interface) -> list[str]:
    return [one.name for one in choose(present)]


def test_interfaces_of_a_network_are_chosen() -> None:
    assert chosen(interface("eth0"), interface("wlan0", "fe80::1"), interface("br0")) == [
        "eth0",
        "wlan0",
        "br0",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "docker0",
        "br-0123456789ab",
        "veth12ab34f",
        "virbr0",
        "vmnet8",
        "vboxnet0",
        "podman1",
        "awdl0",
        "lxdbr0",
    ],
)
def test_interfaces_inside_the_device_are_not_chosen(name: str) -> None:
    assert chosen(interface(name), interface("eth0")) == ["eth0"]


def test_loopback_and_what_carries_no_multicast_are_not_chosen() -> None:
    loopback = interface("lo", "127.0.0.1", frozenset({"up", "loopback", "running", "multicast"}))

    assert chosen(loopback, interface("wwan0", flags=frozenset({"up", "running"}))) == []


def test_a_vpn_is_chosen_only_where_there_is_nothing_else() -> None:
    vpn = interface("tun0", flags=VPN)

    assert chosen(vpn, interface("eth0")) == ["eth0"]
    assert chosen(vpn) == ["tun0"]


def test_a_system_that_tells_no_flags_is_judged_by_addresses_and_names() -> None:
    none = frozenset[str]()

    assert chosen(interface("Ethernet", flags=none), interface("Loopback", "127.0.0.1", none)) == ["Ethernet"]


def test_addresses_are_told_apart() -> None:
    both = Interface("eth0", 2, ("192.0.2.7", "fe80::1"), LAN)

    assert both.ipv4 == ("192.0.2.7",)
    assert both.has_ipv6
    assert not interface("eth0").has_ipv6


def test_named_interfaces_replace_the_choice() -> None:
    assert [one.name for one in usable_interfaces(["lo"])] == ["lo"]
    assert "lo" not in [one.name for one in usable_interfaces()]


def test_an_interface_that_is_not_there_is_refused_with_those_that_are() -> None:
    check_interfaces(["lo"])

    with pytest.raises(UserError, match=r"no network interface 'eth77'.*lo"):
        check_interfaces(["lo", "eth77"])
