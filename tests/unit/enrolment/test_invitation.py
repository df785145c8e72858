from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from p2pfl.enrolment.invitation import INVITATION_FILE, Invitation, InvitationBook, Seat, open_invitation
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.authority import Authority, create_authority, open_authority
from p2pfl.identity.keys import node_id_of
from tests.support.enrolling import new_wish

NOW = 1_800_000_000.0
ANT, BEE = "a" * 52, "b" * 52


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    create_authority(tmp_path / "ca", "lab", now=datetime.fromtimestamp(NOW, UTC))
    return open_authority(tmp_path / "ca")


def opened(authority: Authority, count: int = 2, now: float = NOW) -> tuple[InvitationBook, bool]:
    """Open an invitation as another process would that ended like a crash."""
    with open_invitation(authority, "node", count, 60.0, now) as found:
        return found


@pytest.mark.parametrize(
    ("invitation", "state"),
    [
        (Invitation("c", "node", 1, NOW + 1), "open"),
        (Invitation("c", "node", 1, NOW), "expired"),
        (Invitation("c", "node", 1, NOW + 1, wrong=4), "open"),
        (Invitation("c", "node", 1, NOW + 1, wrong=5), "tries"),
        (Invitation("c", "node", 1, NOW + 1, seats=(Seat(ANT, "ant"),)), "full"),
        (Invitation("c", "node", 1, NOW, wrong=5, seats=(Seat(ANT, "ant"),)), "tries"),
    ],
)
def test_the_state_says_who_may_join(invitation: Invitation, state: str) -> None:
    assert invitation.state(NOW) == state


def test_it_is_done_when_every_device_has_stored_its_certificate() -> None:
    assert not Invitation("c", "node", 1, NOW).is_done
    assert not Invitation("c", "node", 1, NOW, seats=(Seat(ANT, "ant"),)).is_done
    assert Invitation("c", "node", 1, NOW, seats=(Seat(ANT, "ant", is_stored=True),)).is_done


def test_a_crashed_inviter_goes_on_with_code_tries_and_seats(authority: Authority) -> None:
    book, goes_on = opened(authority)
    book.count_wrong_code()
    book.take_seat(ANT, "ant")
    book.set_port(9010)
    again, goes_on_again = opened(authority, now=NOW + 59)
    assert again.invitation == book.invitation
    assert (goes_on, goes_on_again) == (False, True)
    assert (authority.directory / INVITATION_FILE).stat().st_mode & 0o777 == 0o600


def test_an_expired_ended_or_other_invitation_does_not_go_on(authority: Authority) -> None:
    book, _ = opened(authority)
    assert opened(authority, now=NOW + 60)[1] is False
    assert opened(authority, count=3)[1] is False
    book, _ = opened(authority, count=3)
    for _ in range(5):
        book.count_wrong_code()
    assert opened(authority, count=3)[1] is False
    book, _ = opened(authority, count=3)
    book.end()
    assert not (authority.directory / INVITATION_FILE).exists()
    assert opened(authority, count=3)[1] is False


def test_a_damaged_file_is_as_none(authority: Authority) -> None:
    (authority.directory / INVITATION_FILE).write_bytes(b"{")
    assert opened(authority)[1] is False


def test_two_invitations_of_one_folder_are_refused(authority: Authority) -> None:
    with (
        open_invitation(authority, "node", 1, 60.0, NOW),
        pytest.raises(UserError, match="Another command has an invitation open"),
        open_invitation(authority, "node", 1, 60.0, NOW),
    ):
        pass


def test_wrong_codes_are_on_the_disk_before_they_are_answered(authority: Authority) -> None:
    book, _ = opened(authority)
    assert [book.count_wrong_code() for _ in range(5)] == [4, 3, 2, 1, 0]
    assert b'"wrong":5' in (authority.directory / INVITATION_FILE).read_bytes()


def test_wrong_codes_count_also_on_a_disk_that_refuses(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, _ = opened(authority)

    def refuse(*_: object, **__: object) -> None:
        raise CredentialsError("full")

    monkeypatch.setattr("p2pfl.enrolment.invitation.write_file", refuse)
    with pytest.raises(CredentialsError):
        book.count_wrong_code()
    assert book.invitation.wrong == 1
    with pytest.raises(CredentialsError):
        book.take_seat(ANT, "ant")
    assert book.invitation.seats == (), "a seat is taken on the disk first"


def test_names_are_those_that_nobody_has(authority: Authority) -> None:
    book, _ = opened(authority, count=3)
    assert book.name_for("pi") == "pi"
    (authority.directory / "pi").mkdir()
    assert book.name_for("pi") == "pi-2"
    book.take_seat(ANT, "pi-2")
    assert book.name_for("pi") == "pi-3"
    assert book.name_for("a" * 63) == "a" * 63
    (authority.directory / ("a" * 63)).mkdir()
    assert book.name_for("a" * 63) == "a" * 61 + "-2"


def test_a_seat_is_durable_before_its_certificate_is_signed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, _ = opened(authority)
    request = x509.load_der_x509_csr(new_wish().request)
    node = node_id_of(request.public_key())
    on_disk = []

    def stop(*_: object, **__: object) -> None:
        on_disk.append((authority.directory / INVITATION_FILE).read_text())
        raise CredentialsError("stopped before the signature")

    monkeypatch.setattr("p2pfl.enrolment.invitation.sign_request", stop)
    with pytest.raises(CredentialsError, match="stopped"):
        take_and_sign(book, request, node)
    assert node in on_disk[0]


def take_and_sign(book: InvitationBook, request: x509.CertificateSigningRequest, node: str) -> bytes:
    book.take_seat(node, "ant")
    return book.certificate_for(request, datetime.fromtimestamp(NOW, UTC))


def test_a_certificate_is_signed_once_and_kept_for_the_same_key(authority: Authority) -> None:
    book, _ = opened(authority)
    request = x509.load_der_x509_csr(new_wish().request)
    node = node_id_of(request.public_key())
    der = take_and_sign(book, request, node)
    again, _ = opened(authority)
    assert again.certificate_for(request, datetime.fromtimestamp(NOW + 5, UTC)) == der
    certificate = x509.load_der_x509_certificate(der)
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate == x509.load_pem_x509_certificate(
        (authority.directory / "ant" / "node.crt").read_bytes()
    )
    assert not (authority.directory / "ant" / "node.key").exists()
    again.mark_stored(node)
    again.mark_stored(BEE)
    assert [seat.is_stored for seat in again.invitation.seats] == [True]
