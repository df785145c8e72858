"""Limits and timings, frozen, each with its unit and the reason for its value.

What a run agrees on is no setting: it is the `RunSpec` of record 0 (`p2pfl.messages`). These are a device's
own. A driver or a test that wants other values makes its own instance; nothing here is changed after it is
made.
"""

from __future__ import annotations

import msgspec

DEFAULT_PORT = 9000
"""Where a node listens unless told otherwise, and where `--peers HOST` without a port dials."""

PROTOCOL_VERSIONS = (2, 2)
"""Lowest and highest protocol version this software speaks."""


class NetSettings(msgspec.Struct, frozen=True):
    """Links and blob transfer."""

    max_frame_bytes: int = 1024 * 1024
    """Of a control frame's body. A record of 256 members takes a tenth of it."""
    handshake_seconds: float = 10.0
    """From accepted TCP connection to finished HELLO: a Raspberry Pi on a bad Wi-Fi needs two."""
    hello_seconds: float = 3.0
    """From accepted TCP connection to its first byte: a dialer speaks first, and at once."""
    dial_seconds: float = 5.0
    """For the TCP connection of one dial."""
    ping_seconds: float = 1.0
    """Between pings on an idle control link."""
    silence_seconds: float = 6.0
    """A link without any frame for this long is dead: half-open TCP connections report nothing."""
    redial_first_seconds: float = 0.2
    """Delay before the first redial; doubles up to `redial_max_seconds`."""
    redial_max_seconds: float = 5.0
    """So that a device that comes back is a member again within seconds."""
    max_pending: int = 64
    """Connections that have not finished HELLO, in all: strangers cannot exhaust file descriptors."""
    max_pending_per_address: int = 16
    """The same from one source address; several nodes may share one."""
    max_links: int = 256
    """Established links, the size of the largest roster."""
    max_unproven: int = 256
    """Nodes without a previous link that one peer may name: a roster has no more."""
    max_unproven_dials: int = 32
    """Simultaneous dials of such nodes: most answer in milliseconds, a dead one takes `dial_seconds`."""
    max_unproven_dials_of_peer: int = 8
    """Simultaneous dials of such nodes of one peer, which so cannot take all slots."""
    max_unproven_tries: int = 10
    """Failed attempts, over half a minute, after which such a node is dropped until a peer names it again."""
    ban_seconds: float = 30.0
    """How long a node that exceeded its rate limits gets no link: it may have been a fault that ends."""
    max_queue_bytes: int = 16 * 1024 * 1024
    """Unsent control bytes on one link before it is cut: the peer does not read."""
    blob_chunk_bytes: int = 1024 * 1024
    """Of a long blob, read, or hashed and written at a time by a thread; 1 MiB was fastest on two cores."""
    blob_idle_seconds: float = 10.0
    """A transfer without a byte for this long is broken and continues with another holder."""
    blob_min_bytes_per_second: int = 1024
    """A transfer that is slower over a whole idle window is broken."""
    blob_keep_seconds: float = 30.0
    """How long a puller keeps an idle bulk connection, since a handshake costs as much as a megabyte. The
    holder keeps it twice as long."""
    max_pulls: int = 4
    """Pulls at a time: enough to fill a link, few enough for a small device's memory and disk."""
    max_observers: int = 16
    """Observers at a time, the local user's apart: some screens in a lab, and a command now and then."""
    max_observers_of_certificate: int = 8
    """The same with one certificate: nobody takes all places. The local user has as many."""
    kept_for_operators: int = 4
    """Of the observers at a time, places that certificates of role observer do not get."""
    max_observer_bytes: int = 32 * 1024 * 1024
    """Unsent bytes for one observer before it is dropped. What it is told at first, a thousand rounds of
    fifty members, takes 10 MB."""
    max_serving: int = 32
    """Blobs sent at a time."""
    max_bulk: int = 512
    """Open bulk connections that others made, idle ones included."""
    clock_jump_seconds: float = 5.0
    """If wall and monotonic clock diverge by more, the device slept: links are dropped and dialled again."""


class ProtocolSettings(msgspec.Struct, frozen=True):
    """Timings of the protocol core. None of them decides safety; they decide how soon something is tried."""

    heartbeat: float = 1.0
    """Seconds between Status messages to everybody linked."""
    resend: float = 1.0
    """Seconds before an unanswered message is repeated."""
    steady: float = 2.0
    """Seconds the set of present nodes must not change before a run is founded."""
    gone: float = 1.2
    """Seconds a link may be down before its member counts as gone in this round: a broken link is redialled
    sooner."""
    start_grace: float = 6.0
    """Seconds after a start during which every member counts as heard: they may be starting too."""
    overtaken: float = 0.1
    """Seconds a commit that a peer must know of may be on its way here before this node asks for it."""
    report_after: float = 0.25
    """Seconds a member keeps its evaluation of the last model before it reports it to all screens: where
    a round is shorter, its record tells the evaluations of all at once."""
    declined_rest: float = 60.0
    """Seconds before a run this device cannot take part in is looked at, and spoken of, again."""
    often: float = 0.5
    """Seconds at least between two Status messages that say only that a member is a round further: where
    rounds are short, its other messages say so too."""
    rank_step: float = 0.5
    """Seconds the next candidate in rank waits for the one before it."""
    backoff: float = 0.3
    """Seconds a refused candidate waits before it stands again; doubles up to `backoff_most`."""
    backoff_most: float = 10.0
    """So that a recovered network is used within seconds."""
    straggler_factor: float = 1.5
    """A member may take this multiple of its own prediction before the round may close without it."""
    glance: float = 6.0
    """Seconds a node that was started on a finished run waits for a link to a member that lacks the final
    model: more than `NetSettings.redial_max_seconds`, so that one that runs has dialled."""
    linger: float = 30.0
    """Seconds a finished node waits for a member that is unreachable before it exits without its FINAL."""
