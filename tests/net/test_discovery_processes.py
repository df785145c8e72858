"""Nodes that were told no addresses, on a LAN of network namespaces: they find each other by mDNS."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import read_credentials
from p2pfl.identity.known_peers import KnownPeer, read_known_peers, save_known_peers
from tests.support.namespaces import Wires, wires
from tests.support.processes import LIGHT, Fleet, Process, fleet
from tests.support.source import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.long]

ANYWHERE = "--listen=9000"


def start(nodes: Fleet, network: Wires, name: str, *options: str, certs: Path | None = None) -> Process:
    """Start a node that knows no address, on all its interfaces."""
    return nodes.start_unheard(
        name, ANYWHERE, *options, inside=network.inside(name), program=LIGHT, certs=certs
    )


def says(*words: str) -> Callable[[events.Notice], bool]:
    return lambda notice: all(word in notice.text for word in words)


def rosters(nodes: Fleet) -> set[frozenset[str]]:
    """Return the different rosters of all rounds in all journals."""
    return {frozenset(row.members) for rows in nodes.rounds().values() for row in rows}


def meet(nodes: Fleet, network: Wires, *names: str) -> None:
    """Issue certificates, and let the devices *names* know each other from an earlier time."""
    for name in names:
        issue(nodes.folder / "certs", name)
    folders = {name: nodes.folder / "certs" / name for name in names}
    known = [
        KnownPeer(read_credentials(folder).node_id, name, (f"{network.address(name)}:9000",), time.time())
        for name, folder in folders.items()
    ]
    for folder in folders.values():
        save_known_peers(folder, known)


async def test_three_devices_that_were_told_nothing_find_each_other_and_train(tmp_path: Path) -> None:
    names = ("ada", "ben", "cleo")
    with wires(*names) as network:
        async with fleet(tmp_path) as nodes:
            started = [start(nodes, network, name, "--rounds=2", "--min-nodes=3") for name in names]
            assert [await process.exit_code() for process in started] == [0] * 3
            notices = [notice for process in started for notice in process.all(events.Notice)]
            assert any("found" in notice.text for notice in notices), (
                "the last one to look is found by others"
            )
            assert rosters(nodes) == {frozenset(names)}
            met = read_known_peers(tmp_path / "certs" / "ada").values()
            assert {peer.name: peer.addresses[0] for peer in met} == {
                name: f"{network.address(name)}:9000" for name in ("ben", "cleo")
            }
            nodes.check()


async def test_a_device_alone_waits_for_another_one_and_later_for_those_it_met(tmp_path: Path) -> None:
    with wires("ada", "ben") as network:
        async with fleet(tmp_path) as nodes:
            ada = start(nodes, network, "ada", "--rounds=1")
            await ada.until(events.Notice, says("nobody found yet", "--min-nodes 1"))
            assert ada.all(events.RunJoined) == []
            ben = start(nodes, network, "ben", "--rounds=1")
            assert [await process.exit_code() for process in (ada, ben)] == [0, 0]

            again = [
                start(nodes, network, name, "--rounds=1", "--new-run", "--no-mdns") for name in ("ada", "ben")
            ]
            await again[0].until(events.Notice, says("waits for", "ben"))
            assert [await process.exit_code() for process in again] == [0, 0]
            assert rosters(nodes) == {frozenset({"ada", "ben"})}


async def test_a_device_that_gets_another_address_in_a_run_is_linked_again_there(tmp_path: Path) -> None:
    with wires("ada", "ben") as network:
        async with fleet(tmp_path) as nodes:
            options = ("--rounds=8", "--pace=1")
            ada, ben = (start(nodes, network, name, *options) for name in ("ada", "ben"))
            await ada.until(events.Committed)
            before = len(ada.all(events.PeerLinked))

            network.readdress("ben", 77)

            await ada.until(events.Notice, says("is at 10.203.0.77:9000 now"))
            await ada.until(events.PeerLost)
            again = await ada.until(events.PeerLinked, lambda _: len(ada.all(events.PeerLinked)) > before)
            assert again.name == "ben"
            assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
            assert (
                "10.203.0.77:9000"
                in next(iter(read_known_peers(tmp_path / "certs" / "ada").values())).addresses
            )
            nodes.check()


async def test_another_federation_in_the_same_network_is_told_and_ignored(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    create_authority(foreign, "fleet")
    eve_certs = issue(foreign, "eve")
    with wires("ada", "ben", "eve") as network:
        async with fleet(tmp_path) as nodes:
            eve = start(nodes, network, "eve", "--rounds=1", certs=eve_certs)
            await eve.until(events.Notice, says("nobody found yet"))
            ada, ben = (start(nodes, network, name, "--rounds=1") for name in ("ada", "ben"))
            await eve.until(events.Notice, says("is ignored", "another federation"))
            await ada.until(events.Notice, says("is ignored", f"{network.address('eve')}:9000"))
            assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
            for process in (ada, ben, eve):
                assert process.all(events.PeerRefused) == []
                assert process.all(events.AddressFailed) == [], "it was not even dialled"


async def test_blocked_multicast_is_named_and_known_devices_train_all_the_same(tmp_path: Path) -> None:
    with wires("ada", "ben") as network:
        network.block_mdns("ada")
        network.block_mdns("ben")
        async with fleet(tmp_path) as nodes:
            meet(nodes, network, "ada", "ben")
            ada, ben = (start(nodes, network, name, "--rounds=10", "--pace=1") for name in ("ada", "ben"))
            for process in (ada, ben):
                await process.until(events.Notice, says("does not hear its own mDNS announcement"))
            assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
            assert not any("found ben" in notice.text for notice in ada.all(events.Notice)), ada.output


async def test_a_link_local_address_is_the_same_for_doctor_and_node(tmp_path: Path) -> None:
    with wires("ada", "ben") as network:
        async with fleet(tmp_path) as nodes:
            meet(nodes, network, "ada", "ben")
            ada = start(nodes, network, "ada", "--no-mdns", "--rounds=1", "--min-nodes=2")
            await ada.until(events.Started)
            address = f"[{network.link_local('ada')}]:9000"
            save_known_peers(tmp_path / "certs" / "ben", ())
            command = (sys.executable, "-P", "-m", "p2pfl", "doctor", f"--certs={tmp_path}/certs/ben")
            doctor = subprocess.run(  # noqa: ASYNC221 - nothing else runs meanwhile
                [*network.inside("ben"), *command, f"--data-dir={tmp_path}/d", f"--peers={address}"],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                check=False,
            )
            assert f"✓ ok    {address} is ada" in doctor.stdout
            ben = start(
                nodes, network, "ben", "--no-mdns", "--rounds=1", "--min-nodes=2", f"--peers={address}"
            )
            assert (await ben.until(events.PeerLinked)).address == address
            assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
