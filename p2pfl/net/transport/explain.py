"""Explains in one sentence why a connection failed.

`ssl` and the operating system report codes, and each side sees only half of the fault: the side that refuses
a certificate gets a verification error, the other side a TLS alert. With TLS 1.3 a refused dialer gets the
alert with its first read, after its handshake has succeeded. Each sentence says which side refused. Where the
clocks of the devices matter, it shows this device's clock, so that a user can compare both.
"""

from __future__ import annotations

import errno
import socket
import ssl
from datetime import UTC, datetime

from p2pfl.errors import P2pflError
from p2pfl.identity.credentials import Credentials, dates
from p2pfl.times import show_time

EXPIRED = 10
NOT_YET_VALID = 9
FOREIGN = frozenset({2, 7, 18, 19, 20, 21, 30})
"""X509_V_ERR codes of OpenSSL: unknown issuer, bad signature, self-signed, no chain, key of another CA."""

NO_TLS = frozenset(
    {
        "BAD_RECORD_TYPE",
        "HTTPS_PROXY_REQUEST",
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNEXPECTED_MESSAGE",
        "UNKNOWN_PROTOCOL",
        "WRONG_SSL_VERSION",
        "WRONG_VERSION_NUMBER",
    }
)
"""OpenSSL's reasons for bytes that are not a TLS record."""

NO_TLS_1_3 = frozenset({"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"})
"""OpenSSL's reasons for a ClientHello without a supported TLS version."""

_WE_REFUSED = "This device refused the other side:"
_THEY_REFUSED = "The other side refused this device:"
_ONE_CA = "Both need certificates that one CA issued."
_NO_NODE = "It is not a p2pfl node: check the address and the port."


def explain(
    error: BaseException, credentials: Credentials, *, dialing: bool, now: datetime | None = None
) -> str:
    """Return a sentence about *error*, which occurred on a connection that this device dialled or accepted.

    *now* is the time to show; by default that of this device's clock.
    """
    now = now or datetime.now(UTC)
    match error:
        case P2pflError():
            return str(error)
        case ssl.SSLCertVerificationError():
            return f"{_WE_REFUSED} {_verification(error, credentials, now)}"
        case ssl.SSLError():
            return _tls(error, credentials, now, dialing=dialing)
        case TimeoutError():
            return (
                "The other side did not answer in time: it is unreachable or busy, or it is not a p2pfl node."
            )
        case OSError():
            return _system(error, dialing=dialing)
    return f"The connection failed: {error!s:.200}."


def _verification(error: ssl.SSLCertVerificationError, credentials: Credentials, now: datetime) -> str:
    """Explain why this device refused the certificate of the other side."""
    if error.verify_code in FOREIGN:
        federation = credentials.federation
        return (
            f"its certificate was signed by another CA than that of this device's {federation!r}. {_ONE_CA}"
        )
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        fault = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
        return (
            f"its certificate {fault} by this device's clock, which shows {show_time(now)}. Compare the "
            "clocks of both devices; if they are right, renew it with `p2pfl certs issue NAME --renew`."
        )
    return f"its certificate does not pass ({error.verify_message}). Issue it anew with `p2pfl certs issue`."


def _tls(error: ssl.SSLError, credentials: Credentials, now: datetime, *, dialing: bool) -> str:
    """Explain a TLS error that is not about the certificate of the other side."""
    reason: str = getattr(error, "reason", None) or ""  # absent if Python code raised it
    _, alerted, alert = reason.partition("ALERT_")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or reason.startswith("UNEXPECTED_EOF"):
        return _closed(dialing=dialing)
    if alerted:
        return f"{_THEY_REFUSED} {_alert(alert, credentials, now)}"
    if reason in NO_TLS_1_3:
        return f"{_WE_REFUSED} it does not speak TLS 1.3, the only version used here. {_NO_NODE}"
    if reason in NO_TLS:
        return f"{_WE_REFUSED} it does not speak TLS. {_NO_NODE}"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return f"{_WE_REFUSED} it sent no certificate. {_NO_NODE}"
    return f"The TLS connection failed ({reason.replace('_', ' ').lower() or str(error)[:200]})."


def _alert(alert: str, credentials: Credentials, now: datetime) -> str:
    """Explain why the other side refused this device; *alert* is a name of RFC 8446, section 6.2."""
    own = f"the certificate of {credentials.name}"
    clocks = (
        f"{dates(credentials)}, and this device's clock shows {show_time(now)}. Compare the clocks of both "
        f"devices; if they are right, renew it with `p2pfl certs issue {credentials.name} --renew`."
    )
    match alert:
        case "UNKNOWN_CA" | "DECRYPT_ERROR":
            return f"{own} was signed by another CA, that of {credentials.federation!r} here. {_ONE_CA}"
        case "CERTIFICATE_EXPIRED":
            return f"{own} has expired by the other side's clock; {clocks}"
        case "BAD_CERTIFICATE":  # OpenSSL also sends it for "not valid yet"
            return f"{own} is not valid yet by the other side's clock, or damaged; {clocks}"
        case "CERTIFICATE_REQUIRED":
            return "it requires a certificate and got none."
        case "PROTOCOL_VERSION":
            return f"it does not speak TLS 1.3, the only version used here. {_NO_NODE}"
    return f"it sent the TLS alert {alert.replace('_', ' ').lower()!r}; its log may say more."


def _system(error: OSError, *, dialing: bool) -> str:
    """Explain a network error of the operating system."""
    if isinstance(error, ConnectionRefusedError):
        return "Nothing listens there: start the node, or check the address and the port."
    if isinstance(error, ConnectionError):
        return _closed(dialing=dialing)
    if isinstance(error, socket.gaierror):
        return "The host name is unknown here: check its spelling, or use the IP address."
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
        return "There is no route to that address: check the network of both devices."
    return f"The connection failed: {error.strerror or str(error)[:200]}."


def _closed(*, dialing: bool) -> str:
    """Explain that the connection ended without a stated reason."""
    if dialing:
        return (
            "The other side closed the connection without a reason: it is stopping, or it is not a p2pfl "
            "node."
        )
    return (
        "The other side closed the connection before it identified itself: it gave up, or it is not a p2pfl "
        "node."
    )
