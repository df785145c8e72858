"""Sends information about this device and its data to the peers, which only display it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from p2pfl import __version__, events
from p2pfl.events import Published
from p2pfl.messages import DeviceInfo
from p2pfl.runtime.observing.system_info import count_cores, total_memory


class Links(Protocol):
    """The links to the peers: the mesh."""

    def links(self) -> Iterable[str]:
        """Return the ids of the linked nodes."""

    def send(self, node: str, message: DeviceInfo) -> object:
        """Send *message* to *node*."""


class OwnDeviceInfo:
    """Keeps the node's device info up to date from its events, and sends it to each new peer."""

    def __init__(
        self, node: str, name: str, publish: Callable[[events.AnyEvent], None], links: Links
    ) -> None:
        """Collect the information. Each change is published here and sent to the peers over *links*."""
        self._node = node
        self._name = name
        self._publish = publish
        self._links = links
        self._info = DeviceInfo(
            software=__version__,
            system=f"{platform.system()} {platform.machine()}"[:64],
            cores=count_cores(),
            memory=total_memory(),
            device="",
            part=None,
        )

    def write(self, published: Published) -> None:
        """Update the information from an event, or send it over a new link."""
        match published.event:
            case events.WorkerReady(device=device):
                self._set(device=device)
            case events.DataShown(part=part):
                self._set(part=part)
            case events.PeerLinked(node=node):
                self._links.send(node, self._info)

    def _set(self, **changes: object) -> None:
        info = msgspec.structs.replace(self._info, **changes)
        if info != self._info:
            self._info = info
            fields = {field: getattr(info, field) for field in info.__struct_fields__}
            self._publish(events.PeerDeviceInfo(node=self._node, name=self._name, **fields))
            for node in self._links.links():
                self._links.send(node, info)
