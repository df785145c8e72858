"""The events of a node that runs, as its metrics take them."""

from __future__ import annotations

from p2pfl import events
from p2pfl.events import AnyEvent, CountedUpdate, Published
from p2pfl.monitoring.values import NodeValues
from tests.support.records import SPEC, node

RUN = "ab" * 32

MEMBERS = ("ada", "ben", "cleo")

STARTED = events.Started("ada", node("ada"), "lab", "127.0.0.1:9000", "data", 0.5)

READY = events.WorkerReady("digits", "cpu", 100, 1000, 2.0)

JOINED = events.RunJoined(RUN, "founded", 0, SPEC, MEMBERS)


def linked(name: str) -> events.PeerLinked:
    return events.PeerLinked(node(name), name, "127.0.0.1:9001")


RUNNING: tuple[AnyEvent, ...] = (STARTED, READY, linked("ben"), linked("cleo"), JOINED)
"""Ada's node, in a run with two others."""


def committed(number: int, *left_out: str, seconds: float = 1.0, attempt: int = 1) -> events.Committed:
    """Return the commit of round *number*, without the updates of *left_out*."""
    counted = [name for name in MEMBERS if name not in left_out]
    return events.Committed(
        run=RUN,
        round=number,
        kind="train",
        attempt=attempt,
        aggregator="ben",
        digest="cd" * 32,
        record="ef" * 32,
        members=MEMBERS,
        updates=tuple(CountedUpdate(name, 10, 5, 0.5, 0.1) for name in counted),
        left_out=tuple((name, "it was too late") for name in left_out),
        trained=number,
        rounds=10,
        then="go",
        note="",
        seconds=seconds,
    )


def evaluated(number: int, *, is_committed: bool = True, **metrics: float) -> events.EvaluationFinished:
    """Return the evaluation of the model of round *number*."""
    return events.EvaluationFinished(number, metrics, 30, 3, 3, committed=is_committed)


def folded(*happened: AnyEvent, time: float = 1000.0) -> NodeValues:
    """Return the values after the events *happened*, numbered as they would be without closing evaluations."""
    values = NodeValues()
    for number, event in enumerate(happened, 1):
        values.take(Published(number, time, event, getattr(event, "round", None)))
    return values
