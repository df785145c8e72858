"""What trackers write: the measured values in the events of a node."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from p2pfl import events
from p2pfl.events import Published

MEASURED = (events.Committed, events.EvaluationFinished, events.Measured, events.Ended)
"""The events with measured values, and the one that no other follows."""


class Measurement(msgspec.Struct, frozen=True):
    """One value of one round."""

    round: int
    """The number of the training round, from 1."""
    name: str
    """What was measured: a metric of the run, or "seconds", "updates", "bytes_sent" and so on."""
    node: str
    """The name of the node that it is about; empty for the whole federation."""
    value: float

    @property
    def tag(self) -> str:
        """The name for trackers that have one name for each curve: curves of one metric are grouped."""
        return f"{self.name}/{self.node or 'all'}"


class EventMeasures:
    """Finds the measured values in the events of the node *name*, in order.

    Evaluations are written when they are committed, and never change then. Those of the last round that are
    only reported are written at the end of the node.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reported: dict[int, events.EvaluationFinished] = {}
        """The last evaluation of each round that is not committed yet."""
        self._traffic: dict[str, tuple[int, int]] = {}
        """Bytes sent to each peer and received from it, also of links that have ended."""
        self._written = (0, 0)
        """Bytes that were part of earlier rounds."""
        self._open: int | None = None
        """The committed round whose traffic is not measured yet."""

    def take(self, published: Published) -> list[Measurement]:
        """Return the values that *published* adds. A value that is NaN or infinite is left out."""
        return [one for one in self._of(published) if math.isfinite(one.value)]

    def _of(self, published: Published) -> Iterator[Measurement]:
        event, number = published.event, published.training_round
        match event:
            case events.Measured():
                for link in event.links:
                    self._traffic[link.node] = (link.sent, link.received)
                yield from self._moved()
            case events.Committed(kind="train"):
                yield from self._committed(event)
            case events.EvaluationFinished() if number is not None:
                if event.committed:
                    self._reported.pop(number, None)
                    yield from _evaluated(number, event)
                else:
                    self._reported[number] = event
            case events.Ended():
                yield from self._moved()
                for number, reported in sorted(self._reported.items()):
                    yield from _evaluated(number, reported)
                self._reported.clear()
            case _:
                pass

    def _committed(self, event: events.Committed) -> Iterator[Measurement]:
        number = event.trained
        yield Measurement(number, "updates", "", len(event.updates))
        if event.seconds:
            yield Measurement(number, "seconds", "", event.seconds)
        for update in event.updates:
            yield Measurement(number, "training_loss", update.name, update.loss)
            yield Measurement(number, "training_seconds", update.name, update.seconds)
            yield Measurement(number, "training_examples", update.name, update.examples)
        self._open = number

    def _moved(self) -> Iterator[Measurement]:
        """Yield the traffic of the last round, with what was between it and the round before."""
        if self._open is None:
            return
        number, self._open = self._open, None
        sent = sum(sent for sent, _ in self._traffic.values())
        received = sum(received for _, received in self._traffic.values())
        yield Measurement(number, "bytes_sent", self._name, sent - self._written[0])
        yield Measurement(number, "bytes_received", self._name, received - self._written[1])
        self._written = sent, received


def _evaluated(number: int, event: events.EvaluationFinished) -> Iterator[Measurement]:
    for metric, value in event.metrics.items():
        yield Measurement(number, metric, "", value)
    for score in event.scores:
        for metric in score.sums:
            if (mean := score.mean(metric)) is not None:
                yield Measurement(number, metric, score.name, mean)
