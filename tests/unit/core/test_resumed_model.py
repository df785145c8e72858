from __future__ import annotations

import msgspec

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Exit, Fetch, ReadSchema
from p2pfl.core.saved import Saved, SavedRun
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import record_digest
from p2pfl.schema import FrozenTensors, canonical, frozen_mark, layout_of
from tests.support.core import of_kind, told
from tests.support.device import Device
from tests.support.records import LAYOUT, SCHEMA, genesis, node

FROZEN = "cd" * 32
MINE, THEIRS = (
    canonical([*SCHEMA, frozen_mark(FrozenTensors(digits * 32, LAYOUT))]) for digits in ("ab", "cd")
)
"""The models of this device and of the run, which differ in the values of their frozen tensors."""


def resumed() -> Device:
    """A node restored into a run, whose worker describes a model with other frozen tensors."""
    record_0 = msgspec.structs.replace(genesis(), layout=layout_of(THEIRS))
    saved = SavedRun(record_digest(record_0), record_0, None, None, resumed=False)
    device = Device(Saved(saved, {}, frozenset()))
    device.feed(inputs.BlobReady(device.ledger.model, durable=True))
    (read,) = of_kind(device.describe(record_0.spec, MINE), ReadSchema)
    assert read == ReadSchema(record_0.model, record_0.layout, (node("ben"), node("cleo")))
    return device


def pulling() -> Device:
    """The same node, which pulls the frozen tensors."""
    device = resumed()
    (fetch,) = of_kind(device.feed(inputs.SchemaRead(layout_of(THEIRS), THEIRS)), Fetch)
    assert fetch == Fetch(FROZEN, LAYOUT, (node("ben"), node("cleo")), is_frozen=True)
    return device


def test_a_node_that_lacks_the_frozen_tensors_of_its_run_pulls_them_and_goes_on() -> None:
    device = pulling()
    assert device.feed(inputs.BlobReady("ef" * 32, durable=True)) == []
    device.feed(inputs.BlobReady(FROZEN, durable=True))
    assert device.ledger.schema == THEIRS
    assert device.feed(inputs.BlobReady(FROZEN, durable=True)) == []


def test_frozen_tensors_that_nobody_who_is_here_has_are_asked_for_again_and_told_once() -> None:
    device = pulling()
    failed = inputs.BlobFailed(FROZEN, "nobody has it", invalid=False)
    (warning,) = told(device.feed(failed), events.Notice)
    assert warning.text.endswith(
        "could not be pulled: nobody has it. This device trains when it reaches one that has what is missing"
    )
    assert of_kind(device.node.tick(device.now + 0.5), Fetch) == []
    device.now += 1.0
    assert [one.digest for one in of_kind(device.node.tick(device.now), Fetch)] == [FROZEN]
    assert told(device.feed(failed), events.Notice) == []
    device.feed(inputs.BlobReady(FROZEN, durable=True))
    assert device.ledger.schema == THEIRS


def test_a_schema_that_cannot_be_read_yet_is_asked_for_again() -> None:
    device = resumed()
    effects = device.feed(inputs.SchemaRead(layout_of(THEIRS), None, "nobody is here"))
    assert of_kind(effects, Exit) == []
    assert "the model of the run could not be read: nobody is here" in told(effects, events.Notice)[0].text
    device.now += 1.0
    assert of_kind(device.node.tick(device.now), ReadSchema) != []


def test_frozen_tensors_of_no_use_end_the_node() -> None:
    effects = pulling().feed(inputs.BlobFailed(FROZEN, "it begins with another header", invalid=True))
    (end,) = of_kind(effects, Exit)
    assert end.code == ExitCode.UNFIT
    assert end.reason.endswith("which could not be pulled: it begins with another header")


def test_another_blob_that_fails_changes_nothing() -> None:
    effects = pulling().feed(inputs.BlobFailed("ef" * 32, "nobody has it", invalid=True))
    assert of_kind(effects, Exit) == []
