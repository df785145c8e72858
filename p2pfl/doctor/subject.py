"""What the doctor looks at: the options of the node to be, and what the checks have learned so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from p2pfl.config import NetSettings
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.learning.data import DataPlaces
from p2pfl.net.transport.addresses import Address
from p2pfl.wire.blobs import LinkedNode


@dataclass(frozen=True)
class Reached:
    """A node that answered, and takes this device's certificate."""

    address: Address
    identity: PeerIdentity
    links: tuple[LinkedNode, ...] | None = None
    """The nodes it is linked to; None if it did not tell."""


@dataclass
class Subject:
    """The node to be. The checks run in order, and add what later ones need."""

    certs: Path
    name: str | None = None
    host: str | None = None
    """Where it is to listen; None: on every interface."""
    port: int = 9000
    addresses: tuple[Address, ...] = ()
    """Of the peers."""
    data_dir: Path | None = None
    task: str = "digits"
    places: DataPlaces = field(default_factory=DataPlaces)
    mdns: bool = True
    settings: NetSettings = field(default_factory=NetSettings)
    credentials: Credentials | None = None
    """This device's, once they were found to be usable."""
    is_running: bool = False
    """Whether this device's own node answers on `port`."""
    reached: list[Reached] = field(default_factory=list)
    """The peers that answered, in the order of `addresses`; this device's own node is not among them."""
