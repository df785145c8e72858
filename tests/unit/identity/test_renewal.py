from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import CredentialsError, PassphraseNeededError
from p2pfl.identity.authority import create_authority, issue, open_authority, sign
from p2pfl.identity.credentials import Credentials, read_certificate, read_credentials
from p2pfl.identity.keys import generate_key
from p2pfl.identity.names import Role
from p2pfl.identity.renewal import (
    RenewalDeniedError,
    Renewer,
    accept_renewed,
    authority_folder,
    is_authority_of,
)

MADE = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DUE = MADE + 250 * DAY


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    create_authority(tmp_path / "ca", "lab", now=MADE - 9 * DAY)
    return tmp_path / "ca"


@pytest.fixture
def ant(ca: Path, tmp_path: Path) -> Credentials:
    """A device's credentials in a folder of its own."""
    return read_credentials(Path(shutil.copytree(issue(ca, "ant", now=MADE), tmp_path / "ant")))


def der(path: Path) -> bytes:
    return read_certificate(path).public_bytes(Encoding.DER)


def renewed(ca: Path, ant: Credentials, now: datetime = DUE) -> bytes:
    return Renewer(ca).renew(der(ant.certificate_path), ant.node_id, ant.name, now)


def test_only_the_dates_of_a_renewed_certificate_are_new(ca: Path, ant: Credentials) -> None:
    accept_renewed(renewed(ca, ant), ant, DUE)
    fresh = read_credentials(ant.directory)
    same = ("node_id", "name", "role", "federation")
    assert [getattr(fresh, name) for name in same] == [getattr(ant, name) for name in same]
    assert (fresh.not_before, fresh.not_after) == (DUE - DAY, DUE + 365 * DAY)


def test_a_renewed_certificate_lives_as_long_as_the_old_one(ca: Path, tmp_path: Path) -> None:
    short = read_credentials(issue(ca, "bee", days=3, now=MADE))
    now = MADE + 2.5 * DAY
    fresh = x509.load_der_x509_certificate(renewed(ca, short, now))
    assert fresh.not_valid_after_utc == now + 3 * DAY


def test_the_copy_in_the_folder_of_the_ca_is_renewed_too(ca: Path, ant: Credentials) -> None:
    data = renewed(ca, ant)
    assert der(ca / "ant" / "node.crt") == data
    issue(ca, "ant", force=True, now=MADE)  # another device has the name now
    other = der(ca / "ant" / "node.crt")
    renewed(ca, ant)
    assert der(ca / "ant" / "node.crt") == other


def of(ca: Path, name: str = "ant", role: Role = "node", key: object = None) -> bytes:
    public = key or generate_key().public_key()
    return sign(open_authority(ca), public, name, role, now=MADE).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def test_a_certificate_of_another_device_name_or_role_is_not_renewed(ca: Path, ant: Credentials) -> None:
    own_key = read_certificate(ant.certificate_path).public_key()
    for shown in (of(ca), of(ca, "bee", key=own_key), of(ca, role="operator", key=own_key)):
        with pytest.raises(RenewalDeniedError, match="belongs to another device"):
            Renewer(ca).renew(shown, ant.node_id, ant.name, DUE)


def test_a_certificate_of_another_ca_is_not_renewed(ca: Path, ant: Credentials, tmp_path: Path) -> None:
    create_authority(tmp_path / "false", "lab", now=MADE)
    shown = of(tmp_path / "false", key=read_certificate(ant.certificate_path).public_key())
    for data in (shown, der(tmp_path / "false" / "ca.crt")):
        with pytest.raises(RenewalDeniedError, match="not one of its CA"):
            Renewer(ca).renew(data, ant.node_id, ant.name, DUE)
    with pytest.raises(RenewalDeniedError, match="no certificate"):
        Renewer(ca).renew(b"nonsense", ant.node_id, ant.name, DUE)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (MADE + 180 * DAY, "more than half of its life left"),
        (MADE + 366 * DAY, "out of date by its clock.*renew it by hand"),
        (MADE - 2 * DAY, "out of date by its clock"),
    ],
)
def test_a_certificate_is_renewed_only_when_it_is_due(
    ca: Path, ant: Credentials, now: datetime, words: str
) -> None:
    with pytest.raises(RenewalDeniedError, match=words):
        renewed(ca, ant, now)


def test_a_certificate_that_is_forbidden_is_not_renewed(ca: Path, ant: Credentials) -> None:
    renewer = Renewer(ca, forbids=lambda one: "it was revoked" if one.serial_number else "")
    with pytest.raises(RenewalDeniedError, match="it was revoked"):
        renewer.renew(der(ant.certificate_path), ant.node_id, ant.name, DUE)


def test_no_certificate_outlives_the_ca(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "lab", now=MADE, days=300)
    ant = read_credentials(issue(tmp_path / "ca", "ant", now=MADE))
    with pytest.raises(RenewalDeniedError, match="the CA itself ends on 2030-10-28"):
        renewed(tmp_path / "ca", ant)


def test_a_ca_that_cannot_be_read_is_told_without_its_path(ca: Path, ant: Credentials) -> None:
    (ca / "ca.key").unlink()
    with pytest.raises(CredentialsError, match="There is no CA in"):
        Renewer(ca).check()
    with pytest.raises(RenewalDeniedError) as told:
        renewed(ca, ant)
    assert str(told.value) == "its CA cannot be read now; its log says why"


def test_a_key_with_a_passphrase_is_read_with_it_only(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "lab", now=MADE, passphrase=b"four random words")
    with pytest.raises(PassphraseNeededError):
        Renewer(tmp_path / "ca").check()
    Renewer(tmp_path / "ca", b"four random words").check()


def test_what_a_device_is_sent_must_be_its_own_certificate_with_a_later_end(
    ca: Path, ant: Credentials, tmp_path: Path
) -> None:
    before = ant.certificate_path.read_bytes()
    own_key = read_certificate(ant.certificate_path).public_key()
    create_authority(tmp_path / "false", "lab", now=MADE)
    authority = open_authority(ca)
    old = sign(authority, own_key, "ant", "node", days=260, now=MADE).public_bytes(Encoding.DER)
    later = sign(authority, own_key, "ant", "node", now=DUE + 9 * DAY).public_bytes(Encoding.DER)
    for data, words in [
        (of(tmp_path / "false", key=own_key), "was not signed by this CA"),
        (of(ca), "another key, name or role"),
        (of(ca, "bee", key=own_key), "another key, name or role"),
        (of(ca, role="operator", key=own_key), "another key, name or role"),
        (later, "out of date by this device's clock"),
        (old, "does not end later"),
        (b"nonsense", "no certificate"),
    ]:
        with pytest.raises(CredentialsError, match=words):
            accept_renewed(data, ant, DUE)
    assert ant.certificate_path.read_bytes() == before


def test_the_ca_is_found_beside_the_certificate_and_above(ca: Path, ant: Credentials, tmp_path: Path) -> None:
    assert authority_folder(read_credentials(ca / "ant")) == ca
    assert authority_folder(ant) is None
    shutil.copy(ca / "ca.key", ant.directory / "ca.key")
    assert authority_folder(ant) == ant.directory


def test_another_ca_that_lies_there_does_not_count(ant: Credentials) -> None:
    create_authority(ant.directory.parent, "lab", now=MADE)
    assert not is_authority_of(ant.directory.parent, ant)
    assert authority_folder(ant) is None
    assert not is_authority_of(ant.directory.parent / "nothing", ant)
