"""The configuration of one node.

It stands apart from `p2pfl.runtime.node` because that imports nearly all of this project: with the
configuration alone the worker can be started before (`p2pfl.runtime.start`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from p2pfl.config import NetSettings, ProtocolSettings
from p2pfl.identity.credentials import Credentials
from p2pfl.learning.process import WorkerSettings
from p2pfl.spec import RunSpec, Share
from p2pfl.tracking.targets import TrackTarget

LEAVE_WITHIN = 5.0
"""Time limit of a polite leave after SIGTERM or SIGHUP. `docker stop` kills after 10 s, systemd after 90.
Closing links and worker takes a tenth of a second more, at most 8 s if the worker hangs."""


class LanSettings(msgspec.Struct, frozen=True):
    """How a node takes part in discovery."""

    is_on: bool = True
    """Whether it announces itself and looks for others (`--no-mdns`)."""
    interfaces: tuple[str, ...] = ()
    """Names of network interfaces; empty: those that lead to other devices of the same network."""


class ScriptSettings(msgspec.Struct, frozen=True):
    """How a script trains this node."""

    words: tuple[str, ...] = ()
    """The absolute path of the script and its arguments; empty: another program connects."""
    token: str = ""
    """The token that this program shows; empty: a random one."""
    share: Share = "labels"
    """The most that this device tells about its data."""


class NodeConfig(msgspec.Struct, frozen=True):
    """The configuration of one node."""

    credentials: Credentials
    data_dir: Path
    spec: RunSpec
    given: frozenset[str]
    """Fields of `spec` that the operator set."""
    peers: tuple[str, ...] = ()
    listen: tuple[str | None, int] = (None, 9000)
    """Host (None: every interface, IPv4 and IPv6) and port (0: any free one)."""
    advertise: tuple[str, ...] = ()
    partitions: int = 0
    min_nodes: int | None = None
    """None: one for this node and one for each other device that it waits for, see `Expectation`."""
    lan: LanSettings = LanSettings()
    wait: bool = False
    new_run: bool = False
    new_journal: bool = False
    stay: bool = False
    continue_with: frozenset[str] | None = None
    """Node ids to continue the run in the data directory with, see `p2pfl.core.continuing`."""
    recorded: bool = False
    """Whether events are written to a file: then metrics are sampled also without an observer."""
    leave_within: float = LEAVE_WITHIN
    """Time limit in seconds of a polite leave after SIGTERM or SIGHUP."""
    save_dir: Path | None = None
    """The folder of saved models; None: in the data directory."""
    owns_process: bool = False
    """Whether this process runs nothing but the node. Then its signals end the node, the Enter key starts a
    run that `wait` holds back, and its limit of open files is raised. A node in a program leaves all of that
    to the program."""
    until_eof: bool = False
    """Whether the node ends with its standard input, which its parent process holds open. A line on it starts
    a run that `wait` holds back."""
    track: tuple[TrackTarget, ...] = ()
    """Where the measured values of each round are written, besides the journal."""
    metrics: tuple[str, int] | None = None
    """Host and port (0: any free one) where metrics and health probes are served; None: nowhere."""
    worker: WorkerSettings = WorkerSettings()
    script: ScriptSettings | None = None
    """The script or program that trains; None: the worker trains."""
    ca: Path | None = None
    """The folder of the CA, to renew certificates; None: that of the certificate or above, if it is there."""
    passphrase_file: Path | None = None
    """The file with the passphrase of the CA's key."""
    renews: bool = True
    """Whether this node renews certificates of others if it may read the CA's key."""
    net: NetSettings = NetSettings()
    protocol: ProtocolSettings = ProtocolSettings()
