"""Every event reaches exactly one group of a fold, and no event is in two groups."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from hypothesis import given

from p2pfl import events
from p2pfl.events import AnyEvent, Published
from p2pfl.fold import EventFold
from tests.support.any_events import any_event

GROUPS = {
    "live": events.LiveEvent,
    "log": events.LogEvent,
    "node": events.NodeEvent,
    "peer": events.PeerEvent,
    "run": events.RunEvent,
    "training": events.TrainingEvent,
    "aggregation": events.AggregationEvent,
}


def recording(group: str) -> Any:
    return lambda self, event, item: self.taken.append((group, event, item))


class Recorder(EventFold):
    """Writes down which method took which event."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, AnyEvent, Published]] = []

    _on_live = recording("live")
    _on_log = recording("log")
    _on_node = recording("node")
    _on_peer = recording("peer")
    _on_run = recording("run")
    _on_training = recording("training")
    _on_aggregation = recording("aggregation")


def test_the_groups_are_disjoint_and_make_up_all_events() -> None:
    kinds = [kind for group in GROUPS.values() for kind in typing.get_args(group)]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == set(typing.get_args(AnyEvent))


@given(any_event)
def test_an_event_reaches_the_method_of_its_group_and_no_other(event: Any) -> None:
    item = Published(1, 0.0, event)
    recorder = Recorder()
    recorder.fold(item)
    (group, taken, given_item), *more = recorder.taken
    assert (taken is event, given_item is item, more) == (True, True, [])
    assert type(event) in typing.get_args(GROUPS[group])


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(AssertionError):
        Recorder().fold(Published(1, 0.0, object()))  # type: ignore[arg-type]


def test_a_fold_that_leaves_a_group_out_cannot_be_made() -> None:
    class Partial(EventFold):
        def _on_log(self, event: events.LogEvent, item: Published) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Partial()  # type: ignore[abstract]
