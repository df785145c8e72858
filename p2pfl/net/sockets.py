"""TCP sockets: where to listen, how to connect, which options.

IPv4 and IPv6 have a listening socket each (`IPV6_V6ONLY`): a peer's address then always looks the way it
looks to others, never like `::ffff:192.0.2.7`.
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
from p2pfl.net.addresses import Address, normal
from p2pfl.net.resolver import RESOLVER, Info

BACKLOG = 128
"""Connections the kernel keeps until they are accepted."""

FREE_PORT_ATTEMPTS = 20
"""A free port in IPv4 may be taken in IPv6: so many are tried."""

_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
"""What a kernel without IPv6 answers."""

_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}

TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""The process or the device has as many open as it may: no fault of a disk or a peer."""

FILES_ADVICE = "this device has too many files and connections open: raise its limit (`ulimit -n`)"
"""What to do about that."""


MOST_FILES = 4096
"""Open at a time: links, bulk connections and files of a node with a roster of 256 are a quarter of it."""

FILES_KEPT = 64
"""Of these, kept for models, the journal, logs and the worker's pipes."""


def listen(host: str | None, port: int) -> list[socket.socket]:
    """Return listening sockets, all on one port: any free one where *port* is 0.

    *host* None is every interface, in IPv4 and in IPv6 where the kernel has it.

    Raises:
        UserError: the port is taken or forbidden, or *host* is not this device's; it says what to do.
    """
    everywhere = host is None
    infos: list[Info] = (
        [(socket.AF_INET, ("0.0.0.0", 0)), (socket.AF_INET6, ("::", 0))]  # noqa: S104 - peers come from everywhere
        if host is None
        else _own_addresses(host)
    )
    for attempt in range(1, FREE_PORT_ATTEMPTS + 1):
        try:
            return _listen_on(infos, port, everywhere=everywhere)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not (taken and port == 0 and attempt < FREE_PORT_ATTEMPTS):
                raise _cannot_listen(host, port, error) from error
    raise AssertionError("the last attempt returns or raises")


async def connect(address: Address, seconds: float) -> socket.socket:
    """Return a socket connected to *address*: the one way in which anything here dials.

    A name is looked up within *seconds*, and all its addresses are tried within as many.

    Raises:
        NetworkError: none could be reached; half a sentence says why.
    """
    infos = await RESOLVER.resolve(address, seconds)
    failures: list[Exception] = []
    for family, where in infos:
        try:
            async with asyncio.timeout(seconds / len(infos)):
                return await _connected(family, where)
        except (OSError, TimeoutError) as error:
            failures.append(error)
    RESOLVER.doubt(address.host)
    # A kernel without IPv6 says so of each such address, which tells nothing of the device that is meant.
    telling = [one for one in failures if getattr(one, "errno", None) not in _NO_SUCH_FAMILY] or failures
    raise NetworkError(_why_unreachable(telling[-1], seconds)) from telling[-1]


def check_room(connection: socket.socket) -> None:
    """Refuse a new *connection* that would take the last files a process may have open.

    Some are kept for the disk and the worker: a node that is dialled by many must still be able to write.

    Raises:
        OSError: it would; its number is EMFILE.
    """
    if connection.fileno() >= files_limit() - files_kept():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def files_limit() -> int:
    """Return how many files and connections this process may have open."""
    if sys.platform == "win32":
        return MOST_FILES
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def files_kept() -> int:
    """Return how many of them no connection may take."""
    return min(FILES_KEPT, files_limit() // 2)


def raise_files_limit() -> None:
    """Let this process have as many files open as its user may, where that is of use."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_own(where: Info) -> bool:
    """Whether the IP address of *where* is one of this device's."""
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

    It does not use the event loop's own way: uvloop's takes the interface out of a link-local address.
    """
    loop = asyncio.get_running_loop()
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        check_room(connection)
        connection.setblocking(False)
        if sys.platform == "win32":
            await loop.sock_connect(connection, where)
        else:
            await _connect(loop, connection, where)
        if connection.getsockname() == connection.getpeername():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the socket met itself")
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


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def tune(connection: socket.socket, unacknowledged_seconds: float) -> None:
    """Send small frames at once; where the kernel can, give up when bytes are not acknowledged in time."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        with contextlib.suppress(OSError):  # sandboxed kernels know the name but not the option
            connection.setsockopt(socket.IPPROTO_TCP, option, int(unacknowledged_seconds * 1000))


def remote_host(connection: socket.socket) -> str:
    """Return the other side's IP address, a link-local one with the interface it is reached through.

    Raises:
        OSError: it is gone already.
    """
    return host_of(connection.getpeername())


def host_of(where: Any) -> str:
    """Return the IP address in the socket address *where*, a link-local one with its interface."""
    host = normal(str(where[0]).partition("%")[0])
    scope = where[3] if len(where) > 3 else 0
    if not scope:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface is gone
        return f"{host}%{scope}"


def local_address(listening: socket.socket) -> Address:
    """Return what a listening socket is bound to."""
    host, port = listening.getsockname()[:2]
    return Address(normal(host.partition("%")[0]), port)


def _listen_on(infos: Sequence[Info], port: int, *, everywhere: bool) -> list[socket.socket]:
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
        if sys.platform != "win32":  # there it would let another program steal the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(where)
    except OSError:
        listening.close()
        raise
    return listening


def _own_addresses(host: str) -> list[Info]:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"This device cannot listen on {host!r}: the name cannot be resolved. Give one of its own "
            f"addresses, or only a port, as in --listen :{DEFAULT_PORT}."
        ) from error
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


def _cannot_listen(host: str | None, port: int, error: OSError) -> UserError:
    where = f"port {port}" if host is None else str(Address(host, port))
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"This device cannot listen on {where}: another program does already, perhaps another node. "
            "Stop it, or choose another port with --listen HOST:PORT."
        )
    if error.errno == errno.EACCES:
        return UserError(
            f"This device may not listen on {where}: ports below 1024 need special rights. "
            "Choose another one with --listen HOST:PORT."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UserError(
            f"This device cannot listen on {where}: that is none of its own addresses. "
            f"Give one of them, or only a port, as in --listen :{DEFAULT_PORT}."
        )
    return UserError(
        f"This device cannot listen on {where}: {error.strerror or error}. "
        "Choose another address with --listen HOST:PORT."
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
