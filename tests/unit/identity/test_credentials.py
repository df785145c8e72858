from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import load_credentials, read_credentials
from p2pfl.times import show_time
from tests.support.federation import make_federation


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The CA's folder, with two devices."""
    make_federation(tmp_path / "ca", "ant", "bee")
    return tmp_path / "ca"


def test_a_copied_device_folder_is_all_a_device_needs(ca: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(ca / "ant", folder)
    shutil.rmtree(ca)
    credentials = load_credentials(folder)
    assert (credentials.name, credentials.role, credentials.federation) == ("ant", "node", "lab")
    assert credentials.directory == folder
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "node.crt", "node.key"]


def test_a_name_picks_the_device_in_the_ca_folder(ca: Path) -> None:
    assert load_credentials(ca, "bee").directory == ca / "bee"


def test_the_only_device_in_the_ca_folder_needs_no_name(ca: Path) -> None:
    shutil.rmtree(ca / "bee")
    assert load_credentials(ca).name == "ant"


def test_several_devices_and_no_name_are_listed(ca: Path) -> None:
    with pytest.raises(CredentialsError, match=r"several devices \(ant, bee\): name one with --name"):
        load_credentials(ca)


@pytest.mark.parametrize("name", [None, "cow"])
def test_an_empty_folder_names_the_two_commands(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(
        CredentialsError, match=rf"`p2pfl certs init` .* `p2pfl certs issue {name or 'NAME'}`"
    ):
        load_credentials(tmp_path / "certs", name)


def test_a_device_folder_under_another_name_is_refused(ca: Path) -> None:
    with pytest.raises(CredentialsError, match="was issued to 'ant', not to 'cow'"):
        load_credentials(ca / "ant", "cow")


@pytest.mark.parametrize("missing", ["node.key", "node.crt", "ca.crt"])
def test_a_missing_file_is_named(ca: Path, missing: str) -> None:
    (ca / "ant" / missing).unlink()
    with pytest.raises(CredentialsError, match=f"ant/{missing} is missing"):
        load_credentials(ca / "ant")


@pytest.mark.parametrize("broken", ["node.crt", "ca.crt"])
def test_a_file_that_holds_no_certificate_is_named(ca: Path, broken: str) -> None:
    (ca / "ant" / broken).write_text("nothing")
    with pytest.raises(CredentialsError, match=f"ant/{broken} holds no certificate in PEM form"):
        load_credentials(ca / "ant")


def test_the_key_of_another_device_is_refused(ca: Path) -> None:
    shutil.copy(ca / "bee" / "node.key", ca / "ant" / "node.key")
    with pytest.raises(CredentialsError, match=r"node\.key and .*node\.crt do not belong together"):
        load_credentials(ca / "ant")


def test_the_certificate_of_another_ca_of_the_same_name_is_refused(ca: Path, tmp_path: Path) -> None:
    create_authority(tmp_path / "other", "lab")
    shutil.copy(tmp_path / "other" / "ca.crt", ca / "ant" / "ca.crt")
    with pytest.raises(CredentialsError, match="was not signed by the CA in"):
        load_credentials(ca / "ant")


def test_the_certificate_of_the_ca_is_no_device(ca: Path) -> None:
    shutil.copy(ca / "ca.crt", ca / "ant" / "node.crt")
    shutil.copy(ca / "ca.key", ca / "ant" / "node.key")
    with pytest.raises(CredentialsError, match="is no device's certificate"):
        load_credentials(ca / "ant")


@pytest.mark.skipif(os.name != "posix", reason="needs permission bits")
def test_a_key_that_others_can_read_is_refused(ca: Path) -> None:
    (ca / "ant" / "node.key").chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod 600"):
        load_credentials(ca / "ant")


@pytest.mark.parametrize(
    ("days", "fault"), [(-2, "is not valid yet"), (366, "has expired"), (400, "has expired")]
)
def test_a_certificate_out_of_date_shows_the_clock_and_its_dates(ca: Path, days: int, fault: str) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    with pytest.raises(CredentialsError) as refused:
        load_credentials(ca, "ant", now=now)
    credentials = read_credentials(ca, "ant")
    assert str(refused.value).startswith(f"The certificate of ant {fault}: ")
    for moment in (now, credentials.not_before, credentials.not_after):
        assert show_time(moment) in str(refused.value)
    assert "p2pfl certs issue ant --renew" in str(refused.value)


@pytest.mark.parametrize("hours", [-23, 0, 364 * 24])
def test_a_certificate_is_valid_from_a_day_back_for_a_year(ca: Path, hours: int) -> None:
    assert load_credentials(ca, "ant", now=datetime.now(UTC) + timedelta(hours=hours)).name == "ant"


def test_the_clock_of_the_device_is_the_default(tmp_path: Path) -> None:
    make_federation(tmp_path, "old", now=datetime.now(UTC) - timedelta(days=400))
    with pytest.raises(CredentialsError, match="has expired"):
        load_credentials(tmp_path)


def test_times_are_shown_in_utc() -> None:
    summer = datetime.fromisoformat("2026-07-01T14:30:05+02:00")
    assert show_time(summer) == "2026-07-01 12:30:05 UTC"


def test_issuing_again_does_not_disturb_the_others(ca: Path) -> None:
    before = load_credentials(ca, "bee")
    issue(ca, "ant", force=True)
    assert load_credentials(ca, "bee") == before
