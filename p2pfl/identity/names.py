"""Names, roles, and the one URI that carries both in a certificate.

The CA writes these URIs and every node reads those of strangers, so their grammar stands apart from both: it
is `spiffe://<federation>/<role>/<name>` for a device and `spiffe://<federation>` for the CA itself, as the
SPIFFE standard has it for a trust domain.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from p2pfl.errors import CredentialsError

Role = Literal["node", "operator", "observer"]
"""What a certificate allows: to be a member, to steer a run, or to watch one."""

ROLES: tuple[Role, ...] = get_args(Role)
"""Every role there is."""

DEFAULT_FEDERATION = "p2pfl"
"""The name of a federation whose founder gave it none."""

_SCHEME = "spiffe://"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Safe as a folder, in a URI and on a screen; capitals are left out because some file systems take A and a
for one."""


def check_name(name: str, what: str = "device") -> str:
    """Return *name* if a *what* ("device", "federation") may be called that.

    Raises:
        CredentialsError: it may not; the message says what a name may hold.
    """
    if not _NAME.fullmatch(name):
        raise CredentialsError(
            f"{name!r} cannot be the name of a {what}: use 1 to 63 lower-case letters, digits, dots, "
            "underscores and hyphens, and begin with a letter or a digit."
        )
    return name


def authority_uri(federation: str) -> str:
    """Return the URI in the certificate of a federation's CA."""
    return _SCHEME + federation


def device_uri(federation: str, role: Role, name: str) -> str:
    """Return the URI in the certificate of a device."""
    return f"{_SCHEME}{federation}/{role}/{name}"


def parse_authority_uri(uri: str) -> str | None:
    """Return the federation a CA's URI names; None if it is not such a URI."""
    federation = uri.removeprefix(_SCHEME)
    return federation if uri.startswith(_SCHEME) and _NAME.fullmatch(federation) else None


def parse_device_uri(uri: str) -> tuple[str, Role, str] | None:
    """Return federation, role and name of a device's URI; None if it is not such a URI."""
    parts = uri.removeprefix(_SCHEME).split("/")
    if not uri.startswith(_SCHEME) or len(parts) != 3:
        return None
    federation, role, name = parts
    if role not in ROLES or not _NAME.fullmatch(federation) or not _NAME.fullmatch(name):
        return None
    return federation, role, name
