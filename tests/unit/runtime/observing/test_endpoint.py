"""What makes somebody the local user of a node can be read by that user alone, and ends with the node."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import DataDirectoryError
from p2pfl.runtime.observing.endpoint import Endpoint, endpoint_file, read_endpoint

ENDPOINT = Endpoint("ada", "a" * 52, 123, ("127.0.0.1:9000",), "/certs/ada", "5e" * 32)


def test_it_can_be_read_while_the_node_runs_and_not_after(tmp_path: Path) -> None:
    path = tmp_path / "observe.json"
    with endpoint_file(path, ENDPOINT):
        assert read_endpoint(path) == ENDPOINT
        assert [one.name for one in tmp_path.iterdir()] == ["observe.json"], "nothing half is left"
    assert list(tmp_path.iterdir()) == []


def test_it_says_where_the_metrics_are_if_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "observe.json"
    url = "http://127.0.0.1:9100/metrics"
    with endpoint_file(path, msgspec.structs.replace(ENDPOINT, metrics=url)):
        assert '"metrics":"http://127.0.0.1:9100/metrics"' in path.read_text(encoding="utf-8")
    path.write_text(
        '{"name":"a","node":"b","pid":1,"addresses":[],"certs":"c","token":"d"}', encoding="utf-8"
    )
    endpoint = read_endpoint(path)
    assert endpoint is not None
    assert endpoint.metrics == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mode bits")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "observe.json"
    path.write_text("of a killed node")
    path.chmod(0o644)
    with endpoint_file(path, ENDPOINT):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_node_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "observe.json"
    path.write_text("{}")
    with endpoint_file(path, ENDPOINT):
        assert read_endpoint(path) == ENDPOINT


def test_somebody_else_who_removes_it_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "observe.json"
    with endpoint_file(path, ENDPOINT):
        path.unlink()
    assert not path.exists()


def test_it_is_removed_after_a_fault_too(tmp_path: Path) -> None:
    path = tmp_path / "observe.json"
    with pytest.raises(ValueError, match="a fault"), endpoint_file(path, ENDPOINT):
        raise ValueError("a fault")
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": 3}', "\xff\xfe"])
def test_what_cannot_be_understood_is_no_endpoint_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "observe.json"
    path.write_text(text, encoding="utf-8")
    assert read_endpoint(path) is None


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert read_endpoint(tmp_path / "observe.json") is None


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(DataDirectoryError, match=r"cannot write .*observe\.json"),
        endpoint_file(tmp_path / "missing" / "observe.json", ENDPOINT),
    ):
        pass
