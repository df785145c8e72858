from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl import events
from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue, renew
from p2pfl.identity.credentials import Credentials, read_certificate, read_credentials
from p2pfl.identity.renewal import Renewer
from p2pfl.messages import Member
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.runtime.certificates import CertificateKeeper, find_renewer
from p2pfl.wire.links import CanRenew, Renew, RenewalFrame, RenewalRefused, Renewed
from tests.support.processes import until

MADE = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DUE = MADE + 250 * DAY


class FakeMesh:
    """A mesh that keeps what is sent, and which credentials are in use."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, RenewalFrame]] = []
        self.used: list[Credentials] = []
        self.is_linked = True

    def send(self, node: str, frame: RenewalFrame) -> bool:
        if self.is_linked:
            self.sent.append((node, frame))
        return self.is_linked

    def use(self, credentials: Credentials) -> None:
        self.used.append(credentials)


class World:
    """A CA, keepers of devices, and a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = DUE
        self.ca = folder / "ca"
        self.told: list[events.AnyEvent] = []
        self.keepers: list[CertificateKeeper] = []
        create_authority(self.ca, "lab", now=MADE - 9 * DAY)

    def credentials(self, name: str) -> Credentials:
        return read_credentials(Path(shutil.copytree(issue(self.ca, name, now=MADE), self.folder / name)))

    def keeper(
        self, credentials: Credentials, *, is_holder: bool = False
    ) -> tuple[CertificateKeeper, FakeMesh]:
        renewer = Renewer(self.ca) if is_holder else None
        keeper = CertificateKeeper(
            credentials, self.told.append, renewer, clock=lambda: self.now, draw=lambda: 0.0
        )
        mesh = FakeMesh()
        keeper.start(mesh)  # type: ignore[arg-type]
        self.keepers.append(keeper)
        return keeper, mesh

    def notices(self) -> list[str]:
        return [event.text for event in self.told if isinstance(event, events.Notice)]

    def changes(self) -> list[str]:
        return [event.how for event in self.told if isinstance(event, events.CertificateChanged)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    opened = World(tmp_path)
    yield opened
    for keeper in opened.keepers:
        await keeper.close()


def peer(credentials: Credentials) -> LinkedPeer:
    return LinkedPeer(
        Member(credentials.node_id, "0" * 32), credentials.name, "node", "127.0.0.1:1", 1, "0" * 32
    )


def der(credentials: Credentials) -> bytes:
    return read_certificate(credentials.certificate_path).public_bytes(Encoding.DER)


async def sent(mesh: FakeMesh, kind: type[RenewalFrame] | Callable[..., RenewalFrame]) -> RenewalFrame:
    """Wait until *mesh* was given a frame of *kind*, and return it."""
    return await until(
        lambda: next((one for _, one in mesh.sent if isinstance(one, kind)), None),  # type: ignore[arg-type]
        f"a frame {kind}",
    )


async def test_a_device_asks_a_holder_and_takes_what_it_sends(world: World) -> None:
    ant, ca = world.credentials("ant"), world.credentials("ca-holder")
    holder, holder_mesh = world.keeper(ca, is_holder=True)
    keeper, mesh = world.keeper(ant)
    holder.linked(peer(ant))
    assert holder_mesh.sent == [(ant.node_id, CanRenew())]
    keeper.linked(peer(ca))
    keeper.received(peer(ca), CanRenew())
    request = await sent(mesh, Renew)
    assert request == Renew(der(ant))
    holder.received(peer(ant), request)
    answer = await sent(holder_mesh, Renewed)
    keeper.received(peer(ca), answer)
    assert keeper.credentials.not_after == DUE + 365 * DAY
    assert keeper.credentials == read_credentials(ant.directory) == mesh.used[-1]
    assert "renewed by ca-holder" in world.changes()


async def test_the_holder_renews_its_own(world: World) -> None:
    keeper, mesh = world.keeper(world.credentials("ca-holder"), is_holder=True)
    await until(lambda: bool(mesh.used), "the renewal")
    assert keeper.credentials.not_after == DUE + 365 * DAY
    assert world.changes() == ["", "renewed by the CA on this device"]


async def test_a_certificate_that_nobody_asked_for_is_ignored(world: World) -> None:
    ant, ca = world.credentials("ant"), world.credentials("ca-holder")
    keeper, mesh = world.keeper(ant)
    fresh = Renewer(world.ca).renew(der(ant), ant.node_id, "ant", DUE)
    keeper.received(peer(ca), Renewed(fresh))
    keeper.received(peer(ca), RenewalRefused("no"))
    assert keeper.credentials == ant
    assert mesh.used == []


async def test_a_bad_answer_is_not_used_and_counts_as_a_refusal(world: World) -> None:
    ant, ca = world.credentials("ant"), world.credentials("ca-holder")
    keeper, mesh = world.keeper(ant)
    before = ant.certificate_path.read_bytes()
    keeper.received(peer(ca), CanRenew())
    await sent(mesh, Renew)
    keeper.received(peer(ca), Renewed(der(ca)))
    assert keeper.credentials == ant
    assert ant.certificate_path.read_bytes() == before
    assert mesh.used == []


async def test_what_cannot_be_renewed_is_refused_with_the_reason(world: World) -> None:
    ant, bee = world.credentials("ant"), world.credentials("bee")
    holder, mesh = world.keeper(world.credentials("ca-holder"), is_holder=True)
    holder.received(peer(bee), Renew(der(ant)))
    assert await sent(mesh, RenewalRefused) == RenewalRefused("the certificate belongs to another device")


async def test_a_device_without_the_ca_refuses(world: World) -> None:
    ant, bee = world.credentials("ant"), world.credentials("bee")
    keeper, mesh = world.keeper(ant)
    keeper.received(peer(bee), Renew(der(bee)))
    assert await sent(mesh, RenewalRefused) == RenewalRefused("it does not hold the CA's key")


async def test_the_last_refusal_is_part_of_the_warning(world: World) -> None:
    ant, ca = world.credentials("ant"), world.credentials("ca-holder")
    world.now = MADE + 360 * DAY
    keeper, mesh = world.keeper(ant)
    keeper.received(peer(ca), CanRenew())
    await sent(mesh, Renew)
    keeper.received(peer(ca), RenewalRefused("it was revoked"))
    world.now += timedelta(minutes=2)
    keeper.unlinked("unknown")  # wakes the keeper, as anything does
    await until(lambda: bool(world.notices()), "the warning")
    assert "ends in 4 days" in world.notices()[0]
    assert (
        "was not renewed: ca-holder refused: it was revoked. Renew it with `p2pfl certs" in world.notices()[0]
    )


async def test_the_end_is_told_once(world: World) -> None:
    keeper, _ = world.keeper(world.credentials("ant"))
    world.now = MADE + 366 * DAY
    for _ in range(3):
        keeper.unlinked("unknown")
        await until(lambda: bool(world.notices()), "the sentence")
    assert [("has expired" in text, "no new one can be made" in text) for text in world.notices()] == [
        (True, True)
    ]


async def test_a_certificate_renewed_by_hand_is_found_before_a_holder_is_asked(world: World) -> None:
    ant, ca = world.credentials("ant"), world.credentials("ca-holder")
    shutil.copy(renew(world.ca, "ant", now=DUE) / "node.crt", ant.certificate_path)
    keeper, mesh = world.keeper(ant)
    keeper.received(peer(ca), CanRenew())
    await until(lambda: bool(mesh.used), "the new certificate")
    assert keeper.credentials.not_after == DUE + 365 * DAY
    assert not any(isinstance(frame, Renew) for _, frame in mesh.sent)
    assert world.changes() == ["", "reloaded from its folder"]


async def test_a_reload_takes_what_is_in_the_folder(world: World) -> None:
    ant = world.credentials("ant")
    keeper, mesh = world.keeper(ant)
    keeper.reload()
    assert "the certificate was reloaded; it ends on 2031-01-01 12:00:00 UTC as before" in world.notices()
    shutil.copy(renew(world.ca, "ant", days=9, now=DUE) / "node.crt", ant.certificate_path)
    keeper.reload()
    assert keeper.credentials.not_after == DUE + 9 * DAY
    assert mesh.used[-1] == keeper.credentials


async def test_a_reload_of_something_else_changes_nothing(world: World) -> None:
    ant = world.credentials("ant")
    keeper, mesh = world.keeper(ant)
    other = issue(world.ca, "bee", now=MADE)
    for name in ("node.key", "node.crt"):
        shutil.copy(other / name, ant.directory / name)
    keeper.reload()
    (ant.directory / "node.crt").unlink()
    keeper.reload()
    assert keeper.credentials == ant
    assert mesh.used == []
    first, second = world.notices()
    assert "the one in use stays" in first
    assert "only a restart can change those" in first
    assert "node.crt is missing" in second


async def test_a_request_that_cannot_be_sent_is_repeated_later(world: World) -> None:
    ant, ca = world.credentials("ant"), world.credentials("ca-holder")
    keeper, mesh = world.keeper(ant)
    mesh.is_linked = False
    keeper.received(peer(ca), CanRenew())
    await until(lambda: bool(keeper._last_refusal), "the failure")
    mesh.is_linked = True
    world.now += timedelta(hours=1)
    keeper.unlinked("unknown")
    assert await sent(mesh, Renew) == Renew(der(ant))


def test_a_device_without_the_key_of_the_ca_renews_nothing(world_folder: World) -> None:
    ant = world_folder.credentials("ant")
    assert find_renewer(ant, None, None) == (None, "")


@pytest.fixture
def world_folder(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_ca_beside_a_certificate_is_used_without_an_option(world_folder: World) -> None:
    issue(world_folder.ca, "ant", now=MADE)
    renewer, remark = find_renewer(read_credentials(world_folder.ca, "ant"), None, None)
    assert renewer is not None
    assert (renewer.directory, remark) == (world_folder.ca, "")


def test_a_passphrase_that_is_not_given_is_a_remark_and_a_wrong_one_an_error(
    world_folder: World, tmp_path: Path
) -> None:
    create_authority(world_folder.ca, "lab", force=True, passphrase=b"four random words", now=MADE)
    issue(world_folder.ca, "ant", passphrase=b"four random words", now=MADE)
    ant = read_credentials(world_folder.ca, "ant")
    renewer, remark = find_renewer(ant, None, None)
    assert renewer is None
    assert "renews no certificates, although the CA's key is in" in remark
    assert "--passphrase-file" in remark
    (tmp_path / "pass").write_bytes(b"other words\n")
    with pytest.raises(CredentialsError, match="the passphrase is wrong"):
        find_renewer(ant, None, tmp_path / "pass")
    (tmp_path / "pass").write_bytes(b"four random words\n")
    assert find_renewer(ant, None, tmp_path / "pass")[0] is not None
    with pytest.raises(CredentialsError, match="has a passphrase"):
        find_renewer(ant, world_folder.ca, None)


def test_a_ca_that_is_named_must_be_that_of_the_certificate(world_folder: World, tmp_path: Path) -> None:
    ant = world_folder.credentials("ant")
    assert find_renewer(ant, world_folder.ca, None)[0] is not None
    create_authority(tmp_path / "false", "lab")
    with pytest.raises(CredentialsError, match="is not the one of this device's certificate"):
        find_renewer(ant, tmp_path / "false", None)
