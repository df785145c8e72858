from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue, open_authority, renew
from p2pfl.identity.credentials import load_credentials, read_certificate
from p2pfl.identity.revocation import (
    Revocations,
    newest_revocations,
    parse_revocations,
    read_revocations,
    revoke,
    save_revocations,
)
from p2pfl.statements import MAX_CRL_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_authority(tmp_path, "lab")
    for name in ("ada", "ben", "cas"):
        issue(tmp_path, name)
    return tmp_path


def authority(folder: Path) -> x509.Certificate:
    return read_certificate(folder / "ca.crt")


def serial(folder: Path, name: str) -> int:
    return read_certificate(folder / name / "node.crt").serial_number


def test_a_revoked_key_is_in_the_list_of_every_folder(folder: Path) -> None:
    key, listed = revoke(folder, "ben")
    assert key == load_credentials(folder, "ben").node_id
    for place in (folder, folder / "ada", folder / "ben"):
        assert read_revocations(place, authority(folder)) == listed
    assert listed.covers(key, 0)
    assert listed.covers("", serial(folder, "ben"))
    assert not listed.covers(load_credentials(folder, "ada").node_id, serial(folder, "ada"))


def test_every_certificate_of_a_revoked_key_is_covered(folder: Path) -> None:
    before = serial(folder, "ben")
    renew(folder, "ben")
    key, listed = revoke(folder, "ben")
    assert before not in listed.serials
    assert listed.covers(key, before)


def test_numbers_rise_and_entries_stay(folder: Path) -> None:
    first, one = revoke(folder, "ben")
    second, two = revoke(folder, "cas")
    assert two.number > one.number
    assert two.keys == {first, second}


def test_a_list_lost_in_the_folder_of_the_ca_is_found_in_those_of_devices(folder: Path) -> None:
    first, one = revoke(folder, "ben")
    (folder / "ca.crl").unlink()
    assert newest_revocations(folder) == one
    assert first in revoke(folder, "cas")[1].keys


def test_nobody_is_revoked_twice_or_by_a_wrong_name(folder: Path) -> None:
    revoke(folder, "ben")
    with pytest.raises(CredentialsError, match="revoked already"):
        revoke(folder, "ben")
    with pytest.raises(CredentialsError, match=r"no certificate of 'bem' in .* \(there are: ada, ben, cas\)"):
        revoke(folder, "bem")


def test_without_a_list_nobody_is_revoked(folder: Path) -> None:
    assert read_revocations(folder, authority(folder)) == Revocations()


def test_a_list_of_another_ca_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    create_authority(other, "lab")
    issue(other, "ben")
    _, foreign = revoke(other, "ben")
    with pytest.raises(ValueError, match="has not signed it"):
        parse_revocations(foreign.der, authority(folder))
    save_revocations(folder / "ada", foreign)
    with pytest.raises(CredentialsError, match=r"ca\.crl cannot be used: the CA of this federation"):
        read_revocations(folder / "ada", authority(folder))


@pytest.mark.parametrize("flip", [30, 100, -5])
def test_a_list_with_a_wrong_bit_is_refused(folder: Path, flip: int) -> None:
    der = bytearray(revoke(folder, "ben")[1].der)
    der[flip] ^= 1
    with pytest.raises(ValueError, match=r"revocation list|signed"):
        parse_revocations(bytes(der), authority(folder))


def test_what_is_too_long_or_no_list_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="the most is"):
        parse_revocations(bytes(MAX_CRL_BYTES + 1), authority(folder))
    with pytest.raises(ValueError, match="no revocation list"):
        parse_revocations(b"\x30\x03\x02\x01\x00", authority(folder))
    (folder / "ca.crl").write_bytes(bytes(2 * MAX_CRL_BYTES + 1))
    with pytest.raises(CredentialsError, match="longer than"):
        read_revocations(folder, authority(folder))
    (folder / "ca.crl").write_text("no PEM")
    with pytest.raises(CredentialsError, match="cannot be used"):
        read_revocations(folder, authority(folder))


def test_a_list_of_another_program_counts_by_its_serial_numbers(folder: Path) -> None:
    opened = open_authority(folder)
    key, certificate = opened.key, opened.certificate
    now = certificate.not_valid_before_utc
    entry = x509.RevokedCertificateBuilder().serial_number(serial(folder, "ben")).revocation_date(now).build()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now)
        .next_update(now + timedelta(days=1))
        .add_revoked_certificate(entry)
    )
    numbered = builder.add_extension(x509.CRLNumber(7), critical=False).sign(key, hashes.SHA256())
    listed = parse_revocations(numbered.public_bytes(Encoding.DER), certificate)
    assert (listed.number, listed.keys) == (7, frozenset())
    assert listed.covers("", serial(folder, "ben"))
    with pytest.raises(ValueError, match="with a number"):
        parse_revocations(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER), certificate)
