from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from p2pfl.errors import NetworkError
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.resolver import (
    CACHE_SECONDS,
    MAX_LOOKUPS,
    NEGATIVE_CACHE_SECONDS,
    ResolvedAddress,
    Resolver,
)
from tests.support.meshes import WAIT_SECONDS, until

FOUND: list[ResolvedAddress] = [
    (int(socket.AF_INET), ("192.0.2.7", 0)),
    (int(socket.AF_INET6), ("fe80::1", 0, 0, 3)),
]
WITH_PORT = [(int(socket.AF_INET), ("192.0.2.7", 9)), (int(socket.AF_INET6), ("fe80::1", 9, 0, 3))]


class Names:
    """A name server: some names are known, some are silent until the end of the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = 0.0
        self.dead = threading.Event()
        self.silent: set[str] = set()
        self.failure: Exception | None = None
        self.resolver = Resolver(self.look_up, lambda: self.now)

    def look_up(self, host: str) -> Sequence[ResolvedAddress]:
        self.asked.append(host)
        if host in self.silent:
            self.dead.wait(WAIT_SECONDS)
        if self.failure is not None:
            raise self.failure
        return FOUND

    async def resolve(self, host: str, seconds: float = WAIT_SECONDS) -> list[ResolvedAddress]:
        return await self.resolver.resolve(Address(host, 9), seconds)


@contextmanager
def opened() -> Iterator[Names]:
    names = Names()
    try:
        yield names
    finally:
        names.dead.set()


@pytest.fixture
def names() -> Iterator[Names]:
    with opened() as made:
        yield made


async def test_a_name_is_resolved_with_port_and_interface(names: Names) -> None:
    assert await names.resolve("bee") == WITH_PORT


async def test_a_literal_needs_no_lookup(names: Names) -> None:
    assert await names.resolve("127.0.0.1") == [(int(socket.AF_INET), ("127.0.0.1", 9))]
    assert await names.resolve("::1") == [(int(socket.AF_INET6), ("::1", 9, 0, 0))]
    assert names.asked == []


async def test_a_link_local_literal_keeps_its_interface(names: Names) -> None:
    index, name = socket.if_nameindex()[0]
    [(_, where)] = await names.resolve(f"fe80::1%{name}")
    assert where[3] == index


async def test_a_missing_interface_is_named(names: Names) -> None:
    with pytest.raises(NetworkError, match="no network interface 'nosuch0'"):
        await names.resolve("fe80::1%nosuch0")


async def test_dead_names_delay_no_other_name(names: Names) -> None:
    names.silent = {f"dead{number}" for number in range(20)}
    waiting = [asyncio.create_task(names.resolve(name)) for name in names.silent]
    assert await names.resolve("bee") == WITH_PORT
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_name_has_one_lookup_at_a_time(names: Names) -> None:
    names.silent = {"dead"}
    for _ in range(3):
        with pytest.raises(NetworkError, match="not resolved within 0 s"):
            await names.resolve("dead", 0.0)
    assert names.asked == ["dead"]


async def test_a_lookup_continues_when_its_caller_stops_waiting(names: Names) -> None:
    names.silent = {"slow"}
    with pytest.raises(NetworkError, match="name server"):
        await names.resolve("slow", 0.0)
    names.dead.set()
    assert await names.resolve("slow") == WITH_PORT
    assert names.asked == ["slow"]


async def test_a_result_is_cached(names: Names) -> None:
    for now in (0.0, CACHE_SECONDS - 1, CACHE_SECONDS + 1):
        names.now = now
        await names.resolve("bee")
    assert names.asked == ["bee", "bee"]


async def test_an_invalidated_result_is_not_reused(names: Names) -> None:
    await names.resolve("bee")
    names.resolver.invalidate("bee")
    await names.resolve("bee")
    assert names.asked == ["bee", "bee"]


async def test_a_failure_is_cached_briefly_and_gives_advice(names: Names) -> None:
    names.failure = socket.gaierror(-2, "Name or service not known")
    for now in (0.0, NEGATIVE_CACHE_SECONDS / 2, NEGATIVE_CACHE_SECONDS + 1):
        names.now = now
        with pytest.raises(NetworkError, match=r"Name or service not known.*check its spelling"):
            await names.resolve("bee")
    assert names.asked == ["bee", "bee"]


async def test_a_stale_result_is_used_when_the_name_server_is_gone(names: Names) -> None:
    await names.resolve("bee")
    names.now, names.failure = CACHE_SECONDS + 1, socket.gaierror(-3, "Temporary failure")
    assert await names.resolve("bee") == WITH_PORT
    assert names.asked == ["bee", "bee"]


async def test_an_invalid_host_name_is_reported(names: Names) -> None:
    names.failure = UnicodeError("label empty or too long")
    with pytest.raises(NetworkError, match="it is not a host name"):
        await names.resolve("a..b")


async def test_an_unexpected_error_in_a_lookup_reaches_its_callers(names: Names) -> None:
    names.failure = RuntimeError("broken")
    with pytest.raises(NetworkError, match="broken"):
        await names.resolve("bee")


async def test_simultaneous_lookups_of_names_from_peers_are_limited(names: Names) -> None:
    names.silent = {f"dead{number}" for number in range(MAX_LOOKUPS)}
    waiting = [asyncio.create_task(names.resolve(name)) for name in names.silent]
    await until(lambda: len(names.asked) == MAX_LOOKUPS)
    with pytest.raises(NetworkError, match="other names still wait"):
        await names.resolve("bee")
    names.resolver.prioritise("bee")
    assert await names.resolve("bee") == WITH_PORT
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
