"""Create the keys and certificates of a federation in the folder of a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import Credentials, read_credentials
from p2pfl.identity.names import Role

CA_AGE = timedelta(days=3 * 365)
"""Age of the CA, so that it can have issued certificates that have expired."""


def make_federation(
    path: Path, *names: str, federation: str = "lab", role: Role = "node", now: datetime | None = None
) -> dict[str, Credentials]:
    """Create a CA in *path* and issue a certificate for each of *names*.

    *now* is the time of issue: one to three years ago gives expired certificates, days ahead gives
    certificates that are not valid yet. Another call with the same *path* uses the CA there.
    """
    if not (path / "ca.key").exists():
        create_authority(path, federation, now=datetime.now(UTC) - CA_AGE)
    return {name: read_credentials(issue(path, name, role, now=now)) for name in names}
