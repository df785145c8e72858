"""Set-ups that are broken on purpose, each as a person would have it: doctor names what is wrong, and what to do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NamedTuple

import pytest

from p2pfl import events
from p2pfl.identity.credentials import Credentials
from p2pfl.runtime.observing.endpoint import Endpoint, endpoint_file
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from tests.support.disks import small_disk
from tests.support.federation import make_federation
from tests.support.meshes import lab
from tests.support.namespaces import PORT, Wires, wires
from tests.support.processes import LIGHT, PATIENCE_SECONDS, Process
from tests.support.source import ROOT

pytestmark = pytest.mark.processes


class Said(NamedTuple):
    """What doctor says."""

    code: int
    findings: list[dict[str, Any]]

    def fault(self, check: str) -> dict[str, Any]:
        """Return the only fault that *check* found; no other check may have found one."""
        assert self.code == 1, self.findings
        found = [one for one in self.findings if one["state"] == "fail"]
        assert [one["check"] for one in found] == [check], found
        return found[0]


async def doctor(
    certs: Path, data_dir: Path, *words: str, inside: Sequence[str] = (), mdns: bool = False
) -> Said:
    """Run `p2pfl doctor --json` beside the nodes of a test."""
    free_port = "--listen=127.0.0.1:0"  # the last one of an option counts
    options = (f"--certs={certs}", f"--data-dir={data_dir}", "--json", free_port, *words)
    options += () if mdns else ("--no-mdns",)
    process = await asyncio.create_subprocess_exec(
        *(*inside, sys.executable, "-P", "-m", "p2pfl", "doctor", *options),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(data_dir.parent)},
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Said(process.returncode, json.loads(output)["findings"])


@pytest.fixture
def ant(tmp_path: Path) -> Credentials:
    return make_federation(tmp_path / "ca", "ant")["ant"]


async def test_a_name_that_nobody_knows(tmp_path: Path, ant: Credentials) -> None:
    said = await doctor(ant.directory, tmp_path / "data", "--peers=no-such-host.invalid:9000")
    fault = said.fault("peers")
    assert "no-such-host.invalid:9000 is not reached: its name cannot be resolved" in fault["text"]
    assert "check its spelling, or use the IP address" in fault["text"]
    assert fault["commands"][0] == "getent hosts no-such-host.invalid"


async def test_a_port_where_nothing_listens(tmp_path: Path, ant: Credentials) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        fault = (await doctor(ant.directory, tmp_path / "data", f"--peers=127.0.0.1:{port}")).fault("peers")
    assert "nothing listens there: is the node running, and on this port?" in fault["text"]
    assert f"The device is on and refuses: start its node with --listen {port}" in fault["advice"]


@pytest.mark.long
@pytest.mark.xdist_group("doctor")
async def test_a_firewall_that_drops(tmp_path: Path, ant: Credentials) -> None:
    with wires("ada", "ben") as network:
        filtered(network, "drop_incoming")
        peer = f"--peers={network.address('ben')}:{PORT}"
        said = await doctor(ant.directory, tmp_path / "data", peer, inside=network.inside("ada"))
    fault = said.fault("peers")
    assert "it did not answer within 5 s" in fault["text"]
    assert "Packets to it vanish, as with a firewall that drops them" in fault["advice"]
    assert f"sudo ufw allow {PORT}/tcp    # ufw" in fault["commands"]


async def test_a_firewall_that_rejects(tmp_path: Path, ant: Credentials) -> None:
    with wires("ada", "ben") as network:
        filtered(network, "reject_incoming")
        peer = f"--peers={network.address('ben')}:{PORT}"
        said = await doctor(ant.directory, tmp_path / "data", peer, inside=network.inside("ada"))
    fault = said.fault("peers")
    assert "there is no way to it (No route to host)" in fault["text"]
    assert (
        f"a firewall on the way rejects it: connect both devices to one network, and let TCP port {PORT} in"
        in fault["advice"]
    )
    assert f"sudo firewall-cmd --permanent --add-port={PORT}/tcp    # firewall-cmd" in fault["commands"]


def filtered(network: Wires, rule: str, name: str = "ben") -> None:
    """Add a rule to the firewall of a device; skip the test where there is none."""
    try:
        getattr(network, rule)(name)
    except (OSError, CalledProcessError) as error:
        pytest.skip(f"there is no packet filter here: {error}")


@pytest.mark.long
@pytest.mark.xdist_group("doctor")
async def test_a_network_that_blocks_multicast(tmp_path: Path, ant: Credentials) -> None:
    with wires("ada", "ben") as network:
        works = await doctor(ant.directory, tmp_path / "data", inside=network.inside("ada"), mdns=True)
        filtered(network, "block_mdns", "ada")
        blocked = await doctor(ant.directory, tmp_path / "data", inside=network.inside("ada"), mdns=True)
    [fine] = [one for one in works.findings if one["check"] == "mdns"]
    assert fine["text"] == "mDNS works on cable; no other node announces itself"
    [warning] = [one for one in blocked.findings if one["check"] == "mdns"]
    assert (blocked.code, warning["state"]) == (0, "warn")
    assert "this device does not hear its own announcement on cable" in warning["text"]
    assert "let UDP port 5353 in" in warning["advice"]


@pytest.mark.long
@pytest.mark.xdist_group("doctor")
async def test_a_way_that_loses_large_packets(tmp_path: Path, ant: Credentials) -> None:
    bee = make_federation(tmp_path / "ca", "bee")["bee"]
    with wires("ada", "ben") as network:
        listen = f"{network.address('ben')}:{PORT}"
        node = Process(
            "bee",
            tmp_path,
            0,
            (*LIGHT, f"--certs={bee.directory}", f"--data-dir={tmp_path / 'bee'}", f"--listen={listen}"),
            network.inside("ben"),
        )
        try:
            await node.until(events.Started)
            network.lose_large_packets()
            peer = f"--peers={listen}"
            said = await doctor(ant.directory, tmp_path / "data", peer, inside=network.inside("ada"))
        finally:
            node.end()
    fault = said.fault("peers")
    assert "The other side did not answer in time" in fault["text"]
    assert "large packets that are lost on the way, as with a VPN (MTU)" in fault["advice"]


async def test_a_port_of_another_program(tmp_path: Path, ant: Credentials) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        fault = (await doctor(ant.directory, tmp_path / "data", f"--peers=127.0.0.1:{port}")).fault("peers")
    assert "it does not speak TLS. It is not a p2pfl node: check the address and the port." in fault["text"]


async def test_a_node_of_another_federation(tmp_path: Path, ant: Credentials) -> None:
    fox = make_federation(tmp_path / "other", "fox")["fox"]
    async with lab(tmp_path) as opened:
        node = await opened.start(fox)
        fault = (await doctor(ant.directory, tmp_path / "data", f"--peers={node.address}")).fault("peers")
    assert "its certificate was signed by another CA than that of this device's 'lab'" in fault["text"]
    assert "Both need certificates that one CA issued." in fault["text"]


async def test_a_peer_whose_certificate_has_expired(tmp_path: Path, ant: Credentials) -> None:
    old = datetime.now(UTC) - timedelta(days=2 * 365)
    bee = make_federation(tmp_path / "ca", "bee", now=old)["bee"]
    async with lab(tmp_path) as opened:
        node = await opened.start(bee)
        fault = (await doctor(ant.directory, tmp_path / "data", f"--peers={node.address}")).fault("peers")
    assert "its certificate has expired by this device's clock" in fault["text"]
    assert "renew it with `p2pfl certs issue NAME --renew`" in fault["text"]


async def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    old = datetime.now(UTC) - timedelta(days=2 * 365)
    ant = make_federation(tmp_path / "ca", "ant", now=old)["ant"]
    fault = (await doctor(ant.directory, tmp_path / "data")).fault("certificate")
    assert "The certificate of ant has expired" in fault["text"]
    assert "`p2pfl certs issue ant --renew` where the CA's key is" in fault["text"]


async def test_a_clock_that_is_behind(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=30)
    ant = make_federation(tmp_path / "ca", "ant", now=soon)["ant"]
    fault = (await doctor(ant.directory, tmp_path / "data")).fault("certificate")
    assert "The certificate of ant is not valid yet" in fault["text"]
    assert "this device's clock shows" in fault["text"]
    assert "Set the clock right" in fault["text"]


async def test_a_key_that_others_can_read(tmp_path: Path, ant: Credentials) -> None:
    ant.key_path.chmod(0o644)
    fault = (await doctor(ant.directory, tmp_path / "data")).fault("certificate")
    assert "can be read or changed by others (mode 644)" in fault["text"]
    assert fault["commands"] == [f"chmod 600 {ant.key_path}"]


async def test_a_certificate_of_an_observer(tmp_path: Path) -> None:
    owl = make_federation(tmp_path / "ca", "owl", role="observer")["owl"]
    fault = (await doctor(owl.directory, tmp_path / "data")).fault("certificate")
    assert "observer of 'lab': this certificate lets nobody train" in fault["text"]
    assert "p2pfl certs issue NAME --role node" in fault["advice"]


async def test_another_node_that_runs_here_with_this_key(tmp_path: Path, ant: Credentials) -> None:
    endpoint = Endpoint("ant", ant.node_id, os.getpid(), ("127.0.0.1:9000",), str(ant.directory), "5e" * 32)
    with endpoint_file(DataDirectory(tmp_path).observe_path, endpoint):
        fault = (await doctor(ant.directory, tmp_path)).fault("running")
    assert f"another node runs here with the certificate of ant: process {os.getpid()}" in fault["text"]
    assert "a certificate is for one node: end that node first" in fault["advice"]


async def test_another_device_that_uses_this_key(tmp_path: Path, ant: Credentials) -> None:
    async with lab(tmp_path) as opened:
        node = await opened.start(ant)
        fault = (await doctor(ant.directory, tmp_path / "data", f"--peers={node.address}")).fault("peers")
    assert (
        "is a node that runs with this device's certificate (ant), and a certificate is for one device"
        in fault["text"]
    )
    assert "issue this one its own" in fault["advice"]


async def test_a_port_that_another_program_has(tmp_path: Path, ant: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.listen(0)
        asking = asyncio.create_task(doctor(ant.directory, tmp_path / "data", f"--listen=127.0.0.1:{port}"))
        accepted, _ = await asyncio.to_thread(taken.accept)
        accepted.close()
        fault = (await asking).fault("port")
    assert "another program does already" in fault["text"]
    assert f"sudo ss -ltnp 'sport = :{port}'" in fault["commands"]


async def test_a_disk_that_is_full_or_read_only(tmp_path: Path, ant: Credentials) -> None:
    with small_disk(tmp_path / "disk") as disk:
        small = (await doctor(ant.directory, disk.path / "data")).fault("disk")
        disk.set_writable(False)
        read_only = (await doctor(ant.directory, disk.path / "data")).fault("disk")
        disk.set_writable(True)
    assert f"only 17 MB free for {disk.path}/data" in small["text"]
    assert small["advice"] == "make room, or choose another --data-dir"
    assert read_only["text"] == f"{disk.path} cannot be written to (Read-only file system)"


async def test_a_data_directory_that_was_restored_from_a_backup(tmp_path: Path, ant: Credentials) -> None:
    with (
        DataDirectory(tmp_path / "data") as directory,
        Journal.open(directory.journal_path, ant.node_id) as journal,
    ):
        journal.refuse("it was restored from a backup. Start with --new-journal")
    fault = (await doctor(ant.directory, tmp_path / "data")).fault("disk")
    assert "cannot be used: it was restored from a backup. Start with --new-journal" in fault["text"]


async def test_a_set_up_that_is_right(tmp_path: Path, ant: Credentials) -> None:
    bee = make_federation(tmp_path / "ca", "bee")["bee"]
    async with lab(tmp_path) as opened:
        node = await opened.start(bee)
        said = await doctor(ant.directory, tmp_path / "data", f"--peers={node.address}")
    assert said.code == 0, said.findings
    assert {one["check"] for one in said.findings} >= {"peers", "way"}
    assert {
        one["state"] for one in said.findings if one["check"] in ("peers", "certificate", "port", "disk")
    } == {"ok"}
