from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from p2pfl.cli import doctor as checks
from p2pfl.cli.doctor import doctor
from p2pfl.learning.data import DataPlaces
from p2pfl.net.transport.addresses import parse_address
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from tests.support.federation import make_federation
from tests.support.images import write_images
from tests.support.meshes import lab
from tests.support.records import node

app = Typer(rich_markup_mode=None)
app.command()(doctor)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


@pytest.fixture
def ant(tmp_path: Path) -> Path:
    """The folder of a device's certificate."""
    return make_federation(tmp_path / "ca", "ant")["ant"].directory


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_device_where_all_is_well_gets_a_line_a_finding_and_exit_code_0(tmp_path: Path, ant: Path) -> None:
    result = run("--certs", str(ant), "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    lines = result.output.splitlines()
    assert [line[:6] for line in lines[:-1]] == ["✓ ok  "] * 6
    assert lines[-1] == "A node can run here."
    assert result.exit_code == 0
    assert not (tmp_path / "data").exists()


def test_what_stands_in_the_way_is_counted_and_gives_exit_code_1(tmp_path: Path, taken: int) -> None:
    result = run(
        "--certs",
        str(tmp_path),
        "--listen",
        f"127.0.0.1:{taken}",
        "--task",
        "chess",
        "--peers",
        "127.0.0.1:1",
    )
    assert [line.split()[1] for line in result.output.splitlines()[:7]] == [
        "ok",
        "FAIL",
        "FAIL",
        "warn",
        "FAIL",
        "ok",
        "warn",
    ]
    assert "There is no certificate" in result.output
    assert "another program does already" in result.output
    assert "the tasks are: digits" in result.output
    assert "3 of these to solve (✗)" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("days", "level", "words"), [(31, "ok", "valid until"), (29, "warn", "29 days left")]
)
def test_a_certificate_that_expires_within_a_month_is_pointed_out(
    ant: Path, days: int, level: str, words: str
) -> None:
    credentials, _ = checks.check_certificate(ant, None)
    assert credentials is not None
    now = credentials.not_after - timedelta(days=days)
    _, finding = checks.check_certificate(ant, None, now)
    assert finding.level == level
    assert words in finding.text


@pytest.mark.parametrize(("days", "words"), [(-10, "is not valid yet"), (4000, "has expired")])
def test_a_clock_outside_the_certificate_s_dates_fails_and_is_shown(ant: Path, days: int, words: str) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    credentials, finding = checks.check_certificate(ant, None, now)
    assert credentials is None
    assert finding.level == "FAIL"
    assert words in finding.text
    assert f"clock shows {now:%Y-%m-%d %H:%M:%S} UTC" in finding.text


def test_a_certificate_of_an_observer_lets_nobody_train(tmp_path: Path) -> None:
    owl = make_federation(tmp_path, "owl", role="observer")["owl"]
    _, finding = checks.check_certificate(owl.directory, None)
    assert finding.level == "FAIL"
    assert "--role node" in finding.text


