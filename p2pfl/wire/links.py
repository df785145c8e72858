"""The frames of a link: handshake, liveness, addresses, calls, renewals of certificates, and who is kept out.

They share the control connection with `p2pfl.messages`, but they are about the link and never about a run. A
connection begins

    dialer    HELLO ->                   who I am, what I speak
    listener          <- WELCOME         the same, and the version we speak; or REFUSAL
    dialer    READY ->                   I accept you too; or REFUSAL

and is a link from then on. Each pair of nodes needs one link although both may dial, and connections of a
pair overtake each other. So the node with the lower id is the pair's judge. It numbers the connections that
it accepts (`order`, in its WELCOME where it listens, in its READY where it dials). The other node remembers
the highest number it has seen and sends it in each new HELLO (`seen`): so the judge knows whether the other
node has lost their link, or has only not heard of it yet.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from p2pfl.messages import Name, NodeId, Reason, Struct
from p2pfl.proofs import CastVote, Claim, Nonce
from p2pfl.statements import MAX_CRL_BYTES, Statement

MAX_ADDRESSES = 16
"""Maximum addresses of one node: a laptop with Wi-Fi, cable and VPN, each in IPv4 and IPv6, has six."""

MAX_PEERS = 256
"""Maximum nodes in one frame: the size of the largest roster."""

MAX_STATEMENTS_OF_FRAME = 128
"""Maximum statements in one frame: with the longest certificates and reasons they fill half of it."""

Crl = Annotated[bytes, Meta(max_length=MAX_CRL_BYTES)]
"""DER of an X.509 certificate revocation list."""

Address = Annotated[str, Meta(min_length=1, max_length=300)]
"""`host:port`; a host name has at most 253 characters."""

Addresses = Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]

Version = Annotated[int, Meta(ge=1, le=2**16)]

Port = Annotated[int, Meta(ge=1, le=65535)]

Order = Annotated[int, Meta(ge=0, le=2**53)]


MAX_CERTIFICATE_BYTES = 4096
"""Of a certificate in DER: one with the longest names has less than 800, and one below an organisation's CA
is no longer."""

Certificate = Annotated[bytes, Meta(min_length=1, max_length=MAX_CERTIFICATE_BYTES)]


class Introduction(Struct, frozen=True):
    """How both sides introduce themselves; name and node id are in the certificate."""

    software: Annotated[str, Meta(min_length=1, max_length=64)]
    """Version of the software, for people."""
    claim: Claim
    """Signed claim about its journal: number of starts, which is raised durably at each start, and of
    votes."""
    port: Port
    """Port on which this node listens; with the source address of the connection it gives an address for
    others."""
    advertise: Addresses
    """Addresses to give to others in place of the observed one; may be empty."""

    @property
    def journal(self) -> str:
        """The id of its journal."""
        return self.claim.journal

    @property
    def incarnation(self) -> int:
        """Number of starts with this journal, including this one."""
        return self.claim.incarnation

    @property
    def nonce(self) -> str:
        """Random identifier of its process."""
        return self.claim.nonce


class Hello(Introduction, frozen=True, tag="hello"):
    """The dialer's first frame."""

    lowest: Version
    """Lowest protocol version that the dialer speaks."""
    highest: Version
    seen_nonce: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")]
    """The nonce of the process whose numbers `seen` belongs to; empty before the first link."""
    seen: Order
    """The highest order of that process that the dialer has seen."""


class Welcome(Introduction, frozen=True, tag="welcome"):
    """The listener's answer."""

    version: Version
    """The highest version that both sides speak; it is used from here on."""
    order: Order
    """0 where the dialer is the judge."""


class Ready(Struct, frozen=True, tag="ready"):
    """The dialer's last frame of the handshake: the connection is a link from here on."""

    order: Order
    """0 where the listener is the judge."""


class Refusal(Struct, frozen=True, tag="refusal"):
    """The connection does not become a link. The sender closes it after this frame."""

    kind: Literal[
        "version", "role", "self", "twin", "cloned", "duplicate", "full", "wrong-node", "excluded", "protocol"
    ]
    """Reason for programs; "self" and "duplicate" are no fault. "excluded": the receiver is kicked or banned,
    or its certificate is revoked."""
    reason: Reason
    claim: Claim | None = None
    """With "cloned": a claim that the receiver signed itself, at a later start or after more votes than it
    shows now. Only such a proof makes the receiver stop."""
    cast: CastVote | None = None
    """With "cloned": the same kind of proof, as a vote that the receiver signed."""
    statement: Statement | None = None
    """With "excluded": the statement that kicks or bans the receiver. Only such a proof, or the list, makes
    the receiver stop."""
    revocations: Crl = b""
    """With "excluded": the revocation list that names the receiver; empty otherwise."""


class Ping(Struct, frozen=True, tag="ping"):
    """Sent after a while without other frames. Answered with `Pong`."""


class Pong(Struct, frozen=True, tag="pong"):
    """Answer to `Ping`."""


class PeerAddresses(Struct, frozen=True):
    """A node to which the sender is linked, and its addresses."""

    node: NodeId
    name: Name
    addresses: Addresses


class Peers(Struct, frozen=True, tag="peers"):
    """Nodes to which the sender is linked: all of them on a new link, later each new one."""

    peers: Annotated[tuple[PeerAddresses, ...], Meta(max_length=MAX_PEERS)]


class Call(Struct, frozen=True, tag="call"):
    """Asks the receiver to dial the sender and serve a blob: the sender cannot dial the receiver."""

    ticket: Nonce
    """Returned in `p2pfl.wire.blobs.Serve`; new for each call."""


class CallFailed(Struct, frozen=True, tag="call-failed"):
    """The sender could not dial the node that called it."""

    ticket: Nonce
    """Ticket of the call."""
    reason: Reason


class CanRenew(Struct, frozen=True, tag="can-renew"):
    """The sender can read the CA's key, and renews certificates. Sent on a new link."""


class Renew(Struct, frozen=True, tag="renew"):
    """Asks for a certificate with new dates. Key, name and role stay those of the sender."""

    certificate: Certificate
    """The sender's certificate that is to be renewed; on an old link it is newer than that of the TLS
    handshake."""


class Renewed(Struct, frozen=True, tag="renewed"):
    """The answer to `Renew`."""

    certificate: Certificate


class RenewalRefused(Struct, frozen=True, tag="renewal-refused"):
    """The answer to `Renew` where there is no new certificate."""

    reason: Reason


class Statements(Struct, frozen=True, tag="statements"):
    """What the sender knows of who is kicked or banned: all on a new link, later what is new."""

    statements: Annotated[tuple[Statement, ...], Meta(max_length=MAX_STATEMENTS_OF_FRAME)]


class RevocationList(Struct, frozen=True, tag="revocations"):
    """The newest revocation list that the sender knows: on a new link, and when a newer one comes."""

    crl: Crl


class Bye(Struct, frozen=True, tag="bye"):
    """The sender closes the link after this frame."""

    reason: Reason


RenewalFrame = CanRenew | Renew | Renewed | RenewalRefused
"""The frames about certificates."""

LinkFrame = (
    Hello
    | Welcome
    | Ready
    | Refusal
    | Ping
    | Pong
    | Peers
    | Call
    | CallFailed
    | RenewalFrame
    | Statements
    | RevocationList
    | Bye
)
"""All frames of a link."""
