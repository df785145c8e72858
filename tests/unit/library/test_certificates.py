from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import load_credentials
from p2pfl.library.certificates import Certificates, issue


def test_a_federation_is_made_and_used_again(tmp_path: Path) -> None:
    made = Certificates.create(tmp_path / "certs", federation="lab")
    folder = made.issue("ada")
    made.issue("eve", role="observer")
    again = Certificates(str(tmp_path / "certs"))
    assert (again.federation, again.folder) == ("lab", tmp_path / "certs")
    assert [(one.name, one.role) for one in again.issued()] == [("ada", "node"), ("eve", "observer")]
    assert again.load("ada").directory == folder
    assert load_credentials(folder).federation == "lab"
    assert repr(again) == f"<certificates of the federation 'lab' in {tmp_path / 'certs'}>"


def test_a_renewed_certificate_belongs_to_the_same_node(tmp_path: Path) -> None:
    certificates = Certificates.create(tmp_path)
    certificates.issue("ada")
    before = certificates.load("ada")
    certificates.renew("ada")
    after = certificates.load("ada")
    assert after.node_id == before.node_id
    assert after.not_before >= before.not_before


def test_days_bound_a_certificate(tmp_path: Path) -> None:
    certificates = Certificates.create(tmp_path)
    certificates.issue("ada", days=10)
    certificates.renew("ada")
    assert certificates.load("ada").not_after < datetime.now(UTC) + timedelta(days=11)
    certificates.renew("ada", days=20)
    assert certificates.load("ada").not_after > datetime.now(UTC) + timedelta(days=19)


def test_a_folder_without_a_federation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"There is no CA in .*p2pfl\.Certificates\.create"):
        Certificates(tmp_path)


def test_a_federation_is_not_made_twice(tmp_path: Path) -> None:
    Certificates.create(tmp_path)
    with pytest.raises(CredentialsError, match="holds a CA already"):
        Certificates.create(tmp_path)


def test_issuing_makes_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    first = issue("ada", tmp_path / "certs", federation="lab")
    node = load_credentials(first).node_id
    assert issue("ada", tmp_path / "certs") == first
    assert load_credentials(first).node_id == node
    other = load_credentials(issue("ben", tmp_path / "certs"))
    assert (other.federation, other.name) == ("lab", "ben")
    assert other.authority_path.read_bytes() == (tmp_path / "certs" / "ca.crt").read_bytes()


def test_a_bad_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="'Ada' cannot be the name of a device"):
        issue("Ada", tmp_path)
