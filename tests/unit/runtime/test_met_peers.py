from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.events import AnyEvent, Published
from p2pfl.identity import known_peers
from p2pfl.identity.known_peers import KNOWN_PEERS_FILE, KnownPeer, read_known_peers, save_known_peers
from p2pfl.net.transport.addresses import Address
from p2pfl.runtime import met_peers
from p2pfl.runtime.met_peers import FORGOTTEN_AFTER, MetPeers, addresses_of, linked_lately
from tests.support.meshes import until

ADA, BEN = ("a" * 52, "b" * 52)
HERE = Address("192.0.2.7", 9000)
OLD = KnownPeer(BEN, "ben", ("192.0.2.8:9000",), 5.0)


def take(met: MetPeers, *happened: AnyEvent) -> None:
    for event in happened:
        met.write(Published(1, 0.0, event))


def new(folder: Path, now: float = 100.0) -> MetPeers:
    return MetPeers(folder, lambda node: [HERE] * 20, lambda: now)


async def test_a_linked_node_is_saved_with_its_addresses_beside_those_met_before(tmp_path: Path) -> None:
    save_known_peers(tmp_path, [OLD])
    met = new(tmp_path)
    saving = asyncio.create_task(met.run())
    take(met, events.PeerLinked(ADA, "ada", "x"), events.Notice("info", "another event"))
    await until(lambda: ADA in read_known_peers(tmp_path))
    saving.cancel()
    assert read_known_peers(tmp_path) == {
        BEN: OLD,
        ADA: KnownPeer(ADA, "ada", (str(HERE),) * met_peers.MAX_ADDRESSES, 100.0),
    }


async def test_a_node_that_was_forgotten_while_it_was_not_linked_stays_forgotten(tmp_path: Path) -> None:
    save_known_peers(tmp_path, [OLD])
    met = new(tmp_path)
    save_known_peers(tmp_path, [])
    take(met, events.PeerLinked(ADA, "ada", "x"))
    await met.close()
    assert set(read_known_peers(tmp_path)) == {ADA}


async def test_the_last_save_dates_the_nodes_that_are_still_linked(tmp_path: Path) -> None:
    now = 100.0
    met = MetPeers(tmp_path, lambda _: [HERE], lambda: now)
    take(met, events.PeerLinked(ADA, "ada", "x"), events.PeerLinked(BEN, "ben", "x"))
    now = 200.0
    take(met, events.PeerLost(BEN, "ben", "gone"))
    now = 300.0
    await met.close()
    assert {peer.name: peer.at for peer in read_known_peers(tmp_path).values()} == {
        "ada": 300.0,
        "ben": 200.0,
    }


async def test_nothing_is_written_without_news(tmp_path: Path) -> None:
    await new(tmp_path).close()
    assert not (tmp_path / KNOWN_PEERS_FILE).exists()


async def test_a_file_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    met = new(tmp_path / "not there")
    for _ in range(3):
        take(met, events.PeerLinked(ADA, "ada", "x"))
        await met.close()
    assert len(caplog.records) == 1


def test_the_file_of_the_most_nodes_with_the_longest_addresses_is_read_again(tmp_path: Path) -> None:
    address = f"{'x' * (met_peers.MAX_ADDRESS_CHARACTERS - 5)}:9000"
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    ids = [
        f"{alphabet[n // 32]}{alphabet[n % 32]}".rjust(52, "a") for n in range(known_peers.MAX_KNOWN_PEERS)
    ]
    save_known_peers(
        tmp_path, [KnownPeer(node, "n" * 64, (address,) * met_peers.MAX_ADDRESSES, 1e9) for node in ids]
    )
    assert len(read_known_peers(tmp_path)) == known_peers.MAX_KNOWN_PEERS


def test_nodes_that_were_not_linked_for_long_are_not_waited_for() -> None:
    assert linked_lately({BEN: OLD}, OLD.at + FORGOTTEN_AFTER) == {BEN: OLD}
    assert linked_lately({BEN: OLD}, OLD.at + FORGOTTEN_AFTER + 1) == {}


def test_addresses_that_are_none_are_left_out() -> None:
    peer = KnownPeer(BEN, "ben", ("192.0.2.8:9000", "::::", "[fe80::1%eth0]:9000"), 5.0)
    assert addresses_of(peer) == [Address("192.0.2.8", 9000), Address("fe80::1%eth0", 9000)]
