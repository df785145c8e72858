from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfl.doctor import running
from p2pfl.doctor.running import check_running
from p2pfl.errors import UserError
from p2pfl.identity.credentials import Credentials
from p2pfl.runtime.observing.endpoint import Endpoint, endpoint_file
from p2pfl.store.directory import DataDirectory
from tests.support.federation import make_federation


@pytest.fixture
def ant(tmp_path: Path) -> Credentials:
    return make_federation(tmp_path / "ca", "ant")["ant"]


def endpoint(credentials: Credentials, pid: int = os.getpid()) -> Endpoint:
    return Endpoint("ant", credentials.node_id, pid, ("127.0.0.1:9000",), "certs", "5e" * 32)


def test_another_node_with_this_key_is_found_in_the_usual_place(
    tmp_path: Path, ant: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "default_place", lambda: tmp_path / "usual")
    folder = tmp_path / "usual" / "ant"
    folder.mkdir(parents=True)
    with endpoint_file(DataDirectory(folder).observe_path, endpoint(ant)):
        finding = check_running(ant, None, 9001)
        assert finding is not None
        assert finding.level == "FAIL"
        assert f"process {os.getpid()}, on 127.0.0.1:9000, with the data directory {folder}" in finding.text
        assert check_running(ant, None, 9000) is None, "that is this node itself"
    assert check_running(ant, None, 9001) is None


def test_a_node_of_another_key_or_a_killed_one_is_none(
    tmp_path: Path, ant: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise UserError("no home")

    monkeypatch.setattr(running, "default_place", homeless)
    bee = make_federation(tmp_path / "ca", "bee")["bee"]
    for found in (endpoint(bee), endpoint(ant, pid=2**22 + 1)):
        with endpoint_file(DataDirectory(tmp_path).observe_path, found):
            assert check_running(ant, tmp_path, 9001) is None
    with endpoint_file(DataDirectory(tmp_path).observe_path, endpoint(ant)):
        assert check_running(ant, tmp_path, 9001) is not None
