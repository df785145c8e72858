from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl import __version__
from p2pfl.doctor import way
from p2pfl.doctor.subject import Reached, Subject
from p2pfl.doctor.way import check_ways, findings_of
from p2pfl.errors import NetworkError
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.bulk.probing import LargePacketsLostError, WayMeasurement
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.wire.blobs import MeasureReply
from tests.support.federation import make_federation
from tests.support.meshes import FAST, lab

PI = Reached(Address("pi.local", 9001), PeerIdentity("p" * 52, "pi", "node", "lab"))

GOOD = WayMeasurement(0.010, 0.002, 12_000_000.0, 1448, MeasureReply(1.5e9, __version__, ()))


def test_a_good_way_is_one_line_of_numbers() -> None:
    [finding] = findings_of(PI, GOOD)
    assert str(finding) == (
        "✓ ok    pi: answers in 10.0 ms, sends 12 MB/s, 1448 bytes a packet; clock the same"
    )
    [unknown] = findings_of(PI, replace(GOOD, segment_bytes=0, clock_offset=-0.5))
    assert unknown.text == "pi: answers in 10.0 ms, sends 12 MB/s; clock 0.500 s behind"


@pytest.mark.parametrize(
    ("offset", "level"), [(61.0, "warn"), (-3600.0, "warn"), (59.0, "ok"), (60.004, "ok")]
)
def test_clocks_that_differ_are_told_with_the_command(offset: float, level: str) -> None:
    [finding] = findings_of(PI, replace(GOOD, clock_offset=offset))
    assert finding.level == level
    assert ("the two clocks differ by" in finding.text) == (level == "warn")
    assert ("sudo timedatectl set-ntp true" in finding.commands) == (level == "warn")


@pytest.mark.parametrize("slow", [{"delay": 1.5}, {"rate": 50_000.0}])
def test_a_slow_way_is_told_with_what_it_means(slow: dict[str, float]) -> None:
    measured = replace(GOOD, **slow)  # type: ignore[arg-type]  # both are numbers
    [finding] = findings_of(PI, measured)
    assert finding.level == "warn"
    assert f"a model of 10 MB takes {10e6 / measured.rate:,.0f} s" in finding.text


def test_another_version_is_told() -> None:
    numbers, version = findings_of(PI, replace(GOOD, about=MeasureReply(1.5e9, "9.9", ())))
    assert (numbers.level, version.level) == ("ok", "warn")
    assert version.text == f"pi runs p2pfl 9.9, and this device {__version__}"


async def test_the_way_is_measured_and_links_are_noted(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee", "cat")
    async with lab(tmp_path) as opened:
        bee = await opened.start(federation["bee"])
        await opened.start(federation["cat"], [bee.address])
        await bee.told.until(lambda told: told.names == {"cat"})
        identity = PeerIdentity(bee.id, "bee", "node", "lab")
        subject = Subject(tmp_path, settings=FAST, credentials=federation["ant"])
        subject.reached.append(Reached(parse_address(bee.address), identity))
        findings = [finding async for finding in check_ways(subject)]
    assert findings[0].text.startswith("bee: answers in ")
    assert [one.name for one in subject.reached[0].links or ()] == ["cat"]
    assert [one async for one in check_ways(Subject(tmp_path))] == []


async def test_a_way_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    subject = Subject(tmp_path, credentials=ant)
    subject.reached.append(PI)
    error: NetworkError = LargePacketsLostError("short messages are answered, and others are not")

    async def fail(*_: object) -> WayMeasurement:
        raise error

    monkeypatch.setattr(way, "_measure", fail)
    [finding] = [one async for one in check_ways(subject)]
    assert finding.level == "FAIL"
    assert "large packets are lost on the way (MTU)" in finding.text
    assert finding.commands[0].startswith("ip route get pi.local")
    error = NetworkError("it runs an older p2pfl")
    [finding] = [one async for one in check_ways(subject)]
    assert str(finding) == "! warn  pi: the way to it was not measured: it runs an older p2pfl"
    assert subject.reached == [PI]
