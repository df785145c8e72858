"""A device's credentials: the folder that `p2pfl certs issue` wrote, read and checked.

Every fault in it is found here, before a socket is opened, and reported with the command that repairs it. A
handshake that fails later would show the same fault only as an obscure error on two machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256

from p2pfl.errors import CredentialsError
from p2pfl.identity.keys import node_id_of, read_key
from p2pfl.identity.names import Role, parse_device_uri
from p2pfl.identity.peer import certificate_uris
from p2pfl.paths import folders_in, holds_file, is_there, obstacle, quoted, shown
from p2pfl.times import show_time

KEY_FILE = "node.key"
CERTIFICATE_FILE = "node.crt"
AUTHORITY_FILE = "ca.crt"
"""The CA's certificate, under the same name in the CA's folder and in each device's."""


@dataclass(frozen=True)
class Credentials:
    """A device's key and certificate, checked against each other and against the CA's certificate."""

    directory: Path
    key_path: Path
    certificate_path: Path
    authority_path: Path
    node_id: str
    name: str
    role: Role
    federation: str
    not_before: datetime
    not_after: datetime
    """Both in UTC, from the certificate."""


def load_credentials(directory: Path, name: str | None = None, *, now: datetime | None = None) -> Credentials:
    """Read the credentials in *directory*, valid at *now* (by default this device's clock).

    *directory* is a device's folder, or the CA's folder. There *name* selects the device; without a name
    there must be only one.

    Raises:
        CredentialsError: something is missing, readable by others, does not fit together, or is out of date.
    """
    credentials = read_credentials(directory, name)
    check_dates(credentials, now or datetime.now(UTC))
    return credentials


