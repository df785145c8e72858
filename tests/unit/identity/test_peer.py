from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import HandshakeRefused
from p2pfl.identity.credentials import read_certificate
from p2pfl.identity.keys import generate_key
from p2pfl.identity.peer import PeerIdentity, identify
from tests.support.federation import make_federation


def certificate_with(*names: x509.GeneralName) -> bytes:
    """Return a self-signed certificate (DER) with these alternative names: `identify` checks no signature."""
    key = generate_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def uri(value: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(value)


def test_an_issued_certificate_names_its_holder(tmp_path: Path) -> None:
    owl = make_federation(tmp_path, "owl", federation="lab", role="observer")["owl"]
    certificate = read_certificate(owl.certificate_path).public_bytes(Encoding.DER)
    identity = identify(certificate, "lab")
    serial = read_certificate(owl.certificate_path).serial_number
    assert identity == PeerIdentity(owl.node_id, "owl", "observer", "lab", serial)
    assert str(identity) == f"owl ({owl.node_id[:7]})"


def test_other_kinds_of_names_do_not_matter() -> None:
    assert identify(certificate_with(x509.DNSName("x"), uri("spiffe://lab/node/ant")), "lab").name == "ant"


def test_another_federation_is_refused_with_both_names() -> None:
    with pytest.raises(HandshakeRefused, match="ant belongs to the federation 'field', this device to 'lab'"):
        identify(certificate_with(uri("spiffe://field/node/ant")), "lab")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "but has none"),
        ([x509.DNSName("lab")], "but has none"),
        (
            [uri("spiffe://lab/node/ant"), uri("spiffe://lab/node/bee")],
            "has 'spiffe://lab/node/ant', 'spiffe://lab/node/",
        ),
        ([uri("spiffe://lab/root/ant")], "has 'spiffe://lab/root/ant'"),
        ([uri("https://lab/node/ant")], "has 'https://lab/node/ant'"),
    ],
)
def test_a_certificate_without_exactly_one_identity_is_refused(
    names: list[Any] | list[Any], found: str
) -> None:
    with pytest.raises(HandshakeRefused, match=found):
        identify(certificate_with(*names), "lab")


def test_a_long_uri_is_shown_cut() -> None:
    with pytest.raises(HandshakeRefused) as refused:
        identify(certificate_with(uri("spiffe://" + "x" * 5000)), "lab")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("der", [b"", b"\x30\x03\x02\x01\x01", b"x" * 100])
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    with pytest.raises(HandshakeRefused, match="cannot be read"):
        identify(der, "lab")
