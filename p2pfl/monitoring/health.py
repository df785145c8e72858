"""Whether a node is alive, and whether it can do its part: for supervisors, containers and load balancers.

*Alive* means that the process answers: restarting it would help otherwise. *Ready* means that the node trains
or waits as it should. A node that is not ready is left running, since it goes on by itself when the reason
has gone: the reasons say what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from p2pfl.monitoring.place import DataPlace
from p2pfl.monitoring.values import NodeValues
from p2pfl.text import one_line, plural


def why_not_alive(values: NodeValues) -> str:
    """Return why the node is about to exit; empty while it runs."""
    if values.ended is None:
        return ""
    return f"the node ends with exit code {values.ended.code}: {one_line(values.ended.reason)}"


def why_not_ready(values: NodeValues, place: DataPlace) -> Iterator[str]:
    """Yield the reasons why the node cannot do its part, as sentences without a full stop; none if it can."""
    if fault := why_not_alive(values):
        yield fault
        return
    if values.phase == "starting":
        yield "the node starts: it neither is in a run nor waits for one yet"
    if values.worker == "starting":
        yield "the worker is not ready: it still loads the task and its data"
    elif values.worker == "failed":
        yield f"the worker failed: {one_line(values.worker_reason)}"
    waiting = values.waiting
    if values.phase == "waiting" and waiting is not None and waiting.is_mismatch:
        yield f"no run can start: {one_line(waiting.reason)}"
    if values.phase in ("running", "paused"):
        yield from _of_the_run(values)
    if fault := place.fault():
        yield fault


def _of_the_run(values: NodeValues) -> Iterator[str]:
    others = [name for name in values.members if name != values.name]
    if others and not values.linked:
        yield f"no other node is linked, and the run has {len(others)} other {plural(len(others), 'member')}"
    if not values.has_quorum:
        yield (
            f"there is no quorum: {values.reachable} of {len(values.members)} members are reachable, "
            f"{values.needed} are needed"
        )


def report(values: NodeValues, reasons: list[str]) -> dict[str, Any]:
    """Return what `/readyz` answers, for JSON."""
    return {
        "ready": not reasons,
        "reasons": reasons,
        "phase": values.phase,
        "worker": values.worker,
        "round": values.round,
        "rounds": values.rounds,
        "members": len(values.members),
        "reachable": values.reachable,
        "needed": values.needed,
    }