def read_credentials(directory: Path, name: str | None = None) -> Credentials:
    """Read the credentials in *directory* like `load_credentials`, without a check of the dates.

    Raises:
        CredentialsError: something is missing, readable by others, or does not fit together.
    """
    folder = _device_folder(directory, name)
    certificate_path, authority_path, key_path = (
        folder / f for f in (CERTIFICATE_FILE, AUTHORITY_FILE, KEY_FILE)
    )
    for path in (certificate_path, authority_path, key_path):
        if not holds_file(path):
            raise CredentialsError(
                f"{path} is missing: {folder} must hold {KEY_FILE}, {CERTIFICATE_FILE} and {AUTHORITY_FILE}. "
                "Copy the folder that `p2pfl certs issue NAME` wrote, whole."
            )
    certificate, authority = read_certificate(certificate_path), read_certificate(authority_path)
    if certificate.public_key() != read_key(key_path).public_key():
        raise CredentialsError(
            f"{key_path} and {certificate_path} do not belong together. Copy the folder that "
            "`p2pfl certs issue NAME` wrote, whole."
        )
    check_signed(certificate, authority, str(certificate_path), f"the CA in {authority_path}")
    federation, role, device = certificate_identity(certificate, certificate_path)
    if name is not None and device != name:
        raise CredentialsError(
            f"{certificate_path} was issued to {device!r}, not to {name!r}. Give --certs this device's own "
            "folder."
        )
    return Credentials(
        directory=folder,
        key_path=key_path,
        certificate_path=certificate_path,
        authority_path=authority_path,
        node_id=node_id_of(certificate.public_key()),
        name=device,
        role=role,
        federation=federation,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def check_dates(credentials: Credentials, now: datetime) -> None:
    """Refuse credentials that are not valid at *now*, this device's clock.

    Raises:
        CredentialsError: they are expired or not valid yet; the message shows the clock and the dates.
    """
    if credentials.not_before <= now <= credentials.not_after:
        return
    fault = "has expired" if now > credentials.not_after else "is not valid yet"
    raise CredentialsError(
        f"The certificate of {credentials.name} {fault}: {dates(credentials)}, and this device's clock shows "
        f"{show_time(now)}. Set the clock right, or renew it with `p2pfl certs issue {credentials.name} "
        "--renew` where the CA's key is."
    )


def check_is_node(credentials: Credentials) -> None:
    """Refuse credentials that no other node would ever link.

    Raises:
        CredentialsError: their role is not `node`; the message says what to do.
    """
    if credentials.role == "node":
        return
    raise CredentialsError(
        f"The certificate of {credentials.name} in {credentials.directory} has the role {credentials.role}: "
        "it lets a person watch or command, and no node links with it. Issue one for this device with "
        "`p2pfl certs issue NAME` on the CA's machine, and give its folder with --certs."
    )


def dates(credentials: Credentials) -> str:
    """Return a certificate's dates as part of a sentence."""
    return f"it is valid from {show_time(credentials.not_before)} to {show_time(credentials.not_after)}"


def read_certificate(path: Path) -> x509.Certificate:
    """Read one certificate in PEM form.

    Raises:
        CredentialsError: the file cannot be read or holds none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CredentialsError(f"The certificate {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CredentialsError(f"{path} holds no certificate in PEM form; issue it again.") from error


def check_signed(
    certificate: x509.Certificate,
    authority: x509.Certificate,
    what: str = "The certificate",
    by: str = "this CA",
) -> None:
    """Refuse a *certificate* that the CA with the certificate *authority* did not sign.

    Raises:
        CredentialsError: it did not; the message calls them *what* and *by*.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CredentialsError(
            f"{what} was not signed by {by}. Copy the folder that `p2pfl certs issue NAME` wrote, whole; "
            "after a new `p2pfl certs init` every device needs a new one."
        ) from error


def federation_fingerprint(credentials: Credentials) -> str:
    """Return the SHA-256 of the CA's certificate in DER form, in hexadecimal: the same on all devices.

    Raises:
        CredentialsError: the file cannot be read any more.
    """
    return read_certificate(credentials.authority_path).fingerprint(SHA256()).hex()


def certificate_identity(certificate: x509.Certificate, path: Path) -> tuple[str, Role, str]:
    """Return federation, role and name of a device's certificate, read from *path*.

    Raises:
        CredentialsError: it does not carry exactly one URI with them.
    """
    uris = certificate_uris(certificate)
    identity = parse_device_uri(uris[0]) if len(uris) == 1 else None
    if identity is None:
        raise CredentialsError(
            f"{path} is no device's certificate of a federation: issue one with `p2pfl certs issue NAME`."
        )
    return identity


def issued_folders(directory: Path) -> list[Path]:
    """Return the devices' folders in the CA's folder *directory*, in alphabetical order."""
    return [entry for entry in folders_in(directory) if holds_file(entry / CERTIFICATE_FILE)]


def _device_folder(directory: Path, name: str | None) -> Path:
    """Find the device's folder: *directory* itself, or the one in it that *name* selects."""
    if why := obstacle(directory):
        raise CredentialsError(f"The folder {shown(directory)} cannot be used: {why}.")
    if is_there(directory / CERTIFICATE_FILE) or is_there(directory / KEY_FILE):
        return directory
    issued = issued_folders(directory)
    if name is not None:
        issued = [folder for folder in issued if folder.name == name]
    else:
        # The CA's folder also has the certificates of devices whose keys were born elsewhere.
        issued = [folder for folder in issued if holds_file(folder / KEY_FILE)] or issued
    if len(issued) == 1:
        return issued[0]
    if issued:
        names = ", ".join(folder.name for folder in issued)
        raise CredentialsError(
            f"{directory} holds the certificates of several devices ({names}): name one with --name, or give "
            f"its folder, as in `--certs {quoted(issued[0])}`."
        )
    whose = f"certificate for {name!r}" if name else "certificate"
    called = quoted(name) if name else "NAME"
    raise CredentialsError(
        f"There is no {whose} in {directory}. On the machine that keeps the CA run `p2pfl certs init` (once) "
        f"and `p2pfl certs issue {called}`, then copy the folder it names to this device and give it "
        "with --certs."
    )
