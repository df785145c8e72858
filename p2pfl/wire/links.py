"""The frames of the link itself: who is there, is it alive, whom else can one reach.

They share the control connection with `p2pfl.messages`, but they mean something to a link, never to a run. A
connection begins

    dialer    HELLO ->                   who I am, what I speak
    listener          <- WELCOME         the same, and the version we speak; or REFUSAL
    dialer    READY ->                   I take you too; or REFUSAL

and is a link from then on. Each pair needs one link although both may dial, and the connections of a pair
overtake each other. So one of the two judges: the node with the lower id. It numbers the connections it lets
stand (`order`, in its WELCOME where it listens, in its READY where it dials), the other one keeps the highest
number it has seen, and a new HELLO says what that is (`seen`): the judge then knows whether the other side
has lost their link or only has not heard of it yet.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from p2pfl.messages import Name, NodeId, Reason, Struct
from p2pfl.proofs import CastVote, Claim, Nonce

MAX_ADDRESSES = 16
"""Addresses told of one node: a laptop with Wi-Fi, cable and VPN, each in IPv4 and IPv6, has six."""

MAX_PEERS = 256
"""Nodes told of in one frame, the size of the largest roster."""

Address = Annotated[str, Meta(min_length=1, max_length=300)]
"""`host:port`; a host name has at most 253 characters."""

Addresses = Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]

Version = Annotated[int, Meta(ge=1, le=2**16)]

Port = Annotated[int, Meta(ge=1, le=65535)]

Order = Annotated[int, Meta(ge=0, le=2**53)]


class Introduction(Struct, frozen=True):
    """What both sides say of themselves; name and node id the certificate has shown."""

    software: Annotated[str, Meta(min_length=1, max_length=64)]
    """Version of the software, for people."""
    claim: Claim
    """Its journal: its starts, raised durably at each, and its votes; signed."""
    port: Port
    """Where this node listens; with the source address of the connection it makes an address for others."""
    advertise: Addresses
    """Addresses to give to others instead of the observed one; may be empty."""

    @property
    def journal(self) -> str:
        """The id of its journal."""
        return self.claim.journal

    @property
    def incarnation(self) -> int:
        """Starts with this journal, this one included."""
        return self.claim.incarnation

    @property
    def nonce(self) -> str:
        """Names its process."""
        return self.claim.nonce


class Hello(Introduction, frozen=True, tag="hello"):
    """The dialer's first frame."""

    lowest: Version
    """Lowest protocol version the dialer speaks."""
    highest: Version
    seen_nonce: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")]
    """The nonce of the process whose numbers `seen` belongs to; empty before the first link."""
    seen: Order
    """The highest order the dialer has seen of that process."""


class Welcome(Introduction, frozen=True, tag="welcome"):
    """The listener's answer."""

    version: Version
    """The highest version both speak: this one holds."""
    order: Order
    """0 where the dialer is the judge."""


class Ready(Struct, frozen=True, tag="ready"):
    """The dialer's last word of the handshake: from here on it is a link."""

    order: Order
    """0 where the listener is the judge."""


class Refusal(Struct, frozen=True, tag="refusal"):
    """The connection will not be a link. The sender closes it after this frame."""

    kind: Literal["version", "role", "self", "twin", "cloned", "duplicate", "full", "wrong-node", "protocol"]
    """What a program may act on; "self" and "duplicate" are no fault."""
    reason: Reason
    claim: Claim | None = None
    """With "cloned": what the receiver has signed itself, at a later start or after more votes than it shows
    now. Only such a proof makes it stop."""
    cast: CastVote | None = None
    """With "cloned": the same, as a vote that it has signed."""


class Ping(Struct, frozen=True, tag="ping"):
    """Sent when nothing else was for a while. Answered with `Pong`."""


class Pong(Struct, frozen=True, tag="pong"):
    """Answer to `Ping`."""


class PeerAddresses(Struct, frozen=True):
    """A node the sender is linked to, and where it can be reached."""

    node: NodeId
    name: Name
    addresses: Addresses


class Peers(Struct, frozen=True, tag="peers"):
    """Nodes the sender is linked to: all on a new link, later each new one."""

    peers: Annotated[tuple[PeerAddresses, ...], Meta(max_length=MAX_PEERS)]


class Call(Struct, frozen=True, tag="call"):
    """Dial the sender for bulk and offer to serve: it wants a blob and cannot dial the receiver."""

    ticket: Nonce
    """Comes back in `p2pfl.wire.blobs.Serve`; new for each call."""


class CallFailed(Struct, frozen=True, tag="call-failed"):
    """The sender could not dial whoever called it."""

    ticket: Nonce
    """The one of the call."""
    reason: Reason


class Bye(Struct, frozen=True, tag="bye"):
    """The sender closes the link, after this frame."""

    reason: Reason


LinkFrame = Hello | Welcome | Ready | Refusal | Ping | Pong | Peers | Call | CallFailed | Bye
"""Every frame of the link itself."""
