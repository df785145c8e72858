from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from p2pfl.enrolment.joiner import Joined
from p2pfl.enrolment.joining_folder import JoiningFolder
from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, open_authority, sign_request
from p2pfl.identity.credentials import load_credentials
from p2pfl.identity.known_peers import KnownPeer, read_known_peers

PEER = KnownPeer("a" * 52, "desk", ("192.0.2.7:9000",), 1.0)


def joined_with(folder: JoiningFolder, ca: Path, name: str) -> Joined:
    if not ca.exists():
        create_authority(ca, "lab")
    authority = open_authority(ca)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(folder.key(), hashes.SHA256())
    )
    certificate = sign_request(authority, request, name, now=datetime.now(UTC))
    return Joined(name, "node", "lab", certificate, authority.certificate, (PEER,), 0.0)


def test_the_folder_appears_whole_under_the_name_that_was_given(tmp_path: Path) -> None:
    folder = JoiningFolder(tmp_path / "certs", "pi")
    place = folder.keep(joined_with(folder, tmp_path / "ca", "pi-2"))
    assert place == tmp_path / "certs" / "pi-2"
    assert load_credentials(tmp_path / "certs").name == "pi-2"
    assert list(read_known_peers(place).values()) == [PEER]
    assert [path.name for path in (tmp_path / "certs").iterdir()] == ["pi-2"]


def test_a_key_that_was_not_answered_is_used_again(tmp_path: Path) -> None:
    first = JoiningFolder(tmp_path / "certs", "pi").key()
    second = JoiningFolder(tmp_path / "certs", "pi").key()
    assert first.private_numbers() == second.private_numbers()
    key = tmp_path / "certs" / ".pi.joining" / "node.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_what_was_made_for_nothing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    folder = JoiningFolder(tmp_path / "here" / "deep" / "certs", "pi")
    folder.key()
    folder.discard()
    assert [path.name for path in (tmp_path / "here").iterdir()] == []
    folder = JoiningFolder(tmp_path / "here" / "certs", "pi")
    folder.key()
    (tmp_path / "here" / "certs" / "mine").touch()
    folder.discard()
    assert [path.name for path in (tmp_path / "here" / "certs").iterdir()] == ["mine"]


def test_a_folder_that_is_there_or_holds_the_ca_is_refused(tmp_path: Path) -> None:
    (tmp_path / "certs" / "pi").mkdir(parents=True)
    with pytest.raises(CredentialsError, match="this device has joined as pi"):
        JoiningFolder(tmp_path / "certs", "pi")
    create_authority(tmp_path / "ca", "lab")
    with pytest.raises(CredentialsError, match="the inviting device's folder"):
        JoiningFolder(tmp_path / "ca", "pi")
    with pytest.raises(CredentialsError, match="cannot be the name of a device"):
        JoiningFolder(tmp_path / "certs", "Pi")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "certs").touch()
    with pytest.raises(CredentialsError, match=r"certs/\.pi\.joining cannot be made: .* Choose another one"):
        JoiningFolder(tmp_path / "certs", "pi").key()
    (tmp_path / "certs").unlink()
    folder = JoiningFolder(tmp_path / "certs", "pi")
    joined = joined_with(folder, tmp_path / "ca", "pi-2")
    (tmp_path / "certs" / "pi-2").touch()
    with pytest.raises(
        CredentialsError, match="holds this device's key and certificate, and cannot be renamed"
    ):
        folder.keep(joined)
