from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import (
    Authority,
    create_authority,
    issue,
    list_certificates,
    open_authority,
    renew,
)
from p2pfl.identity.credentials import load_credentials, read_certificate
from p2pfl.identity.keys import node_id_of, read_key
from p2pfl.identity.names import Role
from p2pfl.identity.requests import (
    MAX_BYTES,
    accept_answer,
    answer_request,
    fingerprint,
    make_request,
    read_request,
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    create_authority(tmp_path / "ca", "lab")
    return open_authority(tmp_path / "ca")


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


def answer(
    authority: Authority,
    request_path: Path,
    name: str | None = None,
    role: Role | None = None,
    force: bool = False,
) -> Path:
    """Sign the request as `p2pfl certs sign` does; return the file with the answer."""
    request, wished = read_request(request_path)
    path = request_path.parent.parent / "answer.crt"
    path.write_bytes(answer_request(authority, request, name or wished, role, force=force))
    return path


def test_a_device_gets_a_certificate_and_its_key_stays(authority: Authority, device: Path) -> None:
    request_path = make_request(device, "ant")
    key = read_key(device / "ant" / "node.key")
    credentials = accept_answer(answer(authority, request_path), device)
    assert (credentials.name, credentials.role, credentials.federation) == ("ant", "node", "lab")
    assert credentials.node_id == node_id_of(key.public_key())
    assert load_credentials(device / "ant") == credentials
    assert sorted(path.name for path in (device / "ant").iterdir()) == ["ca.crt", "node.crt", "node.key"]
    secret = (device / "ant" / "node.key").read_bytes()
    assert all(secret != path.read_bytes() for path in authority.directory.rglob("*") if path.is_file())


def test_name_and_role_are_the_decision_of_the_ca(authority: Authority, device: Path) -> None:
    credentials = accept_answer(answer(authority, make_request(device, "ant"), "bee", "observer"), device)
    assert (credentials.name, credentials.role, credentials.directory) == ("bee", "observer", device / "ant")
    assert [one.name for one in list_certificates(authority.directory)] == ["bee"]


def test_what_was_signed_is_listed_and_renewed_without_the_key(authority: Authority, device: Path) -> None:
    first = accept_answer(answer(authority, make_request(device, "ant"), role="operator"), device)
    folder = renew(authority.directory, "ant", days=400)
    fresh = read_certificate(folder / "node.crt")
    assert not (folder / "node.key").exists()
    assert node_id_of(fresh.public_key()) == first.node_id
    assert fresh.not_valid_after_utc > first.not_after


def test_a_lost_request_is_made_again_for_the_same_key(device: Path) -> None:
    first, _ = read_request(make_request(device, "ant"))
    second, _ = read_request(make_request(device, "ant"))
    third, _ = read_request(make_request(device, "ant", force=True))
    assert first.public_key() == second.public_key() != third.public_key()


def test_a_device_with_a_certificate_needs_no_request(authority: Authority, device: Path) -> None:
    accept_answer(answer(authority, make_request(device, "ant")), device)
    with pytest.raises(CredentialsError, match="holds a certificate already: ant needs no request"):
        make_request(device, "ant")


def test_a_second_request_of_one_key_keeps_its_role(authority: Authority, device: Path) -> None:
    path = make_request(device, "ant")
    answer(authority, path, role="operator")
    assert accept_answer(answer(authority, path), device).role == "operator"


def test_the_name_of_another_device_needs_force(authority: Authority, device: Path) -> None:
    issue(authority.directory, "ant")
    path = make_request(device, "ant")
    with pytest.raises(CredentialsError, match=r"ant is another device.*--name"):
        answer(authority, path)
    credentials = accept_answer(answer(authority, path, force=True), device)
    assert not (authority.directory / "ant" / "node.key").exists()
    assert list_certificates(authority.directory)[0].node_id == credentials.node_id


def test_an_answer_goes_to_the_key_it_is_for(authority: Authority, device: Path, tmp_path: Path) -> None:
    make_request(device, "bee")
    path = answer(authority, make_request(device, "ant"))
    assert accept_answer(path, device).directory == device / "ant"
    assert accept_answer(path, device / "ant").directory == device / "ant"
    with pytest.raises(CredentialsError, match=r"No key in .*other belongs to the certificate of ant"):
        accept_answer(path, make_request(tmp_path / "other", "ant").parent.parent)
    assert not (tmp_path / "other" / "ant" / "node.crt").exists()


def test_an_answer_of_another_ca_does_not_move_a_device_unless_forced(
    authority: Authority, device: Path, tmp_path: Path
) -> None:
    path = make_request(device, "ant")
    accept_answer(answer(authority, path), device)
    path = make_request(device, "ant", force=True)
    create_authority(tmp_path / "false", "lab")
    false = answer(open_authority(tmp_path / "false"), path)
    with pytest.raises(CredentialsError, match="belongs to another CA than the one of 'lab' that signed"):
        accept_answer(false, device)
    assert accept_answer(false, device, force=True).federation == "lab"


def test_an_answer_that_is_not_whole_is_refused(authority: Authority, device: Path, tmp_path: Path) -> None:
    path = answer(authority, make_request(device, "ant"))
    own, other = path.read_bytes().split(b"-----END CERTIFICATE-----\n")[:2]
    end = b"-----END CERTIFICATE-----\n"
    create_authority(tmp_path / "false", "lab")
    stranger = (tmp_path / "false" / "ca.crt").read_bytes()
    for content, words in [
        (own + end, "must hold 2 certificates, .* but has 1"),
        (other + end + own + end, "was not signed by the CA in that file"),
        (own + end + stranger, "was not signed by the CA in that file"),
        (b"nonsense", "holds no certificates in PEM form"),
        (b"x" * (MAX_BYTES + 1), "has more than 65536 bytes"),
    ]:
        path.write_bytes(content)
        with pytest.raises(CredentialsError, match=words):
            accept_answer(path, device)
    assert not (device / "ant" / "node.crt").exists()


def test_files_that_are_no_requests_are_refused(authority: Authority, device: Path) -> None:
    path = make_request(device, "ant")
    with pytest.raises(CredentialsError, match="cannot be read: No such file"):
        read_request(device / "nothing.csr")
    damaged = bytearray(x509.load_pem_x509_csr(path.read_bytes()).public_bytes(Encoding.DER))
    damaged[-1] ^= 1
    request = x509.load_der_x509_csr(bytes(damaged))
    with pytest.raises(CredentialsError, match="not signed by the key in it"):
        answer_request(authority, request, "ant")
    path.write_bytes(b"nonsense")
    with pytest.raises(CredentialsError, match="holds no signing request"):
        read_request(path)
    assert list_certificates(authority.directory) == []


def test_a_request_with_another_kind_of_key_is_refused(authority: Authority) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ant")])
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    with pytest.raises(CredentialsError, match="key of ant is not ECDSA on P-256"):
        answer_request(authority, request, "ant")


def test_a_name_in_a_request_becomes_no_path(authority: Authority, device: Path) -> None:
    request, _ = read_request(make_request(device, "ant"))
    with pytest.raises(CredentialsError, match="cannot be the name of a device"):
        answer_request(authority, request, "../ant")


def test_an_answer_that_is_out_of_date_is_told(authority: Authority, device: Path) -> None:
    request, _ = read_request(make_request(device, "ant"))
    content = answer_request(authority, request, "ant", days=-0.5)
    (device / "answer.crt").write_bytes(content)
    with pytest.raises(CredentialsError, match="has expired"):
        accept_answer(device / "answer.crt", device)
    assert not (device / "ant" / "node.crt").exists()


def test_both_sides_show_the_same_fingerprint(authority: Authority, device: Path) -> None:
    credentials = accept_answer(answer(authority, make_request(device, "ant")), device)
    shown = fingerprint(read_certificate(credentials.authority_path))
    assert shown == fingerprint(authority.certificate)
    assert len(shown.replace("-", "")) == 24


def test_days_bound_a_certificate(authority: Authority, device: Path) -> None:
    request, _ = read_request(make_request(device, "ant"))
    (device / "answer.crt").write_bytes(answer_request(authority, request, "ant", days=2.5))
    left = accept_answer(device / "answer.crt", device).not_after - datetime.now(UTC)
    assert timedelta(days=2.4) < left <= timedelta(days=2.5)
