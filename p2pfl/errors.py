"""All errors that p2pfl raises on purpose, grouped by who can do something about them.

::

    P2pflError
     +-- UserError                the person at this device: wrong option, missing file, expired certificate
     |    +-- CredentialsError    keys and certificates
     |    |    +-- PassphraseNeededError  a key is encrypted, and no passphrase was given
     |    +-- DataDirectoryError  the data directory: locked, damaged, of another version
     |    |    +-- ClonedError       it is a copy, or was restored from a backup
     |    |    +-- OutOfFilesError   too many files are open
     |    +-- TaskError           the task: unknown, data missing, cannot be described
     +-- PeerError                a peer broke the protocol; its link ends, never the node
     |    +-- FrameError          bytes that are no frame: too long, cut off, not MessagePack
     |    +-- ProtocolError       a well-formed frame that has no place here
     |    |    +-- VersionError       its specification has a tag that only a newer version knows
     |    +-- BlobError           bytes that are not the blob they were announced as
     +-- NetworkError             nobody's fault: unreachable, timed out, closed
     |    +-- HandshakeRefused    one side refused the other and said why
     |    |    +-- VersionRefused      their versions of p2pfl have no protocol in common
     |    |    +-- ExcludedNodeError   the other side is kicked, banned or revoked
     |    |    +-- KeptOutError        this device is banned or revoked
     |    +-- EnrolmentRefused    a device may not join, or nobody can be joined
     |    +-- ReplyLostError      a device that joins was let in, but the answer did not arrive
     +-- WorkerError              the worker process failed, was killed or hung

A message is a full sentence: what happened, what was expected, what to do.
"""

from __future__ import annotations


class P2pflError(Exception):
    """The root of all errors that p2pfl raises on purpose."""


class UserError(P2pflError):
    """The user of this device asked for something impossible, and can change that."""


class CredentialsError(UserError):
    """A key or certificate is missing, unreadable, expired, or does not fit."""


class PassphraseNeededError(CredentialsError):
    """A private key is encrypted, and no passphrase was given: a command asks for it where it can."""


class DataDirectoryError(UserError):
    """The data directory is locked by another process, damaged, or not this version's."""


class OutOfFilesError(DataDirectoryError):
    """Too many files are open in this process: not the disk's fault, and often temporary."""


class ClonedError(DataDirectoryError):
    """The data directory is a copy or was restored from a backup: only `--new-journal` starts it."""


class TaskError(UserError):
    """The task is unknown, its data are missing, or its model cannot be built."""


class PeerError(P2pflError):
    """A peer did something unacceptable. Its link ends; the node goes on."""


class FrameError(PeerError):
    """Bytes that do not form a frame."""


class ProtocolError(PeerError):
    """A well-formed message that is not allowed here."""


class VersionError(ProtocolError):
    """A peer's run has a task, strategy, encoding or privacy that this version does not know."""

    def __init__(self, what: str) -> None:
        """Say what to do about *what*, as "strategy 'fedprox'"."""
        super().__init__(
            f"its run has the {what}, which this device's p2pfl does not know: upgrade p2pfl on this device"
        )
        self.for_peer = (
            f"your run has the {what}, which the p2pfl of the device that says this does not know: upgrade "
            "p2pfl there"
        )
        """The same for the peer, as half a sentence."""


class BlobError(PeerError):
    """A blob whose bytes are not what its digest, length or schema says."""


class NetworkError(P2pflError):
    """A connection could not be made, timed out or broke."""


class HandshakeRefused(NetworkError):  # noqa: N818 - says what happened
    """One side refused the other during TLS or HELLO; the message says which side and why."""


class VersionRefused(HandshakeRefused):
    """The two sides have no version of the protocol in common: one of them must be upgraded."""


class ExcludedNodeError(HandshakeRefused):
    """A node was refused here that is kicked or banned, or whose certificate is revoked."""

    def __init__(self, text: str, node: str) -> None:
        """Say *text*; *node* is its node id."""
        super().__init__(text)
        self.node = node


class KeptOutError(HandshakeRefused):
    """A node refused this device with a proof that it is banned, or that its certificate is revoked."""


class NotDialledError(NetworkError):
    """A node is not dialled at all, because it is banned; the message says so."""


class LateClaimError(HandshakeRefused):
    """One side claimed fewer votes than the other has seen: its journal is a copy, or it has just voted."""

    def __init__(self, text: str, node: str) -> None:
        """Say *text*; *node* is the node id of the other side."""
        super().__init__(text)
        self.node = node


class EnrolmentRefused(NetworkError):  # noqa: N818 - says what happened
    """The exchange between an inviter and a device that wants to join ended without a certificate."""


class ReplyLostError(NetworkError):
    """The connection broke after the request: the same request fetches the answer again."""


class WorkerError(P2pflError):
    """The worker process failed, was killed, or sent nothing."""
