"""TCP sockets: listening, connecting, socket options, and the limit on open files.

IPv4 and IPv6 have a listening socket each (`IPV6_V6ONLY`), so an IPv4 peer never appears as the IPv4-mapped
address `::ffff:192.0.2.7`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from p2pfl.config import DEFAULT_PORT
from p2pfl.errors import NetworkError, UserError
from p2pfl.net.transport.addresses import Address, normal
from p2pfl.net.transport.resolver import RESOLVER, ResolvedAddress

BACKLOG = 128
"""Connections that the kernel queues until they are accepted."""

FREE_PORT_ATTEMPTS = 20
"""Free ports to try: one that is free in IPv4 may be taken in IPv6."""

_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
"""Errors of a kernel without IPv6."""

_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}

TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""The process or the device has reached its limit of open files; the disk and the peer work."""

FILES_ADVICE = "this device has too many files and connections open: raise its limit (`ulimit -n`)"
"""The advice for such an error."""

MAX_OPEN_FILES = 4096
"""Open files and connections of a process. A node with a roster of 256 needs a quarter of them."""

RESERVED_FILES = 64
"""Of these, reserved for models, the journal, logs and the worker's pipes."""


def listen(host: str | None, port: int, option: str = "--listen") -> list[socket.socket]:
    """Return listening sockets, all on one port: any free port if *port* is 0.

    *host* None means every interface, in IPv4 and, if the kernel supports it, in IPv6. *option* is where the
    user gave both.

    Raises:
        UserError: the port is in use or not permitted, or *host* is not an address of this device.
    """
    everywhere = host is None
    infos: list[ResolvedAddress] = (
        [(socket.AF_INET, ("0.0.0.0", 0)), (socket.AF_INET6, ("::", 0))]  # noqa: S104 - peers connect from anywhere
        if host is None
        else _own_addresses(host, port, option)
    )
    for attempt in range(1, FREE_PORT_ATTEMPTS + 1):
        try:
            return _listen_on(infos, port, everywhere=everywhere)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not (taken and port == 0 and attempt < FREE_PORT_ATTEMPTS):
                raise _cannot_listen(host, port, error, option) from error
    raise AssertionError("the last attempt returns or raises")


async def connect(address: Address, seconds: float) -> socket.socket:
    """Return a socket connected to *address*. Every outgoing connection is made here.

    The name is resolved within *seconds*; trying its addresses takes at most *seconds* more.

    Raises:
        NetworkError: no address could be reached; the message is half a sentence.
    """
    infos = await RESOLVER.resolve(address, seconds)
    failures: list[Exception] = []
    for family, where in infos:
        try:
            async with asyncio.timeout(seconds / len(infos)):
                return await _connected(family, where)
        except (OSError, TimeoutError) as error:
            failures.append(error)
    RESOLVER.invalidate(address.host)
    # A kernel without IPv6 rejects every IPv6 address: that error says nothing about the other device.
    telling = [one for one in failures if getattr(one, "errno", None) not in _NO_SUCH_FAMILY] or failures
    raise NetworkError(_why_unreachable(telling[-1], seconds)) from telling[-1]


