"""Identity checks: copied data directories, copied certificates, the node itself, and the wrong node."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.names import Role
from p2pfl.identity.signatures import signer_of
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.wire.links import PeerAddresses, Peers, Refusal
from tests.support.federation import make_federation
from tests.support.meshes import Incarnations, Lab, lab, new_local, until


@pytest.fixture
def federation(tmp_path: Path) -> dict[str, Credentials]:
    return make_federation(tmp_path / "ca", "ant", "bee", "cat")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab(tmp_path) as opened:
        yield opened


async def test_a_lower_incarnation_is_refused_as_a_copy(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    incarnations = Incarnations()
    ant = await world.start(federation["ant"], incarnations=incarnations)
    local = new_local(incarnation=5)
    bee = await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    copy = await world.start(federation["bee"], [ant.address], local=new_local(local.journal, incarnation=4))
    await copy.told.until(lambda told: bool(told.clone_reports))
    assert "a later start 5 was seen. Start that node with --new-journal" in copy.told.clone_reports[0]
    assert "a copy or was restored from a backup" in await ant.told.until_refused("restored")


async def test_the_same_incarnation_with_another_nonce_is_a_copy_also_after_a_restart(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    incarnations = Incarnations()
    ant = await world.start(federation["ant"], incarnations=incarnations)
    local = new_local(incarnation=5)
    bee = await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    await world.stop(ant)
    ant = await world.start(federation["ant"], incarnations=incarnations)
    copy = await world.start(federation["bee"], [ant.address], local=new_local(local.journal, incarnation=5))
    await copy.told.until(lambda told: bool(told.clone_reports))
    assert "another start 5 was seen" in copy.told.clone_reports[0]


async def test_a_listening_copy_is_refused_too(world: Lab, federation: dict[str, Credentials]) -> None:
    local = new_local(incarnation=5)
    incarnations = Incarnations()
    ant = await world.start(federation["ant"], incarnations=incarnations)
    bee = await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    await world.stop(ant)
    copy = await world.start(federation["bee"], local=new_local(local.journal, incarnation=3))
    await world.start(federation["ant"], [copy.address], incarnations=incarnations)
    await copy.told.until(lambda told: bool(told.clone_reports))
    assert copy.told.names == set()


async def test_a_copy_with_a_higher_incarnation_is_detected_by_its_votes(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    incarnations = Incarnations()
    ant = await world.start(federation["ant"], incarnations=incarnations)
    local = new_local(incarnation=5, votes=7)
    bee = await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    for incarnation in (6, 7, 99):
        copy = await world.start(
            federation["bee"], [ant.address], local=new_local(local.journal, incarnation=incarnation, votes=6)
        )
        await copy.told.until(lambda told: bool(told.clone_reports))
        assert "it claims 6 cast votes, and 7 were seen" in copy.told.clone_reports[0]
        await world.stop(copy)
    assert ant.told.names == set()


async def test_a_claim_that_was_overtaken_by_a_vote_is_no_copy_and_alarms_nobody(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    local = new_local(incarnation=5, votes=7)
    bee = await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    votes = iter([6])
    restarted = replace(new_local(local.journal, incarnation=6), votes=lambda: next(votes, 7))
    bee = await world.start(federation["bee"], [ant.address], local=restarted)
    await bee.told.until(lambda told: told.names == {"ant"})
    assert next(votes, None) is None, "the first claim was late"
    assert ant.told.refusals == bee.told.refusals == []
    assert bee.told.clone_reports == []


async def test_a_copy_that_goes_on_dialling_is_reported(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    ant = await world.start(federation["ant"])
    local = new_local(incarnation=5, votes=7)
    bee = await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    copy = await world.start(federation["bee"], local=new_local(local.journal, incarnation=6, votes=6))
    monkeypatch.setattr(copy.mesh._admission, "proves_clone", lambda _: False)
    copy.mesh.know(ant.id, "ant", [Address("127.0.0.1", ant.mesh.port)])
    told = await ant.told.until_refused("it claims 6 cast votes, and 7 were seen")
    assert "is a copy or was restored from a backup" in told


async def test_a_node_does_not_stop_for_another_nodes_claim(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    ant = await world.start(federation["ant"])
    word = Refusal("cloned", "your data directory is a copy", new_local(incarnation=99).claim(ant.id))
    monkeypatch.setattr(ant.mesh._admission, "refuse_hello", lambda *_: word)
    bee = await world.start(federation["bee"], [ant.address])
    told = await bee.told.until_refused("is a copy")
    assert told.endswith("It has not proved that, so this node continues.")
    monkeypatch.undo()
    await bee.told.until(lambda told: told.names == {"ant"})
    assert bee.told.clone_reports == []


@pytest.mark.parametrize("role", ["observer", "operator"])
async def test_a_certificate_of_another_role_is_refused_before_its_first_frame(
    world: Lab, federation: dict[str, Credentials], tmp_path: Path, role: Role
) -> None:
    ant = await world.start(federation["ant"])
    eye = make_federation(tmp_path / "ca", "eye", role=role)["eye"]
    talker = await world.start(eye, [ant.address])
    reason = f"the certificate of eye has the role {role}; only nodes train together"
    assert reason in await ant.told.until_refused("only nodes train together")
    assert reason in await talker.told.until_refused("only nodes train together")
    listener = await world.start(eye)
    bee = await world.start(federation["bee"], [listener.address])
    assert reason in await bee.told.until_refused("only nodes train together")
    assert ant.told.names == bee.told.names == set()


async def test_an_observer_cannot_stop_a_node_that_dials_it_even_with_a_proof(
    world: Lab, federation: dict[str, Credentials], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = await world.start(make_federation(tmp_path / "ca", "eye", role="observer")["eye"])
    local = new_local(incarnation=1)
    later = replace(new_local(local.journal, incarnation=9), signer=signer_of(federation["bee"]))
    proof = Refusal("cloned", "a copy", later.claim(federation["bee"].node_id))
    monkeypatch.setattr(eye.mesh._admission, "refuse_hello", lambda *_: proof)
    bee = await world.start(federation["bee"], [eye.address], local=local)
    await bee.told.until_refused("the certificate of eye has the role observer")
    assert bee.mesh._admission.proves_clone(proof)
    assert bee.told.clone_reports == []


async def test_a_quick_restart_with_a_higher_incarnation_replaces_the_old_link(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    local = new_local(incarnation=1)
    await world.start(federation["bee"], [ant.address], local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    again = await world.start(federation["bee"], [ant.address], local=new_local(local.journal, incarnation=2))
    await again.told.until(lambda told: told.names == {"ant"})
    await ant.told.until(lambda told: [peer.incarnation for peer in told.links.values()] == [2])
    assert ant.told.history[1] == ("unlinked: a new connection took its place", "bee")


async def test_a_second_device_with_the_same_certificate_is_refused_while_the_first_is_linked(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    first = await world.start(federation["bee"], [ant.address])
    await ant.told.until(lambda told: told.names == {"bee"})
    second = await world.start(federation["bee"], [ant.address])
    assert "every device needs a certificate of its own" in await second.told.until_refused(
        "certificate of its own"
    )
    await world.stop(first)
    await second.told.until(lambda told: told.names == {"ant"})


async def test_the_own_address_among_the_listed_ones_is_recognised_and_not_dialled_again(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    port = ant.mesh.port
    await world.stop(ant)
    listed = [f"127.0.0.1:{port}", f"localhost:{port}"]
    ant = await world.start(federation["ant"], listed, listen=("127.0.0.1", port))
    bee = await world.start(federation["bee"], [ant.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    await until(lambda: ant.mesh.expected == 1)
    assert ant.told.names == {"bee"}
    assert ant.told.refusals == []


async def test_several_addresses_of_one_device_count_as_one(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    bee = await world.start(federation["bee"], listen=("localhost", 0))
    port = bee.mesh.port
    listed = [f"127.0.0.1:{port}", f"localhost:{port}", f"127.0.0.1:{port:05}", "127.0.0.1:1"]
    ant = await world.start(federation["ant"], listed)
    assert ant.mesh.expected == 4
    await until(lambda: ant.mesh.expected == 3)
    assert set(ant.unreached) == {"127.0.0.1:1"}


async def test_the_own_address_is_recognised_on_a_device_that_cannot_dial_itself(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(address: Address, _seconds: float) -> socket.socket:
        raise NetworkError(f"nothing listens at {address}")

    monkeypatch.setattr(sockets, "connect", unreachable)
    ant = await world.start(federation["ant"])
    port = ant.mesh.port
    await world.stop(ant)
    listed = [f"127.0.0.1:{port}", "public.example:7", "127.0.0.1:1"]
    ant = await world.start(
        federation["ant"], listed, listen=("127.0.0.1", port), advertise=["public.example:7"]
    )
    await until(lambda: ant.mesh.expected == 2)
    assert set(ant.unreached) == set(listed[2:])


async def test_the_wrong_node_at_an_address_is_refused_on_both_sides(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [ant.address])
    cat = await world.start(federation["cat"])
    await bee.told.until(lambda told: told.names == {"ant"})
    rumour = Peers((PeerAddresses(federation["cat"].node_id, "cat", (ant.address,)),))
    link = bee.mesh._neighbours.link(ant.id)
    assert link is not None
    bee.mesh._on_frame(link, rumour)
    expected = f"node {federation['cat'].node_id[:7]} was expected at {ant.address}, but ant"
    assert expected in await bee.told.until_refused("was expected")
    assert f"refused this device: {expected}" in await ant.told.until_refused("was expected")
    assert cat.told.names == set()
