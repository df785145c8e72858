"""Limits and timings, frozen, each with its unit and the reason for its value.

These values belong to one device; what the members of a run agree on is the `RunSpec` of record 0
(`p2pfl.messages`). A driver or a test that needs other values makes its own instance.
"""

from __future__ import annotations

import msgspec

DEFAULT_PORT = 9000
"""The default port of `--listen`, and of an address in `--peers` without a port."""

PROTOCOL_VERSIONS = (2, 2)
"""Lowest and highest protocol version this software speaks."""


class NetSettings(msgspec.Struct, frozen=True):
    """Links and blob transfer."""

    max_frame_bytes: int = 1024 * 1024
    """Longest body of a control frame. A record of 256 members needs a tenth of it."""
    handshake_seconds: float = 10.0
    """From accepted TCP connection to finished HELLO: a Raspberry Pi on a bad Wi-Fi needs two."""
    hello_seconds: float = 3.0
    """From accepted TCP connection to its first byte: the dialling side sends at once."""
    dial_seconds: float = 5.0
    """Time limit for the TCP connection of one dial."""
    ping_seconds: float = 1.0
    """Interval of pings on an idle control link."""
    silence_seconds: float = 6.0
    """A link without any frame for this long is dead: half-open TCP connections report nothing."""
    redial_first_seconds: float = 0.2
    """Delay before the first redial; doubles up to `redial_max_seconds`."""
    redial_max_seconds: float = 5.0
    """Longest wait between two dials: a device that comes back is linked again within seconds."""
    redial_early_seconds: float = 30.0
    """For how long a listed address or a known node that was not reached yet is dialled often: people start
    the devices of a run one after the other."""
    redial_early_max_seconds: float = 0.5
    """Longest wait between two such dials. A run begins with the last link, so nobody waits longer for it."""
    redial_version_seconds: float = 60.0
    """Wait before a redial after a refusal for a version: only an upgrade of a device ends such refusals, and
    a device that was upgraded dials by itself when it starts."""
    max_pending: int = 64
    """Most connections that have not finished HELLO: strangers cannot exhaust file descriptors."""
    max_pending_per_address: int = 16
    """The same for one source address, which several nodes may share."""
    max_links: int = 256
    """Most established links: the size of the largest roster."""
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
    """Unsent control bytes after which a link is cut, since the peer does not read."""
    blob_chunk_bytes: int = 1024 * 1024
    """Bytes of a blob that a thread reads, or hashes and writes, at a time; 1 MiB was fastest."""
    blob_idle_seconds: float = 10.0
    """A transfer without a byte for this long is broken and continues with another holder."""
    blob_min_bytes_per_second: int = 1024
    """A transfer that is slower over a whole idle window is broken."""
    blob_keep_seconds: float = 30.0
    """How long a puller keeps an idle bulk connection, since a handshake costs as much as a megabyte. The
    holder keeps it twice as long."""
    max_pulls: int = 4
    """Most pulls at a time: enough to fill a link, few enough for a small device's memory and disk."""
    max_observers: int = 16
    """Most observers at a time, besides the local user's: some screens in a lab, and a few commands."""
    max_observers_of_certificate: int = 8
    """The same for one certificate, and for the local user, so that none of them takes all places."""
    kept_for_operators: int = 4
    """Places among `max_observers` that certificates of role observer do not get."""
    max_observer_bytes: int = 32 * 1024 * 1024
    """Unsent bytes after which an observer is dropped. It first gets the history, 10 MB for a thousand rounds
    of fifty members."""
    max_serving: int = 32
    """Most blobs sent at a time."""
    max_bulk: int = 512
    """Most open bulk connections that others made, idle ones included."""
    clock_jump_seconds: float = 5.0
    """If wall and monotonic clock diverge by more, the device slept: links are dropped and dialled again."""


class ProtocolSettings(msgspec.Struct, frozen=True):
    """Timings of the protocol core. Safety depends on none of them, only how soon something is tried."""

    heartbeat: float = 1.0
    """Seconds between two Status messages to all linked nodes."""
    resend: float = 1.0
    """Seconds before an unanswered message is repeated."""
    steady: float = 2.0
    """Seconds the set of present nodes must not change before a run is founded."""
    gone: float = 1.2
    """Seconds a link may be down before its member counts as absent: a broken link is redialled sooner."""
    start_grace: float = 6.0
    """Seconds after a start during which every member counts as present: they may be starting, too."""
    overtaken: float = 0.1
    """Seconds this node waits for a commit that a peer knows of before it asks for it."""
    report_after: float = 0.25
    """Seconds after which a member reports its evaluation of the last model to all screens: if the round is
    shorter, its record has the evaluations of all members."""
    declined_rest: float = 60.0
    """Seconds before a run that this device cannot take part in is considered, and reported, again."""
    often: float = 0.5
    """Minimum seconds between two Status messages that only report a new round: in short rounds, a member's
    other messages report it, too."""
    rank_step: float = 0.5
    """Seconds the next candidate in rank waits for the one before it."""
    backoff: float = 0.3
    """Seconds a refused candidate waits before it runs again; doubles up to `backoff_most`."""
    backoff_most: float = 10.0
    """Longest wait of a refused candidate: a recovered network is used within seconds."""
    straggler_factor: float = 1.5
    """A member may take this multiple of its own prediction before the round may close without it."""
    glance: float = 6.0
    """Seconds a node that was started on a finished run waits for a link to a member that lacks the final
    model: longer than `NetSettings.redial_max_seconds`, so that every running member has dialled."""
    linger: float = 30.0
    """Seconds a finished node waits for a member that is unreachable before it exits without its FINAL."""
