"""Checks this device's certificate: chain, key, role, dates against the clock, and who can read the key."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from p2pfl.doctor.finding import NOBODY_TRAINS, Finding
from p2pfl.errors import CredentialsError, P2pflError
from p2pfl.identity.credentials import KEY_FILE, Credentials, load_credentials, read_certificate
from p2pfl.identity.exclusions import Exclusions
from p2pfl.identity.keys import short
from p2pfl.paths import full, quoted
from p2pfl.text import one_line
from p2pfl.times import show_time

SOON = timedelta(days=30)
"""A certificate that expires within this time is reported: a month to visit every device."""


def check_certificate(
    directory: Path, name: str | None, now: datetime | None = None
) -> tuple[Credentials | None, Finding]:
    """Check this device's certificate, its dates against the clock (*now*, unless given)."""
    now = now or datetime.now(UTC)
    try:
        full(directory)  # a node tells observers where its certificate lies
        credentials = load_credentials(directory, name, now=now)
    except P2pflError as error:
        return None, Finding("FAIL", str(error), commands=tuple(_repairs(directory, name)))
    who = (
        f"{credentials.name} ({short(credentials.node_id)}), {credentials.role} of {credentials.federation!r}"
    )
    left = credentials.not_after - now
    until = f"certificate valid until {show_time(credentials.not_after)}; the clock shows {show_time(now)}"
    renew = f"p2pfl certs issue {quoted(credentials.name)} --renew"
    if credentials.role != "node":
        return credentials, Finding(
            "FAIL",
            f"{who}: {NOBODY_TRAINS}",
            "issue one with `p2pfl certs issue NAME --role node` where the CA's key is",
            ("# where the CA's key is, with a name for this device:", "p2pfl certs issue NAME --role node"),
        )
    if left < SOON:
        return credentials, Finding(
            "warn",
            f"{who}: {until}: {left.days} days left",
            f"renew it with `{renew}` where the CA's key is, and copy node.crt to this device",
            ("# where the CA's key is:", renew),
        )
    return credentials, Finding("ok", f"{who}: {until}")


def check_authority(credentials: Credentials, now: datetime | None = None) -> Finding | None:
    """Check the dates of the CA's certificate, on which all others rest; None if nothing is to be said."""
    now = now or datetime.now(UTC)
    try:
        authority = read_certificate(credentials.authority_path)
    except CredentialsError as error:
        return Finding("FAIL", str(error))
    begin, end = authority.not_valid_before_utc, authority.not_valid_after_utc
    if begin <= now <= end - SOON:
        return None
    fault = "is not valid yet" if now < begin else "has expired" if now > end else "expires within a month"
    return Finding(
        "warn" if begin <= now <= end else "FAIL",
        f"the certificate of the CA {fault}: it is valid from {show_time(begin)} to {show_time(end)}, and "
        f"this device's clock shows {show_time(now)}",
        "compare the clocks of the devices; if they are right, make a new CA with `p2pfl certs init "
        "--force`, and a new certificate for every device",
    )


def check_modes(credentials: Credentials) -> Finding | None:
    """Check that nobody else can replace the key or the CA's certificate; None if nobody can."""
    if os.name != "posix":
        return None
    places = (credentials.directory, credentials.authority_path, credentials.certificate_path)
    open_ones = [path for path in places if path.stat().st_mode & stat.S_IWOTH]
    if not open_ones:
        return None
    named = ", ".join(map(str, open_ones))
    return Finding(
        "warn",
        f"every user of this device can write to {named}, and so replace this device's identity or its CA",
        "take the right to write away from others",
        tuple(f"chmod o-w {quoted(path)}" for path in open_ones),
    )


def check_exclusion(credentials: Credentials) -> Finding | None:
    """Check whether this device is banned or revoked, as far as it knows; None if it is not."""
    try:
        exclusions = Exclusions(credentials)
    except CredentialsError as error:
        return Finding("FAIL", str(error))
    why = one_line(exclusions.describe(credentials.node_id), 300)
    if why:
        return Finding(
            "FAIL",
            f"this device {why}",
            "the others refuse it, unless that was lifted since: ask who did it, or who has the CA's key",
        )
    return Finding("warn", exclusions.remark) if exclusions.remark else None


def _repairs(directory: Path, name: str | None) -> Iterator[str]:
    """Yield commands for a certificate that cannot be used: those that a look at its folder suggests."""
    for folder in (directory, directory / (name or "")):
        key = folder / KEY_FILE
        try:
            mode = stat.S_IMODE(key.stat().st_mode)
        except OSError:
            continue
        if os.name == "posix" and mode & 0o077:
            yield f"chmod 600 {quoted(key)}"
            return
