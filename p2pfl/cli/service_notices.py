"""Tells the service manager that started this node that the node listens, what it does, and that it ends."""

from __future__ import annotations

from p2pfl import events, systemd
from p2pfl.events import Published
from p2pfl.observe.render import line_of

SHOWN = (
    events.Started,
    events.Waiting,
    events.RunJoined,
    events.Committed,
    events.RunEnded,
    events.Ended,
)
"""Events that become the status: what `systemctl status` shows should be of use hours later."""


def tell_service_manager(published: Published) -> None:
    """Pass one event on: ready once the node listens, a new status with what matters, then its end."""
    event = published.event
    if not isinstance(event, SHOWN):
        return
    rendered = line_of(event, published.training_round)
    states = [systemd.status(rendered[1])] if rendered is not None else []
    if isinstance(event, events.Started):
        states.insert(0, systemd.READY)
    elif isinstance(event, events.Ended):
        states.insert(0, systemd.STOPPING)
    systemd.notify(*states)
