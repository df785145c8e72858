from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from p2pfl.errors import CredentialsError, PassphraseNeededError
from p2pfl.identity.authority import adopt_authority, create_authority, issue, read_federation
from p2pfl.identity.credentials import load_credentials, read_certificate
from p2pfl.identity.keys import generate_key, read_key
from p2pfl.identity.parent_authority import ParentAuthority, ParentKey, read_parent_authority

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
NAME = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org")])


def parent(
    folder: Path,
    key: ParentKey | None = None,
    *,
    path_length: int | None = None,
    is_ca: bool = True,
    days: int = 100,
    extensions: Sequence[x509.ExtensionType] = (),
    encryption: KeySerializationEncryption | None = None,
) -> tuple[Path, Path]:
    """Make an organisation's CA in *folder*; return the files with its certificate and its key."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    builder = (
        x509.CertificateBuilder(NAME, NAME, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - 2 * DAY)
        .not_valid_after(NOW + days * DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None), True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.NameConstraints))
    own_hash = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    certificate = builder.sign(key, own_hash)
    (folder / "org.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    (folder / "org.key").write_bytes(pem)
    (folder / "org.key").chmod(0o600)
    return folder / "org.crt", folder / "org.key"


def read(folder: Path, **settings: object) -> ParentAuthority:
    return read_parent_authority(*parent(folder, **settings))  # type: ignore[arg-type]


KEYS: list[ParentKey] = [
    rsa.generate_private_key(65537, 2048),
    generate_key(),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_ca_with_any_usual_key_signs_that_of_a_federation(tmp_path: Path, key: ParentKey) -> None:
    organisation = read(tmp_path, key=key)
    create_authority(tmp_path / "certs", "lab", parent=organisation, days=3000)
    authority = read_certificate(tmp_path / "certs" / "ca.crt")
    authority.verify_directly_issued_by(organisation.certificate)
    assert authority.not_valid_after_utc == organisation.certificate.not_valid_after_utc
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    credentials = load_credentials(issue(tmp_path / "certs", "ant"))
    assert (credentials.federation, credentials.not_after) == ("lab", authority.not_valid_after_utc)


def test_the_key_of_the_organisation_is_not_stored(tmp_path: Path) -> None:
    organisation = read(tmp_path, key=generate_key())
    create_authority(tmp_path / "certs", "lab", parent=organisation)
    assert read_key(tmp_path / "certs" / "ca.key").public_key() != organisation.key.public_key()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path_length": 0}, r"allows no CA below it \(path length 0\)"),
        ({"is_ca": False}, "is no certificate of a CA"),
        ({"days": -1}, "and this machine's clock shows"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "has an RSA key of 1024 bits, and at least 2048"),
    ],
)
def test_a_ca_that_does_not_allow_it_signs_nothing(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    organisation = read(tmp_path, **settings)
    with pytest.raises(CredentialsError, match=words):
        create_authority(tmp_path / "certs", "lab", parent=organisation)
    assert not (tmp_path / "certs").exists()


URI, DIRECTORY = x509.UniformResourceIdentifier, x509.DirectoryName


@pytest.mark.parametrize(
    ("permitted", "excluded", "is_allowed"),
    [
        ([x509.DNSName("org.example")], None, True),
        ([URI("lab")], None, True),
        ([URI(".b")], None, False),
        ([URI("field"), URI("lab")], None, True),
        ([URI("field")], None, False),
        (None, [URI("lab")], False),
        (None, [URI("field"), x509.DNSName("lab")], True),
        ([DIRECTORY(NAME)], None, False),
    ],
)
def test_name_constraints_are_kept(
    tmp_path: Path,
    permitted: list[x509.GeneralName] | None,
    excluded: list[x509.GeneralName] | None,
    is_allowed: bool,
) -> None:
    organisation = read(tmp_path, extensions=[x509.NameConstraints(permitted, excluded)])
    if is_allowed:
        organisation.check("lab", NOW)
    else:
        with pytest.raises(CredentialsError, match=r"name constraints .* do not allow"):
            organisation.check("lab", NOW)


def test_a_domain_of_federations_may_be_permitted(tmp_path: Path) -> None:
    organisation = read(tmp_path, extensions=[x509.NameConstraints([URI(".org.example")], None)])
    organisation.check("lab.org.example", NOW)


def test_the_two_files_must_be_of_one_ca(tmp_path: Path) -> None:
    certificate, _ = parent(tmp_path)
    (tmp_path / "other").mkdir()
    _, key = parent(tmp_path / "other")
    with pytest.raises(CredentialsError, match="do not belong together"):
        read_parent_authority(certificate, key)


def test_a_kind_of_key_that_is_out_of_use_is_refused(tmp_path: Path) -> None:
    certificate, key = parent(tmp_path)
    pem = dsa.generate_private_key(1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(pem)
    with pytest.raises(CredentialsError, match="RSA, ECDSA or EdDSA is needed"):
        read_parent_authority(certificate, key)


def test_its_key_may_have_a_passphrase(tmp_path: Path) -> None:
    files = parent(tmp_path, encryption=BestAvailableEncryption(b"open sesame"))
    with pytest.raises(PassphraseNeededError):
        read_parent_authority(*files)
    assert read_parent_authority(*files, b"open sesame").federation is None


def of_federation(uri: str = "spiffe://lab") -> list[x509.ExtensionType]:
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return [x509.SubjectAlternativeName([URI(uri)]), usage]


def test_a_ca_that_an_organisation_made_for_a_federation_is_used_itself(tmp_path: Path) -> None:
    key = generate_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    existing = read(tmp_path, key=key, path_length=0, extensions=[*of_federation(), identifier])
    assert existing.federation == "lab"
    assert adopt_authority(tmp_path / "certs", existing) == "lab"
    federation = read_federation(tmp_path / "certs")
    assert federation is not None
    assert federation.name == "lab"
    assert load_credentials(issue(tmp_path / "certs", "ant")).federation == "lab"
    with pytest.raises(CredentialsError, match="holds a CA already"):
        adopt_authority(tmp_path / "certs", existing)


def test_such_a_ca_needs_the_key_and_the_extensions_that_devices_expect(tmp_path: Path) -> None:
    other_curve = read(tmp_path, extensions=of_federation())
    with pytest.raises(CredentialsError, match="not ECDSA on P-256"):
        adopt_authority(tmp_path / "certs", other_curve)
    incomplete = read(tmp_path, key=generate_key(), extensions=of_federation())
    with pytest.raises(CredentialsError, match="lacks a subject key identifier"):
        adopt_authority(tmp_path / "certs", incomplete)
    assert not (tmp_path / "certs").exists()
