from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from p2pfl.doctor.certificate import check_authority, check_certificate, check_exclusion, check_modes
from p2pfl.identity.exclusions import STATEMENTS_FILE
from p2pfl.identity.revocation import REVOCATIONS_FILE
from p2pfl.identity.signatories import load_signing
from tests.support.federation import make_federation


@pytest.fixture
def ant(tmp_path: Path) -> Path:
    """The folder of a device's certificate."""
    return make_federation(tmp_path / "ca", "ant")["ant"].directory


@pytest.mark.parametrize(
    ("days", "level", "words"), [(31, "ok", "valid until"), (29, "warn", "29 days left")]
)
def test_a_certificate_that_expires_within_a_month_is_pointed_out(
    ant: Path, days: int, level: str, words: str
) -> None:
    credentials, _ = check_certificate(ant, None)
    assert credentials is not None
    now = credentials.not_after - timedelta(days=days)
    _, finding = check_certificate(ant, None, now)
    assert finding.level == level
    assert words in finding.text


@pytest.mark.parametrize(("days", "words"), [(-10, "is not valid yet"), (4000, "has expired")])
def test_a_clock_outside_the_certificate_s_dates_fails_and_is_shown(ant: Path, days: int, words: str) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    credentials, finding = check_certificate(ant, None, now)
    assert credentials is None
    assert finding.level == "FAIL"
    assert words in finding.text
    assert f"clock shows {now:%Y-%m-%d %H:%M:%S} UTC" in finding.text


def test_a_certificate_of_an_observer_lets_nobody_train(tmp_path: Path) -> None:
    owl = make_federation(tmp_path, "owl", role="observer")["owl"]
    _, finding = check_certificate(owl.directory, None)
    assert finding.level == "FAIL"
    assert "--role node" in finding.advice


def test_a_key_that_others_can_read_gets_the_command_that_mends_it(ant: Path) -> None:
    (ant / "node.key").chmod(0o644)
    credentials, finding = check_certificate(ant, None)
    assert (credentials, finding.level) == (None, "FAIL")
    assert "can be read or changed by others (mode 644)" in finding.text
    assert finding.commands == (f"chmod 600 {ant / 'node.key'}",)
    assert check_certificate(ant.parent, "ant")[1].commands == finding.commands


def test_a_key_of_another_certificate_is_told(tmp_path: Path, ant: Path) -> None:
    bee = make_federation(tmp_path / "ca", "bee")["bee"]
    (ant / "node.key").write_bytes(bee.key_path.read_bytes())
    finding = check_certificate(ant, None)[1]
    assert "do not belong together" in finding.text


def test_a_certificate_of_another_ca_than_the_one_beside_it_is_told(tmp_path: Path, ant: Path) -> None:
    fox = make_federation(tmp_path / "other", "fox")["fox"]
    (ant / "ca.crt").write_bytes(fox.authority_path.read_bytes())
    assert "was not signed by the CA in" in check_certificate(ant, None)[1].text


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (-4000, "FAIL", "is not valid yet"),
        (2530, "warn", "expires within a month"),
        (4000, "FAIL", "has expired"),
    ],
)
def test_the_dates_of_the_ca_are_looked_at(ant: Path, days: int, level: str, words: str) -> None:
    credentials, _ = check_certificate(ant, None)
    assert credentials is not None
    assert check_authority(credentials) is None
    finding = check_authority(credentials, datetime.now(UTC) + timedelta(days=days))
    assert finding is not None
    assert finding.level == level
    assert f"the certificate of the CA {words}" in finding.text


def test_a_ca_that_cannot_be_read_is_told(ant: Path) -> None:
    credentials, _ = check_certificate(ant, None)
    assert credentials is not None
    credentials.authority_path.write_text("nothing")
    finding = check_authority(credentials)
    assert finding is not None
    assert "holds no certificate in PEM form" in finding.text


def test_a_folder_that_every_user_can_write_to_is_told(ant: Path) -> None:
    credentials, _ = check_certificate(ant, None)
    assert credentials is not None
    assert check_modes(credentials) is None
    ant.chmod(0o777)
    finding = check_modes(credentials)
    assert finding is not None
    assert f"every user of this device can write to {ant}" in finding.text
    assert finding.commands == (f"chmod o-w {ant}",)


def test_a_banned_or_revoked_device_is_told(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    assert check_exclusion(ant) is None
    signing = load_signing(tmp_path / "ca")
    bans = ant.directory / STATEMENTS_FILE
    bans.write_bytes(msgspec.json.encode([signing.sign("ban", ant.node_id, "ant", reason="it was lost")]))
    finding = check_exclusion(ant)
    assert finding is not None
    assert finding.level == "FAIL"
    assert finding.text.startswith("this device is banned since 20")
    assert finding.text.endswith("by the CA: it was lost")
    bans.write_bytes(b"[")
    finding = check_exclusion(ant)
    assert finding is not None
    assert (finding.level, "cannot be read" in finding.text) == ("warn", True)
    (ant.directory / REVOCATIONS_FILE).write_bytes(b"no list")
    finding = check_exclusion(ant)
    assert finding is not None
    assert (finding.level, finding.commands) == ("FAIL", ())
