"""A peer's identity, read from the certificate that it presented.

TLS has already checked that the federation's CA signed the certificate. The source address of the connection
plays no part in the identity, and nothing that the peer sends later overrides it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from p2pfl.errors import HandshakeRefused
from p2pfl.identity.keys import node_id_of, short
from p2pfl.identity.names import Role, parse_device_uri


@dataclass(frozen=True)
class PeerIdentity:
    """The holder of a certificate."""

    node_id: str
    name: str
    role: Role
    federation: str
    serial: int = 0
    """Serial number of the certificate."""

    def __str__(self) -> str:
        return f"{self.name} ({short(self.node_id)})"


def identify(certificate: bytes, federation: str) -> PeerIdentity:
    """Return the identity in *certificate* (DER), which TLS has verified, in *federation*.

    Raises:
        HandshakeRefused: it cannot be read, carries no or several identities, or is another federation's.
    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        node_id = node_id_of(parsed.public_key())
    except (ValueError, TypeError) as error:
        raise HandshakeRefused(
            "This device refused the other side: its certificate cannot be read."
        ) from error
    uris = certificate_uris(parsed)
    identity = parse_device_uri(uris[0]) if len(uris) == 1 else None
    if identity is None:
        found = ", ".join(repr(uri[:100]) for uri in uris[:3]) or "none"
        raise HandshakeRefused(
            "This device refused the other side: its certificate must carry exactly one URI, of the form "
            f"spiffe://federation/role/name, but has {found}. Issue it a new one with `p2pfl certs issue`."
        )
    theirs, role, name = identity
    if theirs != federation:
        raise HandshakeRefused(
            f"This device refused the other side: {name} belongs to the federation {theirs!r}, this device "
            f"to {federation!r}."
        )
    return PeerIdentity(node_id, name, role, theirs, parsed.serial_number)


def certificate_uris(certificate: x509.Certificate) -> list[str]:
    """Return the URIs among a certificate's subject alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
