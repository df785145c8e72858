"""Names, roles, and the URI in a certificate that carries both.

The CA writes these URIs, and every node reads those of others, so their grammar is a module of its own. It is
`spiffe://<federation>/<role>/<name>` for a device and `spiffe://<federation>` for the CA, as the SPIFFE
standard defines it for a trust domain.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from p2pfl.errors import CredentialsError

Role = Literal["node", "operator", "observer"]
"""What a certificate permits: to be a member of runs, to control a run, or to observe one."""

ROLES: tuple[Role, ...] = get_args(Role)
"""All roles."""

DEFAULT_FEDERATION = "p2pfl"
"""Name of a federation that was created without a name."""

_SCHEME = "spiffe://"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Safe as a folder, in a URI and on a screen. There are no capitals, because some file systems ignore
case."""


def check_name(name: str, what: str = "device") -> str:
    """Return *name* if it is a valid name of a *what* ("device", "federation").

    Raises:
        CredentialsError: it is not; the message says what a name may contain.
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
    """Return the federation in a CA's URI; None if it is no such URI."""
    federation = uri.removeprefix(_SCHEME)
    return federation if uri.startswith(_SCHEME) and _NAME.fullmatch(federation) else None


def parse_device_uri(uri: str) -> tuple[str, Role, str] | None:
    """Return federation, role and name in a device's URI; None if it is no such URI."""
    parts = uri.removeprefix(_SCHEME).split("/")
    if not uri.startswith(_SCHEME) or len(parts) != 3:
        return None
    federation, role, name = parts
    if role not in ROLES or not _NAME.fullmatch(federation) or not _NAME.fullmatch(name):
        return None
    return federation, role, name
