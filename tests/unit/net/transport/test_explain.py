from __future__ import annotations

import errno
import os
import socket
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest

from p2pfl.errors import HandshakeRefused
from p2pfl.identity.credentials import Credentials
from p2pfl.net.transport.explain import explain
from tests.support.federation import make_federation

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def ant(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return make_federation(tmp_path_factory.mktemp("lab"), "ant")["ant"]


def tls_error(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    """Return the error that `ssl` raises for one of OpenSSL's reasons."""
    error = kind(1, f"[SSL: {reason}] {reason.lower().replace('_', ' ')} (_ssl.c:1006)")
    error.reason = reason
    return error


def test_our_own_errors_explain_themselves(ant: Credentials) -> None:
    assert explain(HandshakeRefused("This is why."), ant, dialing=True) == "This is why."


@pytest.mark.parametrize("code", [2, 7, 18, 19, 20, 21, 30])
def test_every_error_code_of_another_ca_is_explained_as_that(ant: Credentials, code: int) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    assert "signed by another CA than that of this device's 'lab'" in explain(error, ant, dialing=True)


@pytest.mark.parametrize(("code", "fault"), [(9, "is not valid yet"), (10, "has expired")])
def test_this_devices_clock_is_shown_for_date_errors(ant: Credentials, code: int, fault: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    assert f"{fault} by this device's clock, which shows 2031-05-06 07:08:09 UTC" in explain(
        error, ant, dialing=False, now=NOW
    )


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "was signed by another CA"),
        ("TLSV1_ALERT_DECRYPT_ERROR", "was signed by another CA"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "ant has expired by the other side's clock"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "ant is not valid yet by the other side's clock, or damaged"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "got none"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "does not speak TLS 1.3"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "the TLS alert 'handshake failure'"),
    ],
)
def test_an_alert_is_explained_as_the_other_sides_refusal(ant: Credentials, reason: str, said: str) -> None:
    sentence = explain(tls_error(reason), ant, dialing=True, now=NOW)
    assert sentence.startswith("The other side refused this device: ")
    assert said in sentence


@pytest.mark.parametrize("reason", ["SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_BAD_CERTIFICATE"])
def test_the_refused_side_shows_its_dates_its_clock_and_the_remedy(ant: Credentials, reason: str) -> None:
    sentence = explain(tls_error(reason), ant, dialing=True, now=NOW)
    assert (
        f"valid from {ant.not_before:%Y-%m-%d %H:%M:%S} UTC to {ant.not_after:%Y-%m-%d %H:%M:%S} UTC"
        in sentence
    )
    assert "this device's clock shows 2031-05-06 07:08:09 UTC" in sentence
    assert "p2pfl certs issue ant --renew" in sentence


@pytest.mark.parametrize("reason", ["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"])
def test_bytes_that_are_not_tls_are_explained_as_that(ant: Credentials, reason: str) -> None:
    assert "it does not speak TLS." in explain(tls_error(reason), ant, dialing=False)


def test_an_unknown_reason_is_passed_on_in_readable_form(ant: Credentials) -> None:
    assert (
        explain(tls_error("SOME_NEW_FAULT"), ant, dialing=True)
        == "The TLS connection failed (some new fault)."
    )


def test_a_tls_error_without_a_reason_is_passed_on_shortened(ant: Credentials) -> None:
    sentence = explain(ssl.SSLError(1, "x" * 5000), ant, dialing=True)
    assert sentence.startswith("The TLS connection failed (")
    assert len(sentence) < 300


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        tls_error("UNEXPECTED_EOF_WHILE_READING"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    ],
)
def test_an_end_without_a_reason_depends_on_which_side_dialled(ant: Credentials, error: Any) -> None:
    assert explain(error, ant, dialing=True).startswith(
        "The other side closed the connection without a reason"
    )
    assert explain(error, ant, dialing=False).startswith(
        "The other side closed the connection before it identified"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Nothing listens there"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "The host name is unknown"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "There is no route to that address"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "There is no route to that address"),
        (TimeoutError(), "did not answer in time"),
        (OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), "did not answer in time"),
        (OSError(errno.EMFILE, "Too many open files"), "The connection failed: Too many open files."),
        (OSError("Multiple exceptions: x, y"), "The connection failed: Multiple exceptions: x, y."),
        (ValueError("odd"), "The connection failed: odd."),
    ],
)
def test_errors_of_the_system_are_explained_with_advice(ant: Credentials, error: Any, said: str) -> None:
    assert said in explain(error, ant, dialing=True)
