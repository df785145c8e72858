"""Which node is meant: by its data directory, its name, its address, or because there is only one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import CredentialsError, UserError
from p2pfl.net.transport.addresses import Address
from p2pfl.observe import target as module
from p2pfl.observe.target import find_data_dir, find_target
from p2pfl.runtime.observing.endpoint import Endpoint
from tests.support.federation import make_federation


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nodes of this user keep their data unless told otherwise."""
    monkeypatch.setattr(module, "default_place", lambda: tmp_path / "place")
    monkeypatch.setattr(module, "default_data_dir", lambda name: tmp_path / "place" / name)
    return tmp_path / "place"


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """A process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def run(folder: Path, certs: Path, *addresses: str, pid: int | None = None) -> Path:
    """Leave in *folder* what a running node does."""
    folder.mkdir(parents=True)
    there = addresses or ("127.0.0.1:5",)
    endpoint = Endpoint(folder.name, "n" * 52, os.getpid() if pid is None else pid, there, str(certs), "t")
    (folder / "observe.json").write_bytes(msgspec.json.encode(endpoint))
    return folder


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return make_federation(tmp_path / "ca", "ada")["ada"].directory


def test_a_data_directory_leads_to_its_node(tmp_path: Path, certs: Path) -> None:
    folder = run(tmp_path / "ada", certs, "0.0.0.0:5", "[::]:6", "10.0.0.1:7")
    target = find_target(data_dir=folder)
    assert target.addresses == (Address("127.0.0.1", 5), Address("::1", 6), Address("10.0.0.1", 7))
    assert (target.token, target.node, target.data_dir) == ("t", "n" * 52, folder)
    assert target.credentials.name == "ada"
    assert target.text == "127.0.0.1:5"


def test_a_name_leads_to_the_usual_data_directory(place: Path, certs: Path) -> None:
    run(place / "ben", certs)
    folder = run(place / "ada", certs)
    assert find_target(node="ada").data_dir == folder


def test_the_only_running_node_need_not_be_named(place: Path, certs: Path, dead_pid: int) -> None:
    folder = run(place / "ada", certs)
    run(place / "killed", certs, pid=dead_pid)
    (place / "ended").mkdir()
    assert find_target().data_dir == folder


def test_of_several_running_nodes_one_must_be_named(place: Path, certs: Path) -> None:
    run(place / "ada", certs)
    run(place / "ben", certs)
    with pytest.raises(UserError, match=r"several nodes of yours run here \(ada, ben\): .* --node NAME"):
        find_target()


def test_no_running_node_is_said_with_what_to_give(place: Path, certs: Path, dead_pid: int) -> None:
    with pytest.raises(UserError, match=r"no node of yours runs .* --data-dir DIR, or the address"):
        find_target()
    run(place / "killed", certs, pid=dead_pid)
    with pytest.raises(UserError, match="no node of yours runs"):
        find_target()


def test_a_killed_node_does_not_run_any_more(tmp_path: Path, certs: Path, dead_pid: int) -> None:
    folder = run(tmp_path / "ada", certs, pid=dead_pid)
    with pytest.raises(UserError, match=rf"any more: ada \(process {dead_pid}\) was killed; start it again"):
        find_target(data_dir=folder)


def test_a_node_that_has_ended_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no node runs on the data directory"):
        find_target(data_dir=tmp_path)
    with pytest.raises(UserError, match="there is no data directory"):
        find_target(data_dir=tmp_path / "none")


def test_at_an_address_ones_own_certificate_is_shown(tmp_path: Path) -> None:
    eve = make_federation(tmp_path / "ca", "eve", role="operator")["eve"]
    make_federation(tmp_path / "ca", "owl", role="observer")
    target = find_target("10.0.0.1:9000", certs=tmp_path / "ca", name="eve")
    assert target.addresses == (Address("10.0.0.1", 9000),)
    assert target.credentials.node_id == eve.node_id
    assert (target.token, target.node, target.data_dir) == ("", None, None)


def test_a_node_is_named_one_way_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of them"):
        find_target("10.0.0.1:9000", data_dir=tmp_path)
    with pytest.raises(UserError, match="--certs and --name go with the address"):
        find_target(data_dir=tmp_path, certs=tmp_path)


def test_a_certificate_that_has_gone_is_said_with_the_other_way(tmp_path: Path) -> None:
    folder = run(tmp_path / "ada", tmp_path / "gone")
    with pytest.raises(CredentialsError, match=r"observed with its own certificate.* role observer"):
        find_target(data_dir=folder)


def journal(folder: Path) -> Path:
    """Let a node have been run in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.sqlite").touch()
    return folder


def test_the_only_data_directory_need_not_be_named(place: Path) -> None:
    folder = journal(place / "ada")
    (place / "empty").mkdir()
    assert find_data_dir() == folder


def test_of_several_data_directories_that_of_the_only_running_node_is_meant(place: Path, certs: Path) -> None:
    journal(place / "ben")
    assert find_data_dir() == place / "ben"
    folder = journal(run(place / "ada", certs))
    assert find_data_dir() == folder


def test_of_several_data_directories_one_must_be_named(place: Path) -> None:
    with pytest.raises(UserError, match="no node of yours has a data directory"):
        find_data_dir()
    journal(place / "ada")
    journal(place / "a b")
    with pytest.raises(
        UserError, match=r"several data directories: give one with --data-dir \('.*/a b', .*/ada\)"
    ):
        find_data_dir()
