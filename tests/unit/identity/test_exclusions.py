from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import Credentials, load_credentials
from p2pfl.identity.exclusions import STATEMENTS_FILE, Exclusions
from p2pfl.identity.revocation import REVOCATIONS_FILE, revoke
from p2pfl.identity.signatories import load_signing
from p2pfl.statements import REVOKED, Statement, What


@pytest.fixture
def ada(tmp_path: Path) -> Credentials:
    create_authority(tmp_path, "lab")
    for name in ("ada", "ben"):
        issue(tmp_path, name)
    issue(tmp_path, "desk", "operator")
    return load_credentials(tmp_path, "ada")


def ben(ada: Credentials) -> str:
    return load_credentials(ada.directory.parent, "ben").node_id


def signed(ada: Credentials, what: What = "ban", by: str | None = "desk", after: int = 0) -> Statement:
    return load_signing(ada.directory.parent, by).sign(what, ben(ada), "ben", after=after, reason="why")


def test_a_ban_is_remembered_in_the_folder_of_the_device(ada: Credentials) -> None:
    known = Exclusions(ada)
    taken, flaw = known.take(signed(ada))
    assert (taken is not None, flaw) == (True, "")
    known.save()
    assert Exclusions(ada).excluded() == {ben(ada): "is banned by desk (operator): why"}
    assert Exclusions(ada).reason(ben(ada)) == "is banned by desk (operator): why"
    assert stat.S_IMODE((ada.directory / STATEMENTS_FILE).stat().st_mode) == 0o600


def test_a_known_statement_is_no_news_and_a_forged_one_says_why(ada: Credentials) -> None:
    known, statement = Exclusions(ada), signed(ada)
    assert known.take(statement)[0] is not None
    assert known.take(statement) == (None, "")
    forged = Statement(*["ban", ben(ada), "ben", 5, 0, "", b"x", b"y"])  # type: ignore[arg-type]
    assert known.take(forged) == (None, "neither an operator nor the CA of this federation has signed it")


def test_what_a_revoked_operator_said_does_not_count(ada: Credentials) -> None:
    known = Exclusions(ada)
    known.take(signed(ada))
    _, listed = revoke(ada.directory.parent, "desk")
    assert known.take_revocations(listed.der) == (True, "")
    assert ben(ada) not in known.excluded()
    again = signed(ada, after=known.book.number_of(ben(ada)))
    assert known.take(again)[1] == "the certificate of desk (operator), who signed it, was revoked"
    assert known.take(signed(ada, by=None))[0] is not None, "the CA goes on"


def test_a_revoked_key_is_kept_out_and_an_old_list_changes_nothing(ada: Credentials) -> None:
    known = Exclusions(ada)
    _, first = revoke(ada.directory.parent, "desk")
    _, second = revoke(ada.directory.parent, "ben")
    assert known.take_revocations(second.der) == (True, "")
    assert known.take_revocations(second.der) == (False, "")
    assert known.take_revocations(first.der) == (False, ""), "replayed"
    assert known.reason(ben(ada)) == REVOKED
    assert known.excluded()[ben(ada)] == REVOKED
    assert known.take_revocations(b"nonsense")[1] == "it is no revocation list with a number"
    (ada.directory / REVOCATIONS_FILE).unlink()
    known.save()
    assert Exclusions(ada).reason(ben(ada)) == REVOKED


def test_files_that_a_person_copies_are_news(ada: Credentials) -> None:
    known, other = Exclusions(ada), Exclusions(ada)
    other.take(signed(ada))
    other.save()
    news, is_newer = known.read()
    assert ([one.statement.what for one in news], is_newer) == (["ban"], False)
    revoke(ada.directory.parent, "ben")
    assert known.read() == ([], True)


def test_damaged_bans_are_ignored_with_a_remark_and_a_damaged_list_is_an_error(ada: Credentials) -> None:
    (ada.directory / STATEMENTS_FILE).write_text("[1]")
    known = Exclusions(ada)
    assert "cannot be read and are ignored" in known.remark
    assert known.excluded() == {}
    (ada.directory / STATEMENTS_FILE).write_bytes(bytes(9 * 2**20))
    assert "too long" in Exclusions(ada).remark
    (ada.directory / REVOCATIONS_FILE).write_text("nonsense")
    with pytest.raises(CredentialsError, match="cannot be used"):
        Exclusions(ada)


def test_nothing_known_writes_nothing(ada: Credentials) -> None:
    Exclusions(ada).save()
    assert not (ada.directory / STATEMENTS_FILE).exists()
    assert not (ada.directory / REVOCATIONS_FILE).exists()


def test_a_damaged_list_on_disk_is_replaced(ada: Credentials) -> None:
    known = Exclusions(ada)
    known.take_revocations(revoke(ada.directory.parent, "ben")[1].der)
    (ada.directory / REVOCATIONS_FILE).write_text("nonsense")
    known.save()
    assert Exclusions(ada).reason(ben(ada)) == REVOKED
