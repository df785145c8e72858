from __future__ import annotations

import importlib
import socket
from typing import Any

import pytest

from p2pfl.errors import UserError
from p2pfl.learning.simulation.ray_connection import RayConnection, cause_of, imported


def test_without_ray_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"not installed here: pip install 'p2pfl-lan\[ray\]'\.$"):
        imported()


def test_an_address_where_nothing_is_is_refused_at_once() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"no Ray cluster at {address} \(.*refused\); give the address"):
            RayConnection(address, 0)


@pytest.mark.parametrize("address", ["somewhere", "127.0.0.1:http"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=f"no Ray cluster at {address} "):
        RayConnection(address, 0)


def test_an_error_of_ray_is_told_by_its_last_line() -> None:
    assert cause_of(RuntimeError("Traceback:\n  File ...\nValueError: no room.\n")) == "ValueError: no room"
    assert cause_of(RuntimeError()) == "RuntimeError"
