"""Measures the way to each peer: delay, rate, packet size and clock; and compares versions.

It uses the connection that nodes exchange models on, authenticated on both sides, and moves a megabyte at
most.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from p2pfl import __version__
from p2pfl.config import NetSettings
from p2pfl.doctor.finding import Finding, size_text
from p2pfl.doctor.subject import Reached, Subject
from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk.probing import LargePacketsLostError, WayMeasurement, probing
from p2pfl.text import one_line

SLOW_DELAY_SECONDS = 1.0
"""A longer round trip is reported: a vote takes some of them."""

SLOW_BYTES_PER_SECOND = 100_000
"""A slower way is reported: a small model, 1 MB, takes ten seconds on it."""

CLOCK_SECONDS = 60.0
"""A larger difference of the clocks is reported: logs become hard to compare, and certificates are judged by
the clock."""


async def check_ways(subject: Subject) -> AsyncIterator[Finding]:
    """Measure the way to each peer that was reached, one after the other; note whom each is linked to."""
    credentials = subject.credentials
    if credentials is None:
        return
    for index, reached in enumerate(subject.reached):
        try:
            measurement = await _measure(reached, credentials, subject.settings)
        except LargePacketsLostError as error:
            yield large_packets_lost(reached, error)
        except NetworkError as error:
            yield Finding("warn", f"{reached.identity.name}: the way to it was not measured: {error}")
        else:
            subject.reached[index] = replace(reached, links=measurement.about.links)
            for finding in findings_of(reached, measurement):
                yield finding


async def _measure(reached: Reached, credentials: Credentials, settings: NetSettings) -> WayMeasurement:
    async with probing(reached.address, credentials, settings) as connection:
        return await connection.measure()


def findings_of(reached: Reached, measured: WayMeasurement) -> list[Finding]:
    """Return what the measurement of the way to a peer shows."""
    name = reached.identity.name
    offset, uncertain = measured.clock_offset, measured.delay / 2
    packet = f", {measured.segment_bytes} bytes a packet" if measured.segment_bytes else ""
    numbers = (
        f"{name}: answers in {1000 * measured.delay:.1f} ms, sends {size_text(measured.rate)}/s{packet}; "
        f"clock {_offset_text(offset, uncertain)}"
    )
    found = []
    if abs(offset) - uncertain > CLOCK_SECONDS:
        found.append(
            Finding(
                "warn",
                f"{numbers}; the two clocks differ by {abs(offset):,.0f} s",
                "set both clocks by the network (NTP): certificates are judged by the clock, and logs cannot "
                "be compared",
                ("timedatectl status", "sudo timedatectl set-ntp true"),
            )
        )
    if measured.delay > SLOW_DELAY_SECONDS or measured.rate < SLOW_BYTES_PER_SECOND:
        found.append(
            Finding(
                "warn",
                f"{numbers}; that is slow: a model of 10 MB takes {10e6 / measured.rate:,.0f} s",
                "use a cable or a better Wi-Fi, or exchange less: p2pfl node --lora-target, or a smaller "
                "--model",
                (f"ping {reached.address.host}",),
            )
        )
    software = one_line(measured.about.software, 32)
    if software != __version__:
        found.append(
            Finding(
                "warn",
                f"{name} runs p2pfl {software}, and this device {__version__}",
                "install the same p2pfl on all devices",
            )
        )
    return found if any(numbers in one.text for one in found) else [Finding("ok", numbers), *found]


def large_packets_lost(reached: Reached, error: LargePacketsLostError) -> Finding:
    """Return the finding for a way on which large packets are lost."""
    host = reached.address.host
    return Finding(
        "FAIL",
        f"{reached.identity.name}: {error}: large packets are lost on the way (MTU), so no model arrives",
        "make the packets smaller on the interface that leads there, as with a VPN: an MTU of 1280 always "
        "fits",
        (f"ip route get {host}    # names the interface", "sudo ip link set dev INTERFACE mtu 1280"),
    )


def _offset_text(offset: float, uncertain: float) -> str:
    if abs(offset) <= uncertain + 0.001:
        return "the same"
    return f"{abs(offset):,.3f} s {'ahead' if offset > 0 else 'behind'}"
