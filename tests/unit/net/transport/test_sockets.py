from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator

import pytest

from p2pfl.errors import NetworkError, UserError
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.resolver import ResolvedAddress


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    [one] = sockets.listen("127.0.0.1", 0)
    with one:
        yield one


def test_all_interfaces_listen_on_one_port_in_both_families() -> None:
    opened = sockets.listen(None, 0)
    try:
        addresses = [sockets.local_address(one) for one in opened]
        assert addresses[0].host == "0.0.0.0"
        assert {address.port for address in addresses} == {addresses[0].port}
        if socket.has_ipv6 and len(opened) == 2:
            assert addresses[1].host == "::"
    finally:
        for one in opened:
            one.close()


def test_a_port_in_use_is_reported_with_advice(listening: socket.socket) -> None:
    with pytest.raises(UserError, match=r"another program does already.*--listen HOST:PORT"):
        sockets.listen("127.0.0.1", sockets.local_address(listening).port)


def test_the_advice_names_the_option_that_gave_the_address(listening: socket.socket) -> None:
    with pytest.raises(UserError, match=r"choose another port with --metrics HOST:PORT"):
        sockets.listen("127.0.0.1", sockets.local_address(listening).port, option="--metrics")
    for host, said in (("192.0.2.1", "none of its own"), ("no-such-host.invalid", "cannot be resolved")):
        with pytest.raises(UserError, match=rf"{said}.*as in --metrics :9100"):
            sockets.listen(host, 9100, option="--metrics")


def test_an_address_of_another_device_is_reported_with_advice() -> None:
    with pytest.raises(UserError, match="none of its own addresses"):
        sockets.listen("192.0.2.1", 0)


def test_an_unknown_name_to_listen_on_is_reported_with_advice() -> None:
    with pytest.raises(UserError, match="the name cannot be resolved"):
        sockets.listen("no-such-host.invalid", 0)


async def test_a_listening_address_can_be_connected_to(listening: socket.socket) -> None:
    with await sockets.connect(sockets.local_address(listening), 5.0) as connection:
        sockets.set_options(connection, 5.0)
        assert sockets.remote_host(connection) == "127.0.0.1"
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_all_addresses_of_a_name_are_tried(listening: socket.socket) -> None:
    with await sockets.connect(
        Address("localhost", sockets.local_address(listening).port), 5.0
    ) as connection:
        assert sockets.remote_host(connection) == "127.0.0.1"


async def test_a_port_without_a_listener_is_reported(listening: socket.socket) -> None:
    port = sockets.local_address(listening).port
    listening.close()
    with pytest.raises(NetworkError, match="nothing listens there: is the node running, and on this port"):
        await sockets.connect(Address("127.0.0.1", port), 5.0)


async def test_an_unknown_name_to_connect_to_is_reported() -> None:
    with pytest.raises(NetworkError, match="its name cannot be resolved"):
        await sockets.connect(Address("no-such-host.invalid", 1), 5.0)


class Refusing:
    """The module `socket`, on a kernel that makes no sockets of some kind."""

    def __init__(self, number: int, families: set[int]) -> None:
        self._number, self._families = number, families

    def __getattr__(self, name: str) -> object:
        return getattr(socket, name)

    def socket(self, family: int, *arguments: int) -> socket.socket:
        if family in self._families:
            raise OSError(self._number, "the kernel refuses")
        return socket.socket(family, *arguments)


async def test_a_kernel_without_ipv6_reaches_a_name_with_both_kinds_of_addresses(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = sockets.local_address(listening).port
    both = [(int(socket.AF_INET6), ("::1", port, 0, 0)), (int(socket.AF_INET), ("127.0.0.1", port))]
    monkeypatch.setattr(sockets, "socket", Refusing(errno.EAFNOSUPPORT, {socket.AF_INET6}))
    monkeypatch.setattr(sockets, "RESOLVER", Known(both))
    with await sockets.connect(Address("both", port), 5.0) as connection:
        assert sockets.remote_host(connection) == "127.0.0.1"
    listening.close()
    with pytest.raises(NetworkError, match="nothing listens there"):
        await sockets.connect(Address("both", port), 5.0)
    monkeypatch.setattr(sockets, "RESOLVER", Known(both[:1]))
    with pytest.raises(NetworkError, match="cannot reach addresses of that kind"):
        await sockets.connect(Address("both", port), 5.0)


async def test_too_many_open_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "socket", Refusing(errno.EMFILE, {socket.AF_INET}))
    with pytest.raises(NetworkError, match="ulimit"):
        await sockets.connect(Address("127.0.0.1", 1), 5.0)


def test_a_devices_own_addresses_are_recognised() -> None:
    assert sockets.is_own((int(socket.AF_INET), ("127.0.0.1", 9)))
    assert not sockets.is_own((int(socket.AF_INET), ("192.0.2.1", 9)))


class Known:
    """A resolver that knows one name."""

    def __init__(self, infos: list[ResolvedAddress]) -> None:
        self._infos = infos

    async def resolve(self, *_: object) -> list[ResolvedAddress]:
        return self._infos

    def invalidate(self, host: str) -> None:
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
async def test_the_last_file_descriptors_are_reserved(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "files_limit", lambda: listening.fileno() + 1)
    with pytest.raises(NetworkError, match="ulimit"):
        await sockets.connect(sockets.local_address(listening), 5.0)
    with pytest.raises(OSError, match="Too many open files"):
        sockets.check_file_limit(listening)


def test_a_link_local_address_includes_its_interface() -> None:
    index, name = socket.if_nameindex()[0]
    assert sockets.host_of(("fe80::1", 9, 0, index)) == f"fe80::1%{name}"
    assert sockets.host_of(("fe80::1", 9, 0, 999_999)) == "fe80::1%999999"
    assert sockets.host_of(("::ffff:192.0.2.7", 9, 0, 0)) == "192.0.2.7"
    assert sockets.host_of(("192.0.2.7", 9)) == "192.0.2.7"


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("localhost", True), ("127.0.0.1", True), ("192.0.2.7", False), ("laptop.local", False), ("", False)],
)
def test_a_host_is_certainly_own_without_a_name_server(host: str, is_own: bool) -> None:
    assert sockets.is_own_host(host) is is_own
