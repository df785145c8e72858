"""Links end and come back: half-open connections, restarts, sleep, simultaneous dials, BYEs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import UserError
from p2pfl.identity.credentials import Credentials
from p2pfl.messages import Offer, RecordsRequest, Status
from p2pfl.net.dialling import contacts
from p2pfl.net.dialling.address_book import MAX_FAILURES
from p2pfl.net.dialling.dialler import FoundService
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.wire.codec import encode
from p2pfl.wire.frames import encode_frame
from tests.support.federation import make_federation
from tests.support.meshes import FAST, Lab, Node, lab, new_local, until
from tests.support.proxy import proxy_to
from tests.support.records import genesis

RUN = "0" * 64


@pytest.fixture
def federation(tmp_path: Path) -> dict[str, Credentials]:
    return make_federation(tmp_path / "ca", "ant", "bee", "cat")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab(tmp_path) as opened:
        yield opened


async def test_messages_arrive_in_order_and_a_send_without_a_link_says_so(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    assert not ant.mesh.send(federation["bee"].node_id, RecordsRequest(RUN, 0))
    bee = await world.start(federation["bee"], [ant.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    sent = [RecordsRequest(RUN, number) for number in range(500)]
    assert all(bee.mesh.send(ant.id, message) for message in sent)
    await ant.told.until(lambda told: len(told.messages) == len(sent))
    assert ant.told.messages == [("bee", message) for message in sent]


async def test_only_a_dropped_link_is_renewed(world: Lab, federation: dict[str, Credentials]) -> None:
    ant = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [ant.address])
    await ant.told.until(lambda told: told.names == {"bee"})
    ant.mesh.drop(bee.id, "it shows fewer votes than it has cast")
    ant.mesh.drop("z" * 52, "there is no such link")
    await ant.told.until(lambda told: len(told.history) >= 3)
    assert ant.told.history[1] == ("unlinked: it shows fewer votes than it has cast", "bee")
    assert ant.told.history[2] == ("linked", "bee")


async def test_a_link_that_ended_because_of_a_version_is_renewed_only_after_a_rest(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    settings = msgspec.structs.replace(FAST, redial_version_seconds=0.5)
    ant = await world.start(federation["ant"], settings=settings)
    bee = await world.start(federation["bee"], [ant.address], settings=settings)
    await ant.told.until(lambda told: told.names == {"bee"})
    await bee.told.until(lambda told: told.names == {"ant"})
    fields = msgspec.msgpack.decode(encode(Offer(genesis())))
    fields["genesis"]["spec"]["privacy"] = {"type": "masked"}
    link = ant.mesh._neighbours.link(bee.id)
    assert link is not None
    loop = asyncio.get_running_loop()
    began = loop.time()
    link.stream.put(encode_frame(msgspec.msgpack.encode(fields), FAST.max_frame_bytes))
    for told, part in ((ant.told, "your run has the privacy"), (bee.told, "its run has the privacy")):
        await told.until(lambda told: len(told.history) == 3)
        assert [what.split(":")[0] for what, _ in told.history] == ["linked", "unlinked", "linked"]
        assert part in told.history[1][0]
    assert loop.time() - began >= 0.5


async def test_a_status_of_a_node_in_no_run_arrives(world: Lab, federation: dict[str, Credentials]) -> None:
    ant = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [ant.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    status = Status("", 0, "", False, False, 3, False, "idle", 0.0, 0.0, 1, True, 2, False, (), 0, False, 7)
    assert bee.mesh.send(ant.id, status)
    await ant.told.until(lambda told: told.messages == [("bee", status)])


async def test_crossing_dials_end_in_one_link(
    world: Lab, federation: dict[str, Credentials], tmp_path: Path
) -> None:
    async with proxy_to(1) as to_ant, proxy_to(1) as to_bee:
        ant = await world.start(federation["ant"], [to_bee.address])
        bee = await world.start(federation["bee"], [to_ant.address])
        to_ant.retarget(ant.mesh.port)
        to_bee.retarget(bee.mesh.port)
        await ant.told.until(lambda told: told.names == {"bee"})
        await bee.told.until(lambda told: told.names == {"ant"})
        for _ in range(20):
            assert ant.mesh.send(bee.id, RecordsRequest(RUN, 1))
            assert bee.mesh.send(ant.id, RecordsRequest(RUN, 2))
            await ant.told.until(lambda told: bool(told.messages))
            await bee.told.until(lambda told: bool(told.messages))
            ant.told.messages.clear()
            bee.told.messages.clear()
        assert [what for what, _ in ant.told.history] == ["linked"]
        assert [what for what, _ in bee.told.history] == ["linked"]
        assert ant.told.refusals == bee.told.refusals == []


async def test_the_silence_deadline_detects_a_half_open_link(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    settings = msgspec.structs.replace(FAST, silence_seconds=0.5)
    ant = await world.start(federation["ant"])
    async with proxy_to(ant.mesh.port) as proxy:
        bee = await world.start(federation["bee"], [proxy.address], settings=settings)
        await bee.told.until(lambda told: told.names == {"ant"})
        proxy.stall()
        await bee.told.until(lambda told: told.names == set())
        assert bee.told.history[1] == ("unlinked: nothing was heard from it for 0.5 s", "ant")


async def test_an_idle_link_stays(world: Lab, federation: dict[str, Credentials]) -> None:
    settings = msgspec.structs.replace(FAST, silence_seconds=0.2)
    ant = await world.start(federation["ant"], settings=settings)
    bee = await world.start(federation["bee"], [ant.address], settings=settings)
    await bee.told.until(lambda told: told.names == {"ant"})
    count = bee.mesh.traffic.total("control").received
    await until(lambda: bee.mesh.traffic.total("control").received > count + 20 * 11)  # 20 pings or pongs
    assert len(bee.told.history) == 1
    assert ant.told.names == {"bee"}


async def test_a_restarted_node_is_linked_again(world: Lab, federation: dict[str, Credentials]) -> None:
    local = new_local(incarnation=1)
    ant = await world.start(federation["ant"], local=local)
    bee = await world.start(federation["bee"], [ant.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    await ant.told.until(lambda told: told.names == {"bee"})
    port = ant.mesh.port
    await world.stop(ant, "a short break")
    await bee.told.until(lambda told: told.names == set())
    assert bee.told.history[1] == ("unlinked: it said goodbye: a short break", "ant")
    again = await world.start(
        federation["ant"], local=new_local(local.journal, incarnation=2), listen=("127.0.0.1", port)
    )
    await bee.told.until(lambda told: told.names == {"ant"})
    await again.told.until(lambda told: told.names == {"bee"})
    assert bee.told.refusals == []


async def test_frames_queued_before_close_arrive(world: Lab, federation: dict[str, Credentials]) -> None:
    ant = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [ant.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    for number in range(200):
        bee.mesh.send(ant.id, RecordsRequest(RUN, number))
    await world.stop(bee)
    await ant.told.until(lambda told: told.names == set())
    assert len(ant.told.messages) == 200


async def test_after_a_sleep_all_links_are_renewed(world: Lab, federation: dict[str, Credentials]) -> None:
    ant = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [ant.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    bee.mesh.drop_all("the device slept")
    await bee.told.until(lambda told: len(told.history) == 3)
    assert bee.told.history[1:] == [("unlinked: the device slept", "ant"), ("linked", "ant")]
    await ant.told.until(lambda told: told.names == {"bee"})


async def test_a_node_behind_a_filter_is_linked_by_its_own_dial(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [ant.address])
    cat = await world.start(federation["cat"], [ant.address], advertise=["127.0.0.1:1"])  # leads nowhere
    await bee.told.until(lambda told: told.names == {"ant", "cat"})
    await cat.told.until(lambda told: told.names == {"ant", "bee"})


async def test_an_unreachable_listed_peer_is_named_with_the_reason(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"], ["127.0.0.1:1"])
    await until(lambda: bool(ant.unreached))
    assert "nothing listens there" in ant.unreached["127.0.0.1:1"]


async def test_a_port_in_use_is_a_user_error_with_advice(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    with pytest.raises(UserError, match=f"{ant.mesh.port}: another program does already.*--listen HOST:PORT"):
        await world.start(federation["bee"], listen=("127.0.0.1", ant.mesh.port))


async def test_every_interface_means_ipv4_and_ipv6_on_one_port(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"], listen=(None, 0))
    assert f"0.0.0.0:{ant.mesh.port}" in ant.mesh.addresses
    for incarnation, address in enumerate(ant.mesh.addresses, start=1):
        host = "127.0.0.1" if address.startswith("0") else "[::1]"
        local = new_local("0" * 32, incarnation)
        bee = await world.start(federation["bee"], [f"{host}:{ant.mesh.port}"], local=local)
        await bee.told.until(lambda told: told.names == {"ant"})
        await world.stop(bee)
        await ant.told.until(lambda told: told.names == set())


async def test_a_peer_that_does_not_read_loses_its_link(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    settings = msgspec.structs.replace(FAST, max_queue_bytes=100_000)
    ant = await world.start(federation["ant"], settings=settings)
    bee = await world.start(federation["bee"], [ant.address])
    await ant.told.until(lambda told: told.names == {"bee"})
    while ant.mesh.send(bee.id, RecordsRequest(RUN, 1)):
        pass
    await ant.told.until(lambda told: len(told.history) >= 2)
    assert ant.told.history[1][0].startswith("unlinked: it does not read")


async def test_closing_with_a_peer_that_reads_nothing_takes_bounded_time(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ant = await world.start(federation["ant"])
    async with proxy_to(ant.mesh.port) as proxy:
        bee = await world.start(federation["bee"], [proxy.address])
        await bee.told.until(lambda told: told.names == {"ant"})
        proxy.stall()
        async with asyncio.timeout(6):
            await world.stop(bee)
    assert bee.told.names == {"ant"}, "after close nothing is told any more"


async def test_a_linked_node_is_named_in_the_notice_about_its_unreachable_address(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(contacts, "FAILURE_REPEAT_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        shut = f"127.0.0.1:{server.getsockname()[1]}"
    ant = await world.start(federation["ant"], [shut])
    await world.start(federation["bee"], [ant.address], advertise=[shut])
    linked = (
        "nothing listens there: is the node running, and on this port? (bee, whose address this is, is linked"
    )
    await ant.told.until(lambda told: any(reason.startswith(linked) for _, reason in told.unreachable_told))


async def test_an_unreachable_listed_address_is_reported_and_so_is_its_recovery(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "GRACE_SECONDS", 0.0)
    bee = await world.start(federation["bee"])
    port, address = bee.mesh.port, bee.address
    await world.stop(bee)
    ant = await world.start(federation["ant"], [address])
    await ant.told.until(lambda told: bool(told.unreachable_told))
    await world.start(federation["bee"], listen=("127.0.0.1", port))
    await ant.told.until(lambda told: len(told.unreachable_told) == 2)
    assert ant.told.unreachable_told == [
        (address, "nothing listens there: is the node running, and on this port?"),
        (address, ""),
    ]


async def test_a_listed_node_that_came_back_and_dialled_first_is_no_longer_told_as_unreached(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "GRACE_SECONDS", 0.0)
    bee = await world.start(federation["bee"])
    port, address = bee.mesh.port, bee.address
    seldom = msgspec.structs.replace(FAST, redial_first_seconds=3600.0, redial_max_seconds=3600.0)
    ant = await world.start(federation["ant"], [address], settings=seldom)
    await ant.told.until(lambda told: told.names == {"bee"})
    await world.stop(bee)
    await ant.told.until(lambda told: told.names == set())
    ant.mesh.drop_all("the device slept")  # it dials at once
    await ant.told.until(lambda told: bool(told.unreachable_told))
    other = await world.start(federation["bee"], [ant.address], local=new_local("0" * 32, 2))
    await ant.told.until(lambda told: told.names == {"bee"})
    assert address in ant.unreached, "on another port it is somewhere else"
    await world.stop(other)
    await ant.told.until(lambda told: told.names == set())
    local = new_local("0" * 32, 3)
    await world.start(federation["bee"], [ant.address], listen=("127.0.0.1", port), local=local)
    await ant.told.until(lambda told: told.names == {"bee"})
    assert ant.unreached == {}
    assert ant.told.unreachable_told[-1] == (address, "")


def _has_failed_again(node: Node, before: contacts.DialFailure | None) -> bool:
    return node.mesh.contacts[0].failure is not before


async def test_a_known_node_is_dialled_until_it_comes_and_its_failure_is_told_by_name(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "GRACE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ant = await world.start(federation["ant"])
    ant.mesh.know(federation["bee"].node_id, "bee", [Address("127.0.0.1", port)])
    ant.mesh.know(ant.id, "itself", [Address("127.0.0.1", 1)])
    ant.mesh.know(federation["cat"].node_id, "nowhere", [])
    await ant.told.until(lambda told: bool(told.unreachable_told))
    assert ant.told.unreachable_told[0][0] == f"bee at 127.0.0.1:{port}"
    await until(lambda: ant.mesh.contacts[0].failure is not None)
    for _ in range(2 * MAX_FAILURES):  # more often than an address that only peers have sent is dialled
        await until(partial(_has_failed_again, ant, ant.mesh.contacts[0].failure))
    await world.start(federation["bee"], listen=("127.0.0.1", port))
    await ant.told.until(lambda told: told.names == {"bee"})
    assert [(one.kind, one.node) for one in ant.mesh.contacts] == [("known", federation["bee"].node_id)]


async def test_a_found_service_is_linked_and_stays_so_when_its_announcement_goes(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    bee = await world.start(federation["bee"])
    ant = await world.start(federation["ant"])
    service = FoundService("b")
    assert ant.mesh.found(service, [Address("127.0.0.1", 1), Address("127.0.0.1", bee.mesh.port)], "", "")
    await ant.told.until(lambda told: told.names == {"bee"})
    assert [(one.kind, one.address, one.node) for one in ant.mesh.contacts] == [
        ("found", "127.0.0.1:1", bee.id)
    ]
    assert ant.mesh.known_addresses(bee.id)[0] == Address("127.0.0.1", bee.mesh.port)
    ant.mesh.gone(service)
    assert ant.mesh.contacts == []
    assert ant.told.names == {"bee"}


async def test_links_whose_own_address_is_gone_are_cut_and_made_again(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    bee = await world.start(federation["bee"])
    ant = await world.start(federation["ant"], [bee.address])
    await ant.told.until(lambda told: told.names == {"bee"})
    ant.mesh.own_addresses_changed()
    assert ant.told.names == {"bee"}, "its address is this device's still"

    with monkeypatch.context() as patch:
        patch.setattr(sockets, "is_own_host", lambda _: False)
        ant.mesh.own_addresses_changed()
    await ant.told.until(
        lambda told: ("unlinked: this device has another address now", "bee") in told.history
    )
    await ant.told.until(lambda told: told.names == {"bee"})
