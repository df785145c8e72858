"""Dispatches a node's events by group; every fold over events (screen, status, demo, history) uses it.

`EventFold.fold` is exhaustive over all events, and a subclass matches exhaustively within each group
(`assert_never`). A new event therefore fails the type check in every fold until each one handles it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import assert_never

from p2pfl.events import (
    AggregationEvent,
    LiveEvent,
    LogEvent,
    NodeEvent,
    PeerEvent,
    Published,
    RunEvent,
    TrainingEvent,
)


class EventFold(ABC):
    """A state made of a node's events, taken one by one in their order."""

    def fold(self, item: Published) -> None:
        """Update the state with the next event."""
        event = item.event
        if isinstance(event, LiveEvent):
            self._on_live(event, item)
        elif isinstance(event, LogEvent):
            self._on_log(event, item)
        elif isinstance(event, NodeEvent):
            self._on_node(event, item)
        elif isinstance(event, PeerEvent):
            self._on_peer(event, item)
        elif isinstance(event, RunEvent):
            self._on_run(event, item)
        elif isinstance(event, TrainingEvent):
            self._on_training(event, item)
        elif isinstance(event, AggregationEvent):
            self._on_aggregation(event, item)
        else:
            assert_never(event)

    @abstractmethod
    def _on_live(self, event: LiveEvent, item: Published) -> None:
        """Take a measurement or a progress report."""

    @abstractmethod
    def _on_log(self, event: LogEvent, item: Published) -> None:
        """Take an event that is only a log line."""

    @abstractmethod
    def _on_node(self, event: NodeEvent, item: Published) -> None:
        """Take an event of this device's processes and data."""

    @abstractmethod
    def _on_peer(self, event: PeerEvent, item: Published) -> None:
        """Take an event of a connection with another node."""

    @abstractmethod
    def _on_run(self, event: RunEvent, item: Published) -> None:
        """Take an event of the run as a whole."""

    @abstractmethod
    def _on_training(self, event: TrainingEvent, item: Published) -> None:
        """Take an event of this node's own training."""

    @abstractmethod
    def _on_aggregation(self, event: AggregationEvent, item: Published) -> None:
        """Take an event of the open round's election, aggregation or decision."""
