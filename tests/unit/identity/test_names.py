from __future__ import annotations

from typing import Any

import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.names import (
    ROLES,
    authority_uri,
    check_name,
    device_uri,
    parse_authority_uri,
    parse_device_uri,
)


@pytest.mark.parametrize("name", ["a", "0", "raspberry-pi_4.kitchen", "x" * 63])
def test_plain_names_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Ant", "-a", ".a", "..", "a/b", "a b", "ä", "a\n", "x" * 64])
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(CredentialsError, match="lower-case letters, digits"):
        check_name(name)


@pytest.mark.parametrize("role", ROLES)
def test_a_device_uri_reads_back(role: Any) -> None:
    assert parse_device_uri(device_uri("lab", role, "ant")) == ("lab", role, "ant")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://lab",
        "spiffe://lab/node",
        "spiffe://lab/node/ant/x",
        "spiffe://lab/root/ant",
        "spiffe://lab/node/",
        "spiffe:///node/ant",
        "spiffe://lab/node/Ant",
        "spiffe://lab/node/ant\n",
        "https://lab/node/ant",
        "lab/node/ant",
    ],
)
def test_anything_else_is_no_device_uri(uri: str) -> None:
    assert parse_device_uri(uri) is None


def test_an_authority_uri_reads_back() -> None:
    assert parse_authority_uri(authority_uri("lab")) == "lab"


@pytest.mark.parametrize("uri", ["", "lab", "spiffe://", "spiffe://lab/node/ant", "https://lab"])
def test_anything_else_is_no_authority_uri(uri: str) -> None:
    assert parse_authority_uri(uri) is None
