"""Certificates of real nodes end and are renewed in a run: links live on, new handshakes show the new ones."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from p2pfl import events
from p2pfl.identity.authority import create_authority, issue, renew
from p2pfl.identity.credentials import load_credentials, read_certificate, read_credentials
from p2pfl.net.transport.tls import CONTROL_ALPN, client_context
from tests.support.processes import LIGHT, PATIENCE_SECONDS, Fleet, Process, address_of, fleet, until

pytestmark = pytest.mark.processes

TEN_MINUTES = timedelta(minutes=10)
DETACHED = (
    sys.executable,
    "-c",
    "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Runs a command without a terminal, like a service."""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        month_ago = datetime.now(UTC) - timedelta(days=30)
        create_authority(tmp_path / "certs", "fleet", force=True, now=month_ago)
        yield opened


def issue_aged(nodes: Fleet, name: str, left: timedelta) -> Path:
    """Issue *name* a certificate of ten minutes, of which *left* remains; return a folder without the CA."""
    made = datetime.now(UTC) - TEN_MINUTES + left
    issued = issue(nodes.folder / "certs", name, days=TEN_MINUTES / timedelta(days=1), now=made)
    return Path(shutil.copytree(issued, nodes.folder / "devices" / name))


async def shown_by(process: Process, nodes: Fleet) -> x509.Certificate:
    """Return the certificate that *process* shows in a new handshake."""
    host, _, port = address_of(process).rpartition(":")
    context = client_context(read_credentials(nodes.folder / "certs" / "eve"), [CONTROL_ALPN])
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(shown)


@pytest.mark.long
async def test_certificates_of_ten_minutes_are_renewed_in_a_run_without_a_lost_link(nodes: Fleet) -> None:
    issue(nodes.folder / "certs", "eve")
    options = ["--min-nodes=3", "--rounds=22", "--pace=1.5"]
    ada = await nodes.start("ada", *options, program=LIGHT)
    old_end = datetime.now(UTC) + timedelta(seconds=25)
    ben_certs = issue_aged(nodes, "ben", timedelta(seconds=25))
    cleo_certs = issue_aged(nodes, "cleo", timedelta(minutes=2))
    ben = await nodes.start("ben", *options, peers=[ada], certs=ben_certs, program=LIGHT)
    cleo = await nodes.start("cleo", *options, peers=[ada], certs=cleo_certs, program=LIGHT)

    for one in (ben, cleo):
        renewed = await one.until(events.CertificateChanged, lambda event: event.how == "renewed by ada")
        assert renewed.not_after > (old_end + timedelta(minutes=2)).timestamp()
    await until(lambda: datetime.now(UTC) > old_end + timedelta(seconds=1), "the end of ben's certificate")
    committed = len(ben.all(events.Committed))
    await ben.until(events.Committed, lambda event: event.round > committed + 1)

    shown = await shown_by(ben, nodes)
    assert shown == read_certificate(ben_certs / "node.crt")
    assert shown.not_valid_after_utc > old_end
    assert [await one.exit_code() for one in (ada, ben, cleo)] == [0, 0, 0]
    assert all(one.all(events.RunEnded) for one in (ada, ben, cleo))
    published = [item for one in (ada, ben, cleo) for item in one.published]
    ended_at = min(item.time for item in published if isinstance(item.event, events.RunEnded))
    lost = [item for item in published if isinstance(item.event, events.PeerLost) and item.time < ended_at]
    assert lost == []
    nodes.check()


async def test_the_holder_of_the_ca_renews_its_own_certificate(nodes: Fleet) -> None:
    made = datetime.now(UTC) - timedelta(minutes=9)
    folder = issue(nodes.folder / "certs", "ada", days=TEN_MINUTES / timedelta(days=1), now=made)
    old = load_credentials(folder)
    ada = await nodes.start("ada", "--min-nodes=2", program=LIGHT)
    await ada.until(events.CertificateChanged, lambda event: event.how == "renewed by the CA on this device")
    fresh = load_credentials(folder)
    assert (fresh.node_id, fresh.role, fresh.name) == (old.node_id, old.role, old.name)
    assert fresh.not_after > old.not_after


@pytest.mark.long
@pytest.mark.xdist_group("renewal")
async def test_without_a_holder_of_the_ca_the_end_is_announced_with_the_command_that_renews(
    nodes: Fleet,
) -> None:
    certs = issue_aged(nodes, "ben", timedelta(seconds=20))
    ben = await nodes.start("ben", "--min-nodes=2", certs=certs, program=LIGHT)
    told = await ben.until(events.Notice, lambda event: "certificate of ben ends in" in event.text)
    assert told.level == "warning"
    assert "no member that holds the CA's key is in reach" in told.text
    assert "p2pfl certs issue ben --renew" in told.text
    ended = await ben.until(events.Notice, lambda event: "certificate of ben has expired" in event.text)
    assert "links that are up live on, but no new one can be made" in ended.text
    assert len([event for event in ben.all(events.Notice) if "has expired" in event.text]) == 1


async def test_a_service_takes_a_certificate_that_was_renewed_by_hand_with_sighup(nodes: Fleet) -> None:
    issue(nodes.folder / "certs", "eve")
    folder = issue(nodes.folder / "certs", "ada", now=datetime.now(UTC) - timedelta(days=9))
    ada = nodes.start_unheard("ada", "--min-nodes=2", program=LIGHT, inside=DETACHED)
    await ada.until(events.Started)
    renew(nodes.folder / "certs", "ada")
    ada.signal(signal.SIGHUP)
    await ada.until(events.CertificateChanged, lambda event: event.how == "reloaded from its folder")
    assert await shown_by(ada, nodes) == read_certificate(folder / "node.crt")
    (folder / "node.crt").write_text("nonsense", encoding="utf-8")
    ada.signal(signal.SIGHUP)
    told = await ada.until(events.Notice, lambda event: event.level == "error")
    assert "the certificate was not reloaded, the one in use stays" in told.text
    assert not ada.has_ended
    assert isinstance(await shown_by(ada, nodes), x509.Certificate)
