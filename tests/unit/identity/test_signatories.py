from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import read_certificate
from p2pfl.identity.keys import node_id_of, read_key
from p2pfl.identity.signatories import Signing, load_signing, verify_statement
from p2pfl.statements import Signed

BEN = "b" * 52


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_authority(tmp_path, "lab")
    issue(tmp_path, "ada")
    issue(tmp_path, "desk", "operator")
    return tmp_path


def verified(folder: Path, statement: Any, federation: str = "lab") -> Signed | None:
    return verify_statement(statement, read_certificate(folder / "ca.crt"), federation)


def test_an_operator_and_the_ca_may_sign(folder: Path) -> None:
    by_desk = verified(folder, load_signing(folder / "desk").sign("ban", BEN, "ben", reason="why"))
    assert by_desk is not None
    assert (by_desk.by.name, by_desk.by.is_authority) == ("desk (operator)", False)
    assert by_desk.sentence == "is banned by desk (operator): why"
    by_ca = verified(folder, load_signing(folder).sign("unban", BEN, "ben"))
    assert by_ca is not None
    assert (by_ca.by.name, by_ca.by.is_authority) == ("the CA", True)
    assert by_ca.by.key == node_id_of(read_certificate(folder / "ca.crt").public_key())


def test_in_the_folder_of_the_ca_a_name_chooses_an_operator(folder: Path) -> None:
    assert load_signing(folder).name == "the CA of lab"
    assert load_signing(folder, "desk").name == "desk (operator)"


def test_a_node_may_not_sign_and_is_told_what_is_needed(folder: Path) -> None:
    with pytest.raises(CredentialsError, match=r"members cannot kick or ban each other.*--role operator"):
        load_signing(folder / "ada")
    certificate = read_certificate(folder / "ada" / "node.crt")
    forged = Signing(read_key(folder / "ada" / "node.key"), certificate, "ada").sign("ban", BEN, "ben")
    assert verified(folder, forged) is None


def test_another_federation_may_not_sign(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    create_authority(other, "lab")
    issue(other, "desk", "operator")
    assert verified(folder, load_signing(other / "desk").sign("ban", BEN, "ben")) is None
    assert verified(folder, load_signing(other).sign("ban", BEN, "ben")) is None
    assert verified(folder, load_signing(folder / "desk").sign("ban", BEN, "ben"), "elsewhere") is None


@pytest.mark.parametrize(
    "change",
    [
        {"what": "unban"},
        {"node": "c" * 52},
        {"name": "eve"},
        {"incarnation": 9},
        {"reason": "another"},
        {"certificate": b"nonsense"},
        {"signature": b"nonsense"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_field_can_be_changed(folder: Path, change: dict[str, Any]) -> None:
    statement = load_signing(folder / "desk").sign("ban", BEN, "ben", reason="why")
    assert verified(folder, statement) is not None
    assert verified(folder, msgspec.structs.replace(statement, **change)) is None


def test_the_certificate_of_an_operator_must_be_valid_at_the_time_of_the_statement(folder: Path) -> None:
    signing = load_signing(folder / "desk")
    far = int((datetime.now(UTC) + timedelta(days=400)).timestamp() * 1000)
    assert verified(folder, signing.sign("ban", BEN, "ben", after=far)) is None
    assert verified(folder, load_signing(folder).sign("ban", BEN, "ben", after=far)) is not None


def test_numbers_are_the_time_and_above_those_that_are_known(folder: Path) -> None:
    signing, now = load_signing(folder / "desk"), datetime.now(UTC).timestamp() * 1000
    first = signing.sign("ban", BEN, "ben")
    assert abs(first.number - now) < 60_000
    assert signing.sign("ban", BEN, "ben", after=first.number + 10**9).number == first.number + 10**9 + 1
