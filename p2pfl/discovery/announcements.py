"""What nodes and invitations announce: the keys of their TXT records, written and read.

PROTOCOL.md, "Discovery", lists the keys. Nothing in them is secret, and nothing in them is believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2pfl.discovery.services import Found, Service

NODE_PREFIX = 16
"""Characters of a node id that are announced: 80 bits, which no two nodes share by chance."""

Versions = tuple[int, int]
"""The lowest and the highest version of the protocol between nodes that a node speaks."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_VERSIONS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_NODE = re.compile(rf"[a-z2-7]{{{NODE_PREFIX}}}")

MAX_NAME = 64
"""Characters of a name or a version that are read."""


@dataclass(frozen=True)
class NodeAnnouncement:
    """What a node announces, besides its addresses and its port."""

    federation: str
    """SHA-256 of the CA's certificate in DER form, in hexadecimal."""
    node: str
    """The first `NODE_PREFIX` characters of the node id."""
    version: str
    """Of p2pfl."""
    protocol: Versions

    def shares_protocol(self, other: NodeAnnouncement) -> bool:
        """Whether this node and the *other* one have a version of the protocol in common."""
        return self.protocol[0] <= other.protocol[1] and other.protocol[0] <= self.protocol[1]


@dataclass(frozen=True)
class InvitationAnnouncement:
    """What an invitation announces, besides its addresses and its port."""

    federation: str
    """The federation's name."""
    inviter: str
    """The name of the device that invites."""
    version: str
    """Of p2pfl."""


def node_service(announcement: NodeAnnouncement, port: int) -> Service:
    """Return the service of a node that listens on *port*."""
    prefix = announcement.node[:NODE_PREFIX]
    return Service(
        "node",
        prefix,
        port,
        {
            "federation": announcement.federation,
            "node": prefix,
            "port": str(port),
            "version": announcement.version,
            "protocol": "{}-{}".format(*announcement.protocol),
        },
    )


def read_node(found: Found) -> NodeAnnouncement | None:
    """Return what the service *found* says of its node; None if it is not what a node announces."""
    properties = found.properties
    federation, node = properties.get("federation", ""), properties.get("node", "")
    protocol = _VERSIONS.fullmatch(properties.get("protocol", ""))
    if not (_FINGERPRINT.fullmatch(federation) and _NODE.fullmatch(node) and protocol):
        return None
    versions = int(protocol[1]), int(protocol[2])
    return NodeAnnouncement(federation, node, properties.get("version", "")[:MAX_NAME], versions)


def invitation_service(announcement: InvitationAnnouncement, instance: str, port: int) -> Service:
    """Return the service of an invitation; *instance* is a name that no other one in the network has."""
    return Service(
        "invitation",
        instance,
        port,
        {
            "federation": announcement.federation,
            "inviter": announcement.inviter,
            "version": announcement.version,
        },
    )


def read_invitation(found: Found) -> InvitationAnnouncement | None:
    """Return what the service *found* says of its invitation; None if it names no federation or inviter."""
    properties = found.properties
    federation, inviter = properties.get("federation", ""), properties.get("inviter", "")
    if not (0 < len(federation) <= MAX_NAME and 0 < len(inviter) <= MAX_NAME):
        return None
    return InvitationAnnouncement(federation, inviter, properties.get("version", "")[:MAX_NAME])