async def test_a_port_that_this_device_s_node_has_is_fine(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    async with lab(tmp_path) as opened:
        running = await opened.start(ant)
        finding, is_running = await checks.check_port("127.0.0.1", running.mesh.port, ant)
    assert (finding.level, is_running) == ("ok", True)
    assert "is running and answers" in finding.text


async def test_a_port_that_another_node_has_is_not_fine(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    async with lab(tmp_path) as opened:
        running = await opened.start(federation["bee"])
        finding, is_running = await checks.check_port("127.0.0.1", running.mesh.port, federation["ant"])
    assert (finding.level, is_running) == ("FAIL", False)
    assert "--listen" in finding.text


async def test_a_port_that_a_silent_program_has_is_not_fine_either(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        hang_up = threading.Thread(target=lambda: server.accept()[0].close())
        hang_up.start()
        finding, is_running = await checks.check_port("127.0.0.1", server.getsockname()[1], ant)
        hang_up.join()
    assert (finding.level, is_running) == ("FAIL", False)


async def test_peers_are_named_and_refusals_explained(tmp_path: Path, taken: int) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    foreign = make_federation(tmp_path / "other", "fox")["fox"]
    async with lab(tmp_path) as opened:
        bee = await opened.start(federation["bee"])
        fox = await opened.start(foreign)
        ant = federation["ant"]
        reached = await checks.check_peer(parse_address(bee.address), ant)
        own = parse_address(bee.address)
        oneself = await checks.check_peer(own, federation["bee"], own_port=own.port)
        mixed_up = await checks.check_peer(own, federation["bee"], own_port=own.port + 1)
        double = await checks.check_peer(parse_address(bee.address), federation["bee"])
        refused = await checks.check_peer(parse_address(fox.address), ant)
    away = await checks.check_peer(parse_address(bee.address), ant)
    assert reached.level == "ok"
    assert f"is bee ({bee.id[:7]})" in reached.text
    assert (oneself.level, oneself.text) == ("ok", f"{bee.address} is this device itself")
    assert mixed_up.level == "warn"
    assert (
        f"{bee.address} answers with this device's certificate (bee), and this device does not"
        in mixed_up.text
    )
    assert double.level == "FAIL"
    assert f"{bee.address} is a node that runs with this device's certificate (bee)" in double.text
    assert refused.level == "FAIL"
    assert "signed by another CA" in refused.text
    assert away.level == "FAIL"
    assert "nothing listens there" in away.text


def test_a_data_directory_of_a_running_node_is_in_use(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")):
        other = checks.check_disk(tmp_path)
        own = checks.check_disk(tmp_path, is_running=True)
    assert other.level == "FAIL"
    assert "in use by process" in other.text
    assert own.level == "ok"
    assert "in use by this device's node" in own.text
    assert "ready" in checks.check_disk(tmp_path).text


def test_a_journal_that_was_found_to_be_a_copy_is_told(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")) as journal:
        journal.refuse("it is a copy. Start with --new-journal")
    finding = checks.check_disk(tmp_path)
    assert finding.level == "FAIL"
    assert "it is a copy. Start with --new-journal" in finding.text


def test_a_damaged_journal_is_found(tmp_path: Path) -> None:
    DataDirectory(tmp_path).journal_path.write_bytes(b"no database, but long enough to be looked at" * 100)
    finding = checks.check_disk(tmp_path)
    assert finding.level == "FAIL"
    assert "is damaged" in finding.text


@pytest.mark.parametrize(("free", "level"), [(10**6, "FAIL"), (10**9, "warn"), (10**10, "ok")])
def test_the_free_space_is_judged(tmp_path: Path, free: int, level: str) -> None:
    assert checks.check_disk(tmp_path / "new", free=free).level == level


def test_a_folder_that_may_not_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.store.directory.obstacle", lambda path: "this user may not look into it")
    finding = checks.check_disk(tmp_path / "data")
    assert finding.level == "FAIL"
    assert "cannot be used: this user may not look into it; choose another --data-dir" in finding.text


def test_a_path_that_the_node_would_refuse_is_refused_here_too(tmp_path: Path) -> None:
    finding = checks.check_disk(tmp_path / ("a" * 240) / ("b" * 240))
    assert finding.level == "FAIL"
    assert "too long" in finding.text


def test_without_a_home_folder_the_data_directory_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(tmp_path, "ant")
    monkeypatch.setattr("p2pfl.store.directory.user_data", lambda name: None)
    words = ["--certs", str(federation["ant"].directory), "--listen", "127.0.0.1:0"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "FAIL  this user has no home folder" in result.output
    assert "A node can run here" not in result.output


def test_a_path_through_a_file_is_no_place_for_data(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = checks.check_disk(tmp_path / "file" / "data")
    assert finding.level == "FAIL"
    assert "choose another --data-dir" in finding.text


def test_a_missing_package_is_named() -> None:
    finding = checks.check_software(["torch", "no-such-package"])
    assert finding.level == "FAIL"
    assert "not installed: no-such-package" in finding.text


def test_the_task_s_data_are_looked_for_and_their_folder_is_named(tmp_path: Path) -> None:
    missing = checks.check_task("fashion-mnist", DataPlaces(tmp_path))
    assert missing.level == "FAIL"
    assert f"Looked for train-images-idx3-ubyte and others in {tmp_path}/FashionMNIST/raw" in missing.text
    write_images(tmp_path / "FashionMNIST" / "raw", 10, 10, side=1)
    found = checks.check_task("fashion-mnist", DataPlaces(tmp_path))
    assert found.level == "ok"
    assert f"in {tmp_path}/FashionMNIST/raw" in found.text


def test_it_is_told_of_which_tasks_data_are_here(tmp_path: Path) -> None:
    write_images(tmp_path / "MNIST" / "raw", 10, 10, side=1)
    finding = checks.survey_data(DataPlaces(tmp_path))
    assert finding.level == "ok"
    assert finding.text == (
        "data here: digits, mnist; not here: fashion-mnist, cifar10 (a node gets them with --download)"
    )


def test_the_data_root_is_an_option(tmp_path: Path, ant: Path) -> None:
    words = ("--certs", str(ant), "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    result = run(*words, "--task", "mnist", "--data-root", str(tmp_path))
    assert f"{tmp_path}/MNIST/raw" in result.output
    assert result.exit_code == 1
