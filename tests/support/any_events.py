"""Hypothesis strategies for events: any event with any values of its fields, meaningful or not."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from p2pfl import events
from p2pfl.cards import CLASSIFICATION, REGRESSION, DataCard, LabelCount, Measures
from p2pfl.events import Published, RoundRow
from p2pfl.spec import RunSpec, from_options
from tests.support.recordings import HOSTILE, NAMES

SPEC = from_options(
    task="t", model="m", partition="iid", partitions=4, rounds=9, epochs=1, batch_size=8, learning_rate=0.1,
    momentum=0.0, weight_decay=0.0, seed=1, sample=0, min_updates=1, round_cap=60.0, drop_after=60.0,
)  # fmt: skip

WORDS = st.sampled_from([*NAMES[:3], HOSTILE, "", "run-1", "run-2"]) | st.text(max_size=20)
"""Few different words, so that names, nodes and runs often coincide."""

METRICS = ("accuracy", "dice", "loss")

NUMBERS = st.integers(0, 12) | st.integers(0, 2**53)
FLOATS = st.floats(0, 100) | st.floats(allow_nan=False, allow_infinity=False, min_value=0)


LABELS = st.lists(st.builds(LabelCount, st.text(min_size=1, max_size=9), st.integers(0, 99))).map(tuple)


def _of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of the type *hint*, a field type of events."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is RunSpec:
        return st.just(SPEC)
    if hint is Measures:
        return st.sampled_from((CLASSIFICATION, REGRESSION))
    if hint is DataCard:
        return st.builds(DataCard, st.just("digits"), st.integers(1, 2**40), LABELS)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of(*(_of(argument) for argument in arguments))
    if origin is Annotated:
        return _of(arguments[0])
    if origin is dict:
        return st.dictionaries(st.sampled_from(METRICS), FLOATS)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(_of(arguments[0]), max_size=4).map(tuple)
        return st.tuples(*(_of(argument) for argument in arguments))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return struct(hint)
    return {str: WORDS, int: NUMBERS, float: FLOATS, bool: st.booleans(), NoneType: st.none()}[hint]


def struct(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return a strategy for instances of *kind* with any field values."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{field: _of(hints[field]) for field in kind.__struct_fields__})


any_event = st.one_of(*(struct(kind) for kind in get_args(events.AnyEvent)))

any_item = st.builds(Published, st.integers(0, 100), FLOATS, any_event) | struct(RoundRow)
"""Strategy for the argument of `State.apply`."""
