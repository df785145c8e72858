"""What this node tells the others about its device and data, for their screens; nothing is decided by it."""

from __future__ import annotations

import platform
from collections.abc import Callable

import msgspec

from p2pfl import __version__, events
from p2pfl.events import Published
from p2pfl.messages import DeviceInfo
from p2pfl.runtime.machine import count_cores, total_memory


class OwnDeviceInfo:
    """The facts of one node, kept up to date by its own events: a sink of the publisher."""

    def __init__(
        self,
        node: str,
        name: str,
        publish: Callable[[events.AnyEvent], None],
        spread: Callable[[DeviceInfo], None],
    ) -> None:
        """When the facts change, *publish* them to people here and *spread* them to the others."""
        self._node = node
        self._name = name
        self._publish = publish
        self._spread = spread
        self.device_info = DeviceInfo(
            software=__version__,
            system=f"{platform.system()} {platform.machine()}"[:64],
            cores=count_cores(),
            memory=total_memory(),
            device="",
            part=None,
        )

    def write(self, published: Published) -> None:
        """Take note of what an event says about this device or its data."""
        match published.event:
            case events.WorkerReady(device=device):
                self._set(device=device)
            case events.DataShown(part=part):
                self._set(part=part)

    def _set(self, **changes: object) -> None:
        device_info = msgspec.structs.replace(self.device_info, **changes)
        if device_info != self.device_info:
            self.device_info = device_info
            told = {field: getattr(device_info, field) for field in device_info.__struct_fields__}
            self._publish(events.PeerDeviceInfo(node=self._node, name=self._name, **told))
            self._spread(device_info)