def check_file_limit(connection: socket.socket) -> None:
    """Refuse a new *connection* that would use one of the reserved file descriptors.

    A node that accepts many connections must still be able to open files.

    Raises:
        OSError: it would; `errno` is EMFILE.
    """
    if connection.fileno() >= files_limit() - reserved_files():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def files_limit() -> int:
    """Return how many files and connections this process may have open."""
    if sys.platform == "win32":
        return MAX_OPEN_FILES
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def reserved_files() -> int:
    """Return how many file descriptors no connection may use."""
    return min(RESERVED_FILES, files_limit() // 2)


def raise_files_limit() -> None:
    """Raise the soft limit of open files to `MAX_OPEN_FILES`, or as far as the hard limit allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # the limit then stays unchanged
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_own(where: ResolvedAddress) -> bool:
    """Whether the IP address of *where* belongs to this device."""
    family, (host, *_) = where
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0, *where[1][2:]))
    except OSError:
        return False
    return True


def is_own_host(host: str) -> bool:
    """Whether *host* is certainly this device: `localhost` or one of its IP addresses. Resolves no names."""
    if host.lower() == "localhost":
        return True
    try:
        infos = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return all(is_own((family, where)) for family, _, _, _, where in infos)


async def _connected(family: int, where: Any) -> socket.socket:
    """Return a socket connected to *where*.

    uvloop's `sock_connect` is not used: it drops the interface of a link-local address.
    """
    loop = asyncio.get_running_loop()
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        check_file_limit(connection)
        connection.setblocking(False)
        if sys.platform == "win32":
            await loop.sock_connect(connection, where)
        else:
            await _connect(loop, connection, where)
        if connection.getsockname() == connection.getpeername():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the socket is connected to itself")
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(loop: asyncio.AbstractEventLoop, connection: socket.socket, where: Any) -> None:
    try:
        connection.connect(where)
    except BlockingIOError:
        writable = loop.create_future()
        loop.add_writer(connection, _wake, writable)
        try:
            await writable
        finally:
            loop.remove_writer(connection)
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number)) from None


async def wait_readable(connection: socket.socket) -> None:
    """Wait until *connection* has bytes to read; on Windows, which has no `add_reader`, return at once."""
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(connection, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def set_options(connection: socket.socket, unacknowledged_seconds: float) -> None:
    """Disable Nagle's algorithm; where the kernel can, fail after *unacknowledged_seconds* without an ACK."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        with contextlib.suppress(OSError):  # sandboxed kernels may lack the option
            connection.setsockopt(socket.IPPROTO_TCP, option, int(unacknowledged_seconds * 1000))


def remote_host(connection: socket.socket) -> str:
    """Return the IP address of the other side; a link-local address includes its interface.

    Raises:
        OSError: the connection is closed.
    """
    return host_of(connection.getpeername())


def host_of(where: Any) -> str:
    """Return the IP address in the socket address *where*; a link-local address includes its interface."""
    host = normal(str(where[0]).partition("%")[0])
    scope = where[3] if len(where) > 3 else 0
    if not scope:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface no longer exists
        return f"{host}%{scope}"


def local_address(listening: socket.socket) -> Address:
    """Return the address a listening socket is bound to."""
    host, port = listening.getsockname()[:2]
    return Address(normal(host.partition("%")[0]), port)


def _listen_on(infos: Sequence[ResolvedAddress], port: int, *, everywhere: bool) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, where in infos:
            try:
                opened.append(_bound(family, (where[0], port, *where[2:])))
            except OSError as error:
                if not (everywhere and family == socket.AF_INET6 and error.errno in _NO_SUCH_FAMILY):
                    raise
                continue
            port = opened[0].getsockname()[1]
        for listening in opened:
            listening.listen(BACKLOG)
    except OSError:
        for listening in opened:
            listening.close()
        raise
    return opened


def _bound(family: int, where: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        if sys.platform != "win32":  # on Windows another program could then take the port over
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(where)
    except OSError:
        listening.close()
        raise
    return listening


def _own_addresses(host: str, port: int, option: str) -> list[ResolvedAddress]:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"This device cannot listen on {host!r}: the name cannot be resolved. Give one of its own "
            f"addresses, or only a port, as in {option} :{port or DEFAULT_PORT}."
        ) from error
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


def _cannot_listen(host: str | None, port: int, error: OSError, option: str) -> UserError:
    where = f"port {port}" if host is None else str(Address(host, port))
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"This device cannot listen on {where}: another program does already, perhaps another node. "
            f"Stop it, or choose another port with {option} HOST:PORT."
        )
    if error.errno == errno.EACCES:
        return UserError(
            f"This device may not listen on {where}: ports below 1024 need special rights. "
            f"Choose another one with {option} HOST:PORT."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UserError(
            f"This device cannot listen on {where}: that is none of its own addresses. "
            f"Give one of them, or only a port, as in {option} :{port or DEFAULT_PORT}."
        )
    return UserError(
        f"This device cannot listen on {where}: {error.strerror or error}. "
        f"Choose another address with {option} HOST:PORT."
    )


def _why_unreachable(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"it did not answer within {seconds:g} s: is the device on, and does its firewall let others in?"
        )
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: is the node running, and on this port?"
    assert isinstance(error, OSError)
    if error.errno in TOO_MANY_FILES:
        return FILES_ADVICE
    if error.errno in _NO_WAY:
        return f"there is no way to it ({error.strerror}): are both devices on, and connected to the network?"
    if error.errno in _NO_SUCH_FAMILY:
        return "this device cannot reach addresses of that kind (IPv4 or IPv6)"
    return f"it cannot be reached ({error.strerror or error})"
