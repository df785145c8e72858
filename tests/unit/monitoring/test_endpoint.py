from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.errors import UserError
from p2pfl.events import AnyEvent, Notice, Published
from p2pfl.monitoring.endpoint import (
    FRESH_SECONDS,
    MetricsEndpoint,
    OwnFacts,
    metrics_endpoint,
    parse_metrics,
)
from p2pfl.net.transport.addresses import Address
from tests.support.monitored import RUNNING, committed


class Source:
    """A publisher of events."""

    def __init__(self) -> None:
        self.sinks: list[Callable[[Published], None]] = []
        self.told: list[AnyEvent] = []

    def add(self, sink: Callable[[Published], None], /) -> None:
        self.sinks.append(sink)

    def publish(self, event: AnyEvent, /) -> None:
        self.told.append(event)
        for sink in self.sinks:
            sink(Published(1, 0.0, event, getattr(event, "round", None)))


@pytest.fixture
def own(tmp_path: Path) -> OwnFacts:
    return OwnFacts(tmp_path, 100.0)


class Clock:
    """A clock that stands still until a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeTime:
    """The module `time` with such a clock."""

    def __init__(self, monotonic: Clock) -> None:
        self.monotonic = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("p2pfl.monitoring.endpoint.time", FakeTime(clock))
    return clock


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9100", ("127.0.0.1", 9100)),
        (":9100", ("127.0.0.1", 9100)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::1]:9100", ("::1", 9100)),
        ("pi.local:1", ("pi.local", 1)),
    ],
)
def test_a_port_alone_is_on_loopback(text: str, place: tuple[str, int]) -> None:
    assert parse_metrics(text) == place


@pytest.mark.parametrize("text", ["", "x:y", "70000", "-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not an address"):
        parse_metrics(text)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9100/metrics"),
        ("0.0.0.0", "http://127.0.0.1:9100/metrics"),
        ("::", "http://[::1]:9100/metrics"),
    ],
)
def test_the_url_works_on_this_device(own: OwnFacts, host: str, url: str) -> None:
    endpoint = MetricsEndpoint(own, Address(host, 9100))
    assert endpoint.url == url
    assert endpoint.notices()[0].text == f"metrics at {url}, probes at /healthz and /readyz"


def test_an_address_that_others_reach_is_a_warning(own: OwnFacts) -> None:
    assert [one.level for one in MetricsEndpoint(own, Address("127.0.0.1", 1)).notices()] == ["info"]
    warning = MetricsEndpoint(own, Address("192.0.2.1", 9100)).notices()[1]
    assert warning.level == "warning"
    assert "neither password nor encryption; --metrics 9100 without a host" in warning.text


async def fetch(endpoint: MetricsEndpoint, path: str) -> tuple[str, str]:
    """Return the status line and the body of the answer for *path*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.address.port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head.partition("\r\n")[0].removeprefix("HTTP/1.1 "), body


async def test_events_are_shown_and_probes_answer(own: OwnFacts) -> None:
    source = Source()
    async with metrics_endpoint(("127.0.0.1", 0), own, source) as endpoint:
        assert endpoint is not None
        assert [one.text for one in source.told if isinstance(one, Notice)] == [
            f"metrics at {endpoint.url}, probes at /healthz and /readyz"
        ]
        for event in (*RUNNING, committed(3)):
            source.publish(event)
        status, text = await fetch(endpoint, "/metrics")
        assert status == "200 OK"
        assert "\np2pfl_round 3.0\n" in text
        assert (await fetch(endpoint, "/healthz")) == ("200 OK", "ok\n")
        status, body = await fetch(endpoint, "/readyz")
        assert status == "200 OK"
        assert body.startswith('{"ready":true,"reasons":[],')
        source.publish(events.Ended(0, "the run is complete"))
        assert (await fetch(endpoint, "/healthz"))[0] == "503 Service Unavailable"
        status, body = await fetch(endpoint, "/readyz")
        assert status == "503 Service Unavailable"
        assert '"reasons":["the node ends with exit code 0: the run is complete"]' in body


async def test_the_certificate_in_use_is_the_last_one_told(own: OwnFacts, clock: Clock) -> None:
    source = Source()
    async with metrics_endpoint(("127.0.0.1", 0), own, source) as endpoint:
        assert endpoint is not None
        texts = []
        for not_after in (None, 1e9, 2e9):
            if not_after is not None:
                source.publish(events.CertificateChanged(not_after, ""))
            texts.append((await fetch(endpoint, "/metrics"))[1])
            clock.now += FRESH_SECONDS

    def left(text: str) -> list[float]:
        return [float(line.split()[1]) for line in text.splitlines() if line.startswith("p2pfl_cert")]

    assert left(texts[0]) == []
    assert left(texts[2])[0] - left(texts[1])[0] == pytest.approx(1e9, abs=600)


async def test_many_scrapes_measure_as_seldom_as_a_few(own: OwnFacts, clock: Clock) -> None:
    measured = 0

    def measure() -> None:
        nonlocal measured
        measured += 1

    async with metrics_endpoint(("127.0.0.1", 0), own, Source()) as endpoint:
        assert endpoint is not None
        await fetch(endpoint, "/metrics")
        endpoint.measure = measure
        clock.now += FRESH_SECONDS
        for path in ("/metrics", "/readyz", "/metrics", "/healthz"):
            await fetch(endpoint, path)
        assert measured == 1
        clock.now += FRESH_SECONDS
        await fetch(endpoint, "/readyz")
        assert measured == 2


async def test_a_port_that_is_taken_is_one_sentence(own: OwnFacts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=r"another program does already.* --metrics HOST:PORT"):
            async with metrics_endpoint(("127.0.0.1", port), own, Source()):
                raise AssertionError("not reached")


async def test_without_the_option_nothing_listens(own: OwnFacts) -> None:
    source = Source()
    async with metrics_endpoint(None, own, source) as endpoint:
        assert endpoint is None
    assert (source.sinks, source.told) == ([], [])
