"""What a start makes of an update an earlier process left: offered again where it is whole, else trained anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pfl import events
from p2pfl.config import ProtocolSettings
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Train
from p2pfl.core.node import Node
from p2pfl.core.saved import Saved, SavedRun
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.names import Role
from p2pfl.learning.process import Worker
from p2pfl.messages import UpdateBlobs
from p2pfl.net.transport import sockets
from p2pfl.runtime.expectation import Expectation
from p2pfl.runtime.node import (
    _devices,
    _founds_alone,
    _lan,
    _other_addresses,
    _recover,
    run_node,
)
from p2pfl.runtime.node_config import LanSettings, NodeConfig
from p2pfl.store.blobs import BlobStore
from tests.support.core import chain_of, member, of_kind, options, told
from tests.support.federation import make_federation
from tests.support.keys import signer
from tests.support.known import known
from tests.support.records import AGREEMENT, CARD, MEDIAN, NAMES, SCHEMA, update

BYTES = b"the update of round 2" * 1000
UPDATE = msgspec.structs.replace(update("ada", 2), blobs=UpdateBlobs(blake3(BYTES).hexdigest()))


def journal() -> Saved:
    """What the journal says of a run whose round 2 is open, this node's update among it."""
    chain = chain_of(*NAMES[:3], rounds=1)
    run = SavedRun(chain.run, chain.genesis, chain.commits[-1], UPDATE, resumed=False)
    return Saved(run, {}, frozenset())


def left(directory: Path, damage: Callable[[Path], object], *, marked: bool = False) -> BlobStore:
    """The store that the next process finds when *damage* was done to the update on disk.

    If *marked*, there is a marker that it is durable.
    """
    store = BlobStore(directory)
    new = store.new_path()
    new.write_bytes(BYTES)
    store.adopt(new, UPDATE.digest, durable=marked)
    damage(store.path(UPDATE.digest))
    return BlobStore(directory)


def started(saved: Saved) -> list[AnyEffect]:
    """The first effects of a node with *saved*, until the model is here and its worker ready."""
    assert saved.current is not None
    assert saved.current.last is not None
    node = Node(member("ada"), "ada", options(), saved, signer("ada"), settings=ProtocolSettings())
    effects = node.start(100.0)
    effects += node.input(inputs.BlobReady(saved.current.last.record.model, durable=True), 100.0)
    return effects + node.input(inputs.Described(saved.current.genesis.spec, AGREEMENT, SCHEMA, CARD), 100.0)


def test_an_update_that_is_whole_is_offered_again_and_nothing_is_trained(tmp_path: Path) -> None:
    store = left(tmp_path, lambda _path: None)
    saved = _recover(journal(), store)
    assert saved == journal()
    assert store.path(UPDATE.digest).read_bytes() == BYTES
    effects = started(saved)
    assert [event.digest for event in told(effects, events.UpdateReused)] == [UPDATE.digest]
    assert of_kind(effects, Train) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="gone"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(BYTES[:-1]), id="short"),
        pytest.param(lambda path: path.write_bytes(bytes(len(BYTES))), id="zeros"),
    ],
)
@pytest.mark.parametrize("marked", [False, True])
def test_an_update_that_a_power_cut_spoiled_is_trained_again(
    tmp_path: Path, damage: Callable[[Path], object], marked: bool
) -> None:
    store = left(tmp_path, damage, marked=marked)
    saved = _recover(journal(), store)
    assert not store.has(UPDATE.digest)
    effects = started(saved)
    assert told(effects, events.UpdateReused) == []
    assert [train.job.round for train in of_kind(effects, Train)] == [2]


def test_a_start_without_an_update_drops_what_was_not_flushed(tmp_path: Path) -> None:
    store = left(tmp_path, lambda _path: None)
    nothing = Saved(None, {}, frozenset())
    assert _recover(nothing, store) == nothing
    assert store.digests() == frozenset()


def config(tmp_path: Path, role: Role, peers: int) -> NodeConfig:
    [ada] = make_federation(tmp_path / "ca", "ada", role=role).values()
    listed = tuple(f"192.0.2.7:{port}" for port in range(1, peers + 1))
    return NodeConfig(ada, tmp_path / "data", options().spec, frozenset(), listed)


@pytest.mark.parametrize(
    ("given", "is_alone"),
    [
        ({}, True),
        ({"peers": ("pi:9000",)}, False),
        ({"listen": ("127.0.0.1", 9000), "lan": LanSettings()}, True),
        ({"lan": LanSettings()}, False),
        ({"wait": True}, False),
        ({"spec": MEDIAN}, False),
    ],
)
def test_a_node_that_neither_lists_nor_looks_for_others_founds_alone(
    tmp_path: Path, given: dict[str, object], is_alone: bool
) -> None:
    plain = msgspec.structs.replace(config(tmp_path, "node", 0), lan=LanSettings(is_on=False))
    chosen = msgspec.structs.replace(plain, **given)
    expectation = Expectation(listed=_devices(chosen), has_mdns=_lan(chosen).is_on)
    assert _founds_alone(chosen, expectation) is is_alone


async def test_a_persons_certificate_starts_no_node_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="has the role observer"):
        await run_node(config(tmp_path, "observer", 1), Worker(), (), 0.0)
    assert not (tmp_path / "data").exists()


async def test_a_node_that_may_not_have_its_links_open_says_so_and_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "files_limit", lambda: 64)
    with pytest.raises(UserError, match=r"may have 64 files.*too few for 40 nodes.*`ulimit -n 1024`"):
        await run_node(config(tmp_path, "node", 39), Worker(), (), 0.0)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("listen", "peers", "others"),
    [
        ((None, 9000), ("127.0.0.1:9000", "192.0.2.7", "ben.local"), ("192.0.2.7", "ben.local")),
        ((None, 9000), ("127.0.0.1:9001",), ("127.0.0.1:9001",)),
        (("127.0.0.1", 9000), ("127.0.0.1", "127.0.0.2"), ("127.0.0.2",)),
        ((None, 9000), ("router.example:7000",), ()),
    ],
)
def test_a_nodes_own_address_in_the_list_is_no_other_device(
    tmp_path: Path, listen: tuple[str | None, int], peers: tuple[str, ...], others: tuple[str, ...]
) -> None:
    chosen = msgspec.structs.replace(
        config(tmp_path, "node", 0), listen=listen, peers=peers, advertise=("router.example:7000",)
    )
    assert _other_addresses(chosen) == others
    assert _devices(chosen) == len(others) + 1


def test_an_update_whose_control_is_damaged_is_trained_again(tmp_path: Path) -> None:
    control = blake3(b"control").hexdigest()
    whole = msgspec.structs.replace(UPDATE, blobs=UpdateBlobs(UPDATE.digest, control))
    current = known(journal().current)
    saved = Saved(msgspec.structs.replace(current, update=whole), {}, frozenset())
    for data, kept in ((b"control", whole), (b"damaged", None)):
        store = left(tmp_path, lambda _path: None)
        new = store.new_path()
        new.write_bytes(data)
        store.adopt(new, control, durable=False)
        assert known(_recover(saved, BlobStore(tmp_path)).current).update == kept
