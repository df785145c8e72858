"""The endpoint of `--metrics`: `/metrics` for Prometheus, `/healthz` and `/readyz` for supervisors.

It has neither authentication nor encryption, so it listens on loopback unless the operator says otherwise.
Between two scrapes it costs nothing but the fold of events: what must be measured is measured when asked for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from p2pfl.events import AnyEvent, Notice, Published
from p2pfl.monitoring.health import report, why_not_alive, why_not_ready
from p2pfl.monitoring.http import Answer, HttpServer
from p2pfl.monitoring.place import DataPlace
from p2pfl.monitoring.values import NodeValues
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address, parse_listen

FRESH_SECONDS = 0.5
"""How long measurements and the text of `/metrics` are used again: many scrapes cost as much as two a
second."""

LOOPBACK = "127.0.0.1"

WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - how this device reaches such an address itself

OPTION = "--metrics"


def parse_metrics(text: str) -> tuple[str, int]:
    """Return host and port of `--metrics [HOST:]PORT`; without a host it is loopback.

    Raises:
        UserError: it is no address.
    """
    host, port = parse_listen(text)
    return host or LOOPBACK, port


@dataclass(frozen=True)
class OwnFacts:
    """What the metrics show of a node besides its events."""

    data_dir: Path
    started: float
    """Start of the process, in seconds since the epoch."""


class EventSource(Protocol):
    """The publisher of a node's events."""

    def add(self, sink: Callable[[Published], None], /) -> None:
        """Pass every later event to *sink*."""

    def publish(self, event: AnyEvent, /) -> None:
        """Pass *event* to every sink."""


class MetricsEndpoint:
    """The metrics and probes of one node."""

    def __init__(self, own: OwnFacts, address: Address) -> None:
        """Answer nothing yet; *address* is where the endpoint listens."""
        from p2pfl.monitoring.exposition import NodeCollector, ScrapeContext  # a tenth of a second

        self.address = address
        self.values = NodeValues()
        self.measure: Callable[[], None] | None = None
        """Publishes new measurements of this node and its peers at once; set when there is something to
        measure."""
        self._place = DataPlace(own.data_dir)
        around = ScrapeContext(self._place, own.started)
        self._collector = NodeCollector(self.values, around)
        self._measured_at = float("-inf")
        self._text, self._text_at = b"", float("-inf")

    @property
    def url(self) -> str:
        """The address of the metrics for a browser on this device."""
        host = WILDCARDS.get(self.address.host, self.address.host)
        return f"http://{Address(host, self.address.port)}/metrics"

    def notices(self) -> list[Notice]:
        """Return what the operator is told at the start."""
        told = [Notice("info", f"metrics at {self.url}, probes at /healthz and /readyz")]
        if not self.address.is_loopback:
            told.append(
                Notice(
                    "warning",
                    f"whoever reaches {self.address} can read the metrics, which have neither password nor "
                    f"encryption; {OPTION} {self.address.port} without a host keeps them on this device",
                )
            )
        return told

    def write(self, published: Published) -> None:
        """Take the next event of the node."""
        self.values.take(published)

    def server(self) -> HttpServer:
        """Return the server of all paths."""
        return HttpServer({"/metrics": self._metrics, "/healthz": self._alive, "/readyz": self._ready})

    def _refresh(self) -> float:
        """Measure, unless that was done a moment ago; return the present time."""
        now = time.monotonic()
        if self.measure is not None and now - self._measured_at >= FRESH_SECONDS:
            self._measured_at = now
            self.measure()
        return now

    def _metrics(self) -> Answer:
        from p2pfl.monitoring.exposition import CONTENT_TYPE

        now = self._refresh()
        if now - self._text_at >= FRESH_SECONDS:
            self._text, self._text_at = self._collector.text(), now
        return Answer(200, self._text, CONTENT_TYPE)

    def _alive(self) -> Answer:
        reason = why_not_alive(self.values)
        return Answer(503, f"{reason}\n".encode()) if reason else Answer(200, b"ok\n")

    def _ready(self) -> Answer:
        self._refresh()
        reasons = list(why_not_ready(self.values, self._place))
        body = msgspec.json.encode(report(self.values, reasons)) + b"\n"
        return Answer(503 if reasons else 200, body, "application/json")


@asynccontextmanager
async def metrics_endpoint(
    listen: tuple[str, int] | None, own: OwnFacts, source: EventSource
) -> AsyncIterator[MetricsEndpoint | None]:
    """Serve the metrics of a node at *listen* until the end of the context; None: serve nothing.

    Raises:
        UserError: the port is in use or not permitted, or the host is not an address of this device.
    """
    if listen is None:
        yield None
        return
    listening = sockets.listen(*listen, option=OPTION)
    endpoint = MetricsEndpoint(own, sockets.local_address(listening[0]))
    source.add(endpoint.write)
    server = endpoint.server()
    await server.open(listening)
    for notice in endpoint.notices():
        source.publish(notice)
    try:
        yield endpoint
    finally:
        await server.close()
