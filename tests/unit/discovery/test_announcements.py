from __future__ import annotations

import pytest

from p2pfl.discovery.announcements import (
    InvitationAnnouncement,
    NodeAnnouncement,
    invitation_service,
    node_service,
    read_invitation,
    read_node,
)
from p2pfl.discovery.services import Found, Service

FINGERPRINT = "0123456789abcdef" * 4
NODE = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"


def found(service: Service, **changes: str) -> Found:
    properties = {**service.properties, **changes}
    return Found(service.kind, service.instance, ("192.0.2.7",), service.port, properties)


def test_a_node_is_read_as_it_was_announced() -> None:
    service = node_service(NodeAnnouncement(FINGERPRINT, NODE, "0.1.0", (2, 3)), 9000)

    assert read_node(found(service)) == NodeAnnouncement(FINGERPRINT, NODE[:16], "0.1.0", (2, 3))
    assert service.properties["port"] == "9000"


def test_a_node_announces_only_the_beginning_of_its_node_id() -> None:
    service = node_service(NodeAnnouncement(FINGERPRINT, NODE, "0.1.0", (2, 3)), 9000)

    assert NODE not in str(service)


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": ""},
        {"federation": "lab"},
        {"node": NODE},
        {"node": "ABCDEFGHIJKLMNOP"},
        {"protocol": "2"},
        {"protocol": "x-y"},
    ],
)
def test_what_no_node_announces_is_none(changes: dict[str, str]) -> None:
    service = node_service(NodeAnnouncement(FINGERPRINT, NODE, "0.1.0", (2, 3)), 9000)

    assert read_node(found(service, **changes)) is None


def test_a_long_version_is_cut() -> None:
    service = node_service(NodeAnnouncement(FINGERPRINT, NODE, "0.1.0", (2, 3)), 9000)
    node = read_node(found(service, version="9" * 200))

    assert node is not None
    assert len(node.version) == 64


def test_an_invitation_is_read_as_it_was_announced() -> None:
    announcement = InvitationAnnouncement("lab", "laptop", "0.1.0")

    assert read_invitation(found(invitation_service(announcement, "laptop-1", 9001))) == announcement


@pytest.mark.parametrize("changes", [{"federation": ""}, {"inviter": ""}, {"inviter": "x" * 65}])
def test_an_invitation_without_usable_names_is_none(changes: dict[str, str]) -> None:
    service = invitation_service(InvitationAnnouncement("lab", "laptop", "0.1.0"), "laptop-1", 9001)

    assert read_invitation(found(service, **changes)) is None


@pytest.mark.parametrize(
    ("theirs", "shares"), [((1, 1), False), ((1, 2), True), ((3, 9), True), ((2, 2), True), ((4, 9), False)]
)
def test_two_nodes_share_a_protocol_if_their_versions_overlap(theirs: tuple[int, int], shares: bool) -> None:
    ours = NodeAnnouncement(FINGERPRINT, NODE, "0.1.0", (2, 3))

    assert ours.shares_protocol(NodeAnnouncement(FINGERPRINT, NODE, "0.2.0", theirs)) is shares
