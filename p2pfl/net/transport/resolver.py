"""Host names looked up, each in a thread of its own.

A name server that does not answer holds a look-up for half a minute, and event loops share a few threads for
all of them: two dead names would keep every other name, and much else, waiting. So each name has its own
thread, one at a time. Whoever asks waits a bounded time; the look-up goes on and its result is kept.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from p2pfl.errors import NetworkError
from p2pfl.net.transport.addresses import Address

Info = tuple[int, Any]
"""Address family and socket address, as `socket` wants them."""

LookUp = Callable[[str], Sequence[Info]]
"""Returns the addresses of a name, with any port. It blocks, and raises OSError or UnicodeError."""

KEPT_SECONDS = 30.0
"""A result is used this long without asking again, unless nobody was reached with it."""

FAILED_SECONDS = 2.0
"""The same of a failure: a name server is not asked several times a second."""

STALE_SECONDS = 1.0
"""A name that was known before is given this long; then its last addresses are used. Name servers are often
beyond an uplink that fails while the devices still reach each other."""

MAX_LOOKUPS = 32
"""Look-ups at a time of names that no operator has written: peers may tell any number of dead ones."""

MAX_KEPT = 1024
"""Names remembered."""


@dataclass
class _Known:
    """What the last look-ups of a name brought."""

    infos: Sequence[Info] = ()
    """Of the last one that succeeded."""
    failure: str = ""
    """Why the last one failed; empty where it succeeded."""
    fresh_until: float = 0.0


class Resolver:
    """Looks names up for a whole process."""

    def __init__(self, look_up: LookUp | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._look_up = look_up or _ask_system
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._flights: dict[str, Future[Sequence[Info]]] = {}
        self._favoured: set[str] = set()

    def favour(self, host: str) -> None:
        """Look *host* up however many others are under way: an operator has written it."""
        with self._lock:
            self._favoured.add(host)

    def doubt(self, host: str) -> None:
        """Look *host* up again the next time: nobody was reached at its addresses."""
        with self._lock:
            known = self._known.get(host)
            if known is not None and not known.failure:
                known.fresh_until = 0.0

    async def resolve(self, address: Address, seconds: float) -> list[Info]:
        """Return where to connect for *address*; a literal at once, a name within *seconds*.

        Raises:
            NetworkError: the name is unknown, or nobody answered; half a sentence says so.
        """
        literal = _literal(address)
        if literal is not None:
            return literal
        host = address.host
        with self._lock:
            known = self._known.get(host, _Known())
            if self._clock() < known.fresh_until:
                return _with_port(known, address.port)
            flight = self._flights.get(host) or self._begin(host)
        try:
            async with asyncio.timeout(min(seconds, STALE_SECONDS) if known.infos else seconds):
                await asyncio.wrap_future(flight)
        except TimeoutError:
            if not known.infos:
                raise NetworkError(
                    f"its name was not resolved within {seconds:g} s: check that a name server answers, "
                    "or use the IP address"
                ) from None
        with self._lock:
            return _with_port(self._known.get(host, known), address.port)

    def _begin(self, host: str) -> Future[Sequence[Info]]:
        """Start the look-up of *host*; the lock is held."""
        others = sum(name not in self._favoured for name in self._flights)
        if host not in self._favoured and others >= MAX_LOOKUPS:
            raise NetworkError(
                f"its name was not looked up: {MAX_LOOKUPS} other names still wait for answers"
            )
        flight: Future[Sequence[Info]] = Future()
        flight.set_running_or_notify_cancel()  # nobody who stops waiting ends it for the others
        thread = threading.Thread(target=self._run, args=(host, flight), name="look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise NetworkError(f"its name was not looked up: {error}") from error
        self._flights[host] = flight
        return flight

    def _run(self, host: str, flight: Future[Sequence[Info]]) -> None:
        """Look *host* up, in a thread."""
        infos: Sequence[Info] = ()
        failure = ""
        try:
            infos = self._look_up(host)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no host name"
            failure = f"its name cannot be resolved ({reason}): check its spelling, or use the IP address"
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            failure = f"its name cannot be resolved ({error!s:.200})"
        with self._lock:
            before = self._known.pop(host, _Known())
            kept = FAILED_SECONDS if failure else KEPT_SECONDS
            self._known[host] = _Known(infos or before.infos, failure, self._clock() + kept)
            while len(self._known) > MAX_KEPT:
                del self._known[next(iter(self._known))]
            del self._flights[host]
        flight.set_result(infos)


def _with_port(known: _Known, port: int) -> list[Info]:
    """Return the addresses that are known, with *port*.

    Raises:
        NetworkError: there are none; it says why.
    """
    if not known.infos:
        raise NetworkError(known.failure or "its name has no address")
    return [(family, (where[0], port, *where[2:])) for family, where in known.infos]


def _literal(address: Address) -> list[Info] | None:
    """Return where *address* is if it is an IP address; None where it is a name."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror as error:
        if "%" in address.host:  # only a literal has a scope: it names an interface that is not here
            scope = address.host.partition("%")[2]
            raise NetworkError(f"this device has no network interface {scope!r}") from error
        return None
    except UnicodeError:
        return None
    return _infos(found)


def _ask_system(host: str) -> list[Info]:
    return _infos(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))


def _infos(found: Sequence[tuple[Any, ...]]) -> list[Info]:
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


RESOLVER = Resolver()
"""The one of this process: nodes, commands and screens look names up alike, and share what is known."""
