"""The TLS connection between a device that joins and its inviter, which know no certificate of each other.

The inviter's certificate is made for one invitation and signed by itself; a joiner accepts any. What
authenticates both is the key exchange inside (`p2pfl.enrolment.pake`), which is bound to this connection.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from p2pfl.enrolment.frames import InviterFrame, JoinerFrame, encode_body
from p2pfl.enrolment.pake import TlsBinding
from p2pfl.errors import P2pflError, ProtocolError
from p2pfl.identity.keys import generate_key, write_file
from p2pfl.net.transport.stream import FrameStream
from p2pfl.net.transport.tls import anonymous_server_context
from p2pfl.wire.frames import encode_frame

ENROL_ALPN = "p2pfl-enrol/1"

DEFAULT_INVITATION_PORT = 9010
"""Where an inviter listens if it can, and where a joiner looks without a port."""

CERTIFICATE_DAYS = 2
"""An ephemeral certificate is valid for these days before and after: nobody looks at its dates."""

_Frame = TypeVar("_Frame", JoinerFrame, InviterFrame)


@dataclass(frozen=True)
class EphemeralIdentity:
    """The inviter's side of TLS, for one invitation."""

    context: ssl.SSLContext
    certificate: bytes
    """DER."""


def make_identity() -> EphemeralIdentity:
    """Make a key and a certificate that live as long as this process; the key is on no disk afterwards."""
    key, now, nobody = generate_key(), datetime.now(UTC), x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=CERTIFICATE_DAYS))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory(prefix="p2pfl-invite-") as folder:  # `ssl` reads keys from files only
        path = Path(folder) / "inviter.pem"
        write_file(path, pem + certificate.public_bytes(Encoding.PEM), mode=0o600)
        context = anonymous_server_context(path, ENROL_ALPN)
    return EphemeralIdentity(context, certificate.public_bytes(Encoding.DER))


class EnrolmentChannel(Generic[_Frame]):
    """Exchanges the frames of an enrolment on a TLS connection, which has been made."""

    def __init__(self, stream: FrameStream, decode: Callable[[bytes], _Frame], max_bytes: int) -> None:
        """Read frames with *decode*; frames to send have at most *max_bytes*."""
        self._stream = stream
        self._decode: Callable[[bytes], _Frame] = decode
        self._max_bytes = max_bytes

    def binding(self, certificate: bytes | None = None) -> TlsBinding:
        """Return what identifies this connection; *certificate* is the inviter's, for the inviter itself.

        Raises:
            ProtocolError: the other side speaks another protocol.
        """
        connection: ssl.SSLObject = self._stream.transport.get_extra_info("ssl_object")
        shown = certificate or connection.getpeercert(binary_form=True)
        # Python's `ssl` has no exporter (RFC 9266). In TLS 1.3 this is the client's Finished message: a MAC
        # over the whole handshake, with a key that only its two ends have.
        finished = connection.get_channel_binding("tls-unique")
        if connection.selected_alpn_protocol() != ENROL_ALPN or not shown or not finished:
            raise ProtocolError("it does not speak the protocol of invitations")
        return TlsBinding(shown, finished)

    async def send(self, frame: JoinerFrame | InviterFrame) -> None:
        """Send *frame*.

        Raises:
            OSError: the connection broke.
        """
        await self._stream.write(encode_frame(encode_body(frame), self._max_bytes))

    async def receive(self) -> _Frame | None:
        """Return the next frame, None after the other side has closed.

        Raises:
            PeerError: what came is no frame.
            OSError: the connection broke.
        """
        body = await self._stream.next_body()
        return None if body is None else self._decode(body)

    async def finish(self) -> None:
        """Send what is queued, and close."""
        await self._stream.finish()

    def abort(self) -> None:
        """Close at once."""
        self._stream.abort()


def why_broken(error: BaseException) -> str:
    """Return a sentence about *error*, which ended a connection on which nobody showed a certificate yet."""
    match error:
        case P2pflError():
            return str(error)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionError():
            return "The other side closed the connection."
        case ssl.SSLError():
            return "What answers there does not speak the protocol of invitations."
        case TimeoutError():
            return "The other side did not answer in time."
        case OSError():
            return f"The connection failed: {error.strerror or str(error)[:200]}."
    return f"The connection failed: {error!s:.200}."
