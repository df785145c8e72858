"""Resolves host names, each in its own thread, and caches the results.

A name server that does not answer blocks a lookup for half a minute. asyncio runs all lookups in one small
thread pool, so two dead names would delay every other name. Here each name has at most one thread. A caller
waits a bounded time; the lookup continues and its result is cached.
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

ResolvedAddress = tuple[int, Any]
"""Address family and socket address, in the form the `socket` module takes."""

LookupFunction = Callable[[str], Sequence[ResolvedAddress]]
"""Returns the addresses of a name, with any port. It blocks, and raises OSError or UnicodeError."""

CACHE_SECONDS = 30.0
"""How long a result is used without a new lookup, unless no address in it could be reached."""

NEGATIVE_CACHE_SECONDS = 2.0
"""How long a failed lookup is cached, so that a name server is not asked several times a second."""

STALE_AFTER_SECONDS = 1.0
"""How long a lookup may take before the addresses of an earlier one are used. The name server is often behind
an uplink that fails while the devices still reach each other."""

MAX_LOOKUPS = 32
"""Simultaneous lookups of names that came from peers, who may send any number of dead ones."""

MAX_CACHED = 1024
"""Names in the cache; the oldest is dropped first."""


@dataclass
class _CacheEntry:
    """The result of the last lookups of a name."""

    infos: Sequence[ResolvedAddress] = ()
    """Of the last lookup that succeeded."""
    failure: str = ""
    """Why the last lookup failed; empty if it succeeded."""
    fresh_until: float = 0.0


class Resolver:
    """Resolves the host names of a whole process."""

    def __init__(
        self, look_up: LookupFunction | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up or _ask_system
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[str, _CacheEntry] = {}
        self._lookups: dict[str, Future[Sequence[ResolvedAddress]]] = {}
        self._prioritised: set[str] = set()

    def prioritise(self, host: str) -> None:
        """Exempt *host*, which an operator has configured, from `MAX_LOOKUPS`."""
        with self._lock:
            self._prioritised.add(host)

    def invalidate(self, host: str) -> None:
        """Look *host* up again at the next call: none of its addresses could be reached."""
        with self._lock:
            known = self._cache.get(host)
            if known is not None and not known.failure:
                known.fresh_until = 0.0

    async def resolve(self, address: Address, seconds: float) -> list[ResolvedAddress]:
        """Return the socket addresses of *address*: of a literal at once, of a name within *seconds*.

        Raises:
            NetworkError: the name is unknown, or no name server answered; the message is half a sentence.
        """
        literal = _literal(address)
        if literal is not None:
            return literal
        host = address.host
        with self._lock:
            known = self._cache.get(host, _CacheEntry())
            if self._clock() < known.fresh_until:
                return _with_port(known, address.port)
            lookup = self._lookups.get(host) or self._begin(host)
        try:
            async with asyncio.timeout(min(seconds, STALE_AFTER_SECONDS) if known.infos else seconds):
                await asyncio.wrap_future(lookup)
        except TimeoutError:
            if not known.infos:
                raise NetworkError(
                    f"its name was not resolved within {seconds:g} s: check that a name server answers, "
                    "or use the IP address"
                ) from None
        with self._lock:
            return _with_port(self._cache.get(host, known), address.port)

    def _begin(self, host: str) -> Future[Sequence[ResolvedAddress]]:
        """Start the lookup of *host*; the caller holds the lock."""
        others = sum(name not in self._prioritised for name in self._lookups)
        if host not in self._prioritised and others >= MAX_LOOKUPS:
            raise NetworkError(
                f"its name was not looked up: {MAX_LOOKUPS} other names still wait for answers"
            )
        lookup: Future[Sequence[ResolvedAddress]] = Future()
        lookup.set_running_or_notify_cancel()  # a caller that stops waiting must not cancel it for the others
        thread = threading.Thread(target=self._run, args=(host, lookup), name="lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise NetworkError(f"its name was not looked up: {error}") from error
        self._lookups[host] = lookup
        return lookup

    def _run(self, host: str, lookup: Future[Sequence[ResolvedAddress]]) -> None:
        """Look *host* up; runs in a thread."""
        infos: Sequence[ResolvedAddress] = ()
        failure = ""
        try:
            infos = self._look_up(host)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a host name"
            failure = f"its name cannot be resolved ({reason}): check its spelling, or use the IP address"
        except Exception as error:  # noqa: BLE001 - the waiting callers must get an answer
            failure = f"its name cannot be resolved ({error!s:.200})"
        with self._lock:
            before = self._cache.pop(host, _CacheEntry())
            kept = NEGATIVE_CACHE_SECONDS if failure else CACHE_SECONDS
            self._cache[host] = _CacheEntry(infos or before.infos, failure, self._clock() + kept)
            while len(self._cache) > MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            del self._lookups[host]
        lookup.set_result(infos)


def _with_port(known: _CacheEntry, port: int) -> list[ResolvedAddress]:
    """Return the cached addresses, with *port*.

    Raises:
        NetworkError: there are none; the message says why.
    """
    if not known.infos:
        raise NetworkError(known.failure or "its name has no address")
    return [(family, (where[0], port, *where[2:])) for family, where in known.infos]


def _literal(address: Address) -> list[ResolvedAddress] | None:
    """Return the socket address of *address* if it is an IP literal; None if it is a name."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror as error:
        if "%" in address.host:  # only a literal has a scope, and it names an interface
            scope = address.host.partition("%")[2]
            raise NetworkError(f"this device has no network interface {scope!r}") from error
        return None
    except UnicodeError:
        return None
    return _infos(found)


def _ask_system(host: str) -> list[ResolvedAddress]:
    return _infos(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))


def _infos(found: Sequence[tuple[Any, ...]]) -> list[ResolvedAddress]:
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


RESOLVER = Resolver()
"""The resolver of this process: nodes, commands and screens share its cache."""
