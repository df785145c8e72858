from __future__ import annotations

import pytest

from p2pfl.enrolment.device_names import host_device_name, valid_name
from p2pfl.identity.names import check_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ada's MacBook", "ada-s-macbook"),
        ("pi", "pi"),
        ("..", "device"),
        ("", "device"),
        ("工作站", "device"),
        ("a" * 70, "a" * 63),
    ],
)
def test_any_text_becomes_a_valid_name(text: str, name: str) -> None:
    assert valid_name(text) == name == check_name(name)


def test_the_host_name_without_its_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Lab-PC.example.org")
    assert host_device_name() == "lab-pc"
