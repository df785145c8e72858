from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from p2pfl.enrolment.invitation import INVITATION_FILE
from p2pfl.enrolment.serving import InvitationOptions, parse_ttl, serving
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.known_peers import read_known_peers
from tests.support.enrolling import Device

LOOPBACK = ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("15m", 900.0), ("90s", 90.0), ("1h", 3600.0), (" 0.5M ", 30.0)]
)
def test_a_time_has_a_unit(text: str, seconds: float) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["15", "", "m", "0s", "25h", "-5m", "1d", "1e3s", "9999999m"])
def test_other_times_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"--ttl is .*, and a time from 1s to 24h is expected, such as 15m"):
        parse_ttl(text)


@pytest.mark.parametrize("count", [0, 257])
def test_a_number_of_seats_has_bounds(count: int) -> None:
    with pytest.raises(UserError, match=f"--count is {count}, and 1 to 256"):
        InvitationOptions(Path("certs"), count=count)


async def test_an_invitation_is_served_while_its_context_lasts(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "lab")
    issue(tmp_path / "ca", "desk")
    ant = Device(tmp_path / "joiner", "ant")
    told: list[str] = []
    options = InvitationOptions(tmp_path / "ca", listen=LOOPBACK, peers=("127.0.0.1:1",), node_port=9001)
    async with serving(options, None, told.append) as open_:
        assert open_.command == f"p2pfl join {open_.address} {open_.code}"
        assert open_.federation == "lab"
        assert open_.expires == pytest.approx(time.time() + 900, abs=60)
        assert len(open_.shown_end) == 5
        await ant.join(open_.address, open_.code)
        assert await open_.inviter.until_end() == "full"
    assert not (tmp_path / "ca" / INVITATION_FILE).exists()
    assert [(one.name, one.addresses) for one in read_known_peers(tmp_path / "joiner" / "ant").values()] == [
        ("desk", ("127.0.0.1:9001",))
    ]
    assert "No node answers at 127.0.0.1:1" in told[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((open_.address.host, open_.address.port)).close()


async def test_without_a_ca_or_with_a_bad_address_nothing_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="There is no CA in"):
        async with serving(InvitationOptions(tmp_path, listen=LOOPBACK), None, print):
            pass
    create_authority(tmp_path / "ca", "lab")
    with pytest.raises(UserError, match="is not an address"):
        async with serving(InvitationOptions(tmp_path / "ca", listen=LOOPBACK, peers=("a:b",)), None, print):
            pass
    with socket.create_server(LOOPBACK) as taken:
        options = InvitationOptions(tmp_path / "ca", listen=taken.getsockname()[:2])
        with pytest.raises(UserError, match="cannot listen on"):
            async with serving(options, None, print):
                pass


async def test_the_usual_port_or_a_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_authority(tmp_path / "ca", "lab")
    with socket.create_server(("", 0)) as taken:
        monkeypatch.setattr("p2pfl.enrolment.serving.DEFAULT_INVITATION_PORT", taken.getsockname()[1])
        monkeypatch.setattr("p2pfl.enrolment.serving.own_address", lambda: "192.0.2.7")
        async with serving(InvitationOptions(tmp_path / "ca"), None, print) as open_:
            assert open_.address.port != taken.getsockname()[1]
            assert open_.address.host == "192.0.2.7"
