from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue, list_certificates, read_federation, renew
from p2pfl.identity.credentials import load_credentials, read_certificate
from p2pfl.identity.names import Role
from p2pfl.times import show_time

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_ca_may_sign_devices_and_nothing_further(tmp_path: Path) -> None:
    create_authority(tmp_path, "lab", now=NOW)
    certificate = read_certificate(tmp_path / "ca.crt")
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert certificate.not_valid_before_utc == NOW - DAY
    assert certificate.not_valid_after_utc == NOW + 3653 * DAY


def test_a_device_certificate_is_for_both_ends_of_tls_and_says_who_holds_it(tmp_path: Path) -> None:
    create_authority(tmp_path, "lab", now=NOW)
    certificate = read_certificate(issue(tmp_path, "ant", "operator", now=NOW) / "node.crt")
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert not constraints.ca
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://lab/operator/ant")]
    assert certificate.not_valid_before_utc == NOW - DAY
    assert certificate.not_valid_after_utc == NOW + 365 * DAY


def test_the_key_of_the_ca_is_not_in_the_device_folder(tmp_path: Path) -> None:
    create_authority(tmp_path)
    folder = issue(tmp_path, "ant")
    secret = (tmp_path / "ca.key").read_bytes()
    assert folder == tmp_path / "ant"
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "node.crt", "node.key"]
    assert all(path.read_bytes() != secret for path in folder.iterdir())
    assert (folder / "ca.crt").read_bytes() == (tmp_path / "ca.crt").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="needs permission bits")
def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca")
    folder = issue(tmp_path / "ca", "ant")
    modes = [
        stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "ca" / "ca.key", folder / "node.key", folder)
    ]
    assert modes == [0o600, 0o600, 0o700]


def test_a_second_ca_needs_force(tmp_path: Path) -> None:
    create_authority(tmp_path, "lab")
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(CredentialsError, match=r"holds a CA already.*--force"):
        create_authority(tmp_path, "lab")
    assert (tmp_path / "ca.key").read_bytes() == before
    create_authority(tmp_path, "field", force=True)
    federation = read_federation(tmp_path)
    assert federation is not None
    assert federation.name == "field"


def test_a_second_certificate_needs_force_and_makes_a_new_node(tmp_path: Path) -> None:
    create_authority(tmp_path)
    first = load_credentials(issue(tmp_path, "ant"))
    with pytest.raises(CredentialsError, match=r"ant has a certificate\. Renew it with --renew"):
        issue(tmp_path, "ant")
    assert load_credentials(tmp_path, "ant") == first
    assert load_credentials(issue(tmp_path, "ant", force=True)).node_id != first.node_id


def test_renewing_keeps_node_id_and_role(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    first = load_credentials(issue(tmp_path, "ant", "observer", now=NOW), now=NOW)
    later = NOW + 400 * DAY
    second = load_credentials(renew(tmp_path, "ant", now=later), now=later)
    assert (second.node_id, second.role) == (first.node_id, "observer")
    assert second.not_after == later + 365 * DAY


def test_renewing_what_was_never_issued_says_what_to_do(tmp_path: Path) -> None:
    create_authority(tmp_path)
    with pytest.raises(CredentialsError, match="run `p2pfl certs issue ant` first"):
        renew(tmp_path, "ant")


def test_a_device_certificate_ends_with_the_ca(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    late = NOW + 3600 * DAY
    assert load_credentials(issue(tmp_path, "ant", now=late), now=late).not_after == NOW + 3653 * DAY


def test_an_expired_ca_issues_nothing(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    with pytest.raises(CredentialsError, match=f"expired on {show_time(NOW + 3653 * DAY)}"):
        issue(tmp_path, "ant", now=NOW + 3654 * DAY)
    assert not (tmp_path / "ant").exists()


def test_a_clock_before_the_ca_was_made_is_told(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    with pytest.raises(
        CredentialsError, match=f"clock shows {show_time(NOW - 2 * DAY)}.*Set the clock right"
    ):
        issue(tmp_path, "ant", now=NOW - 2 * DAY)


@pytest.mark.parametrize("missing", ["ca.key", "ca.crt"])
def test_issuing_without_a_ca_says_how_to_make_one(tmp_path: Path, missing: str) -> None:
    create_authority(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CredentialsError, match="Make one with `p2pfl certs init`"):
        issue(tmp_path, "ant")


def test_a_key_and_certificate_of_two_cas_are_refused(tmp_path: Path) -> None:
    create_authority(tmp_path)
    create_authority(tmp_path / "other")
    (tmp_path / "other" / "ca.key").replace(tmp_path / "ca.key")
    with pytest.raises(CredentialsError, match="do not belong together"):
        issue(tmp_path, "ant")


def test_a_device_certificate_is_no_ca(tmp_path: Path) -> None:
    create_authority(tmp_path)
    folder = issue(tmp_path, "ant")
    (folder / "node.key").rename(folder / "ca.key")
    (folder / "node.crt").replace(folder / "ca.crt")
    with pytest.raises(CredentialsError, match="is no CA made by"):
        issue(folder, "bee")


def test_bad_names_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be the name of a federation"):
        create_authority(tmp_path, "My Lab")
    create_authority(tmp_path)
    with pytest.raises(CredentialsError, match="cannot be the name of a device"):
        issue(tmp_path, "../ant")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "ca.key"]


def test_the_longest_names_fit(tmp_path: Path) -> None:
    create_authority(tmp_path, "f" * 63)
    assert load_credentials(issue(tmp_path, "n" * 63)).name == "n" * 63


def test_a_name_that_is_a_file_is_told(tmp_path: Path) -> None:
    create_authority(tmp_path)
    with pytest.raises(CredentialsError, match=r"ca\.key cannot be made"):
        issue(tmp_path, "ca.key", force=True)


def test_certificates_are_listed_by_name(tmp_path: Any) -> None:
    create_authority(tmp_path, "lab")
    roles: dict[str, Role] = {"cow": "node", "ant": "operator", "bee": "observer"}
    for name, role in roles.items():
        issue(tmp_path, name, role)
    listed = list_certificates(tmp_path)
    assert [(entry.name, entry.role) for entry in listed] == [
        ("ant", "operator"),
        ("bee", "observer"),
        ("cow", "node"),
    ]
    assert [entry.node_id for entry in listed] == [load_credentials(tmp_path, e.name).node_id for e in listed]


def test_a_device_folder_lists_its_own(tmp_path: Path) -> None:
    create_authority(tmp_path, "lab")
    issue(tmp_path, "ant")
    issue(tmp_path, "bee")
    assert [entry.name for entry in list_certificates(tmp_path / "bee")] == ["bee"]


def test_an_empty_folder_lists_nothing(tmp_path: Path) -> None:
    assert list_certificates(tmp_path / "nowhere") == []
    assert read_federation(tmp_path) is None
