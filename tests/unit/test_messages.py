"""What the types let through: everything sound round-trips, every bound refuses, digests are stable."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cards import MAX_SUMS
from p2pfl.config import NetSettings
from p2pfl.messages import (
    MAX_ATTEMPT,
    MAX_ORIGINS,
    Accept,
    Accepted,
    Ack,
    Ballot,
    Card,
    ClassCount,
    Collect,
    Commit,
    ControlRequest,
    Decline,
    DeviceInfo,
    Evaluation,
    Genesis,
    LeftOut,
    Member,
    MemberEvaluation,
    Message,
    Offer,
    Origin,
    Prepare,
    Promise,
    Record,
    RecordBlobs,
    Records,
    RecordsRequest,
    Refuse,
    Report,
    RosterEntry,
    SignedVote,
    Status,
    StepDown,
    Struct,
    Submit,
    Undelivered,
    UpdateBlobs,
    UpdateEntry,
    add_evaluations,
    quorum,
    record_digest,
)
from p2pfl.proofs import sign_request
from p2pfl.runtime.driver import FRAME_MARGIN
from p2pfl.schema import TensorSpec, canonical, layout_of
from p2pfl.spec import MAX_ROSTER
from tests.support.core import status
from tests.support.keys import signer
from tests.support.records import (
    CARD,
    Chain,
    digest,
    evaluation,
    evaluations,
    genesis,
    journal,
    node,
    signed,
    update,
)

CHAIN = Chain()
LARGEST = "\U0001f99e"
"""A character of four bytes, of which a bound on characters lets as many pass."""
LARGEST_EVALUATION = Evaluation(2**53, {f"{'m' * 30}{number:02}": 1e300 for number in range(MAX_SUMS)})
COMMIT = CHAIN.commit(evaluated=evaluations((8, 10), (9, 10)))
RECORD = COMMIT.record
RUN = CHAIN.run
BALLOT = Ballot(3, node("ben"))
CONTROL_REQUEST = sign_request(signer("ada"), node("ada"), RUN, 1, "pause", "eve (operator)")
VOTE = signed("ada", RUN, 1, BALLOT)

EXAMPLES = [
    status(run=RUN, round=3, record=digest("record"), progress=0.5, phase="training"),
    Offer(genesis()),
    Prepare(RUN, 1, BALLOT),
    Promise(RUN, 1, BALLOT, None, None, VOTE),
    Promise(RUN, 1, BALLOT, Ballot(1, node("ada")), RECORD, VOTE),
    Refuse(RUN, 1, BALLOT, Ballot(4, node("ada"))),
    Collect(RUN, 1, BALLOT, selected=True),
    Submit(RUN, 1, BALLOT, RUN, update("ada", 1), "", evaluation(8, 10, 2.0)),
    Submit(RUN, 1, BALLOT, RUN, None, "its training failed", None),
    Ack(RUN, 1, BALLOT, ""),
    Accept(RUN, 1, BALLOT, RECORD),
    Accepted(RUN, 1, BALLOT, record_digest(RECORD), VOTE),
    Undelivered(RUN, 1, BALLOT, "nobody reachable has it"),
    StepDown(RUN, 1, BALLOT, "a higher ballot was promised"),
    COMMIT,
    Report(RUN, 1, evaluation(8, 10, 2.0)),
    RecordsRequest(RUN, -1),
    Records(RUN, genesis(), (COMMIT,)),
    Decline(RUN, "its model differs"),
    CONTROL_REQUEST,
    Card(CARD),
    DeviceInfo("0.1.0", "Linux x86_64", 4, 8 * 2**30, "cuda", CARD),
]


def through(message: Any, kind: Any = Message) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=kind)


def refused(value: Struct, kind: Any, /, **changes: Any) -> bool:
    """Whether the decoder refuses *value* with *changes* made to it."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    fields.update(changes)
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=kind)
    except msgspec.ValidationError:
        return True
    return False


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_every_message_round_trips(message: Struct) -> None:
    assert through(message) == message


def test_every_kind_of_message_has_an_example() -> None:
    assert {type(message) for message in EXAMPLES} == set(Message.__args__)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_unknown_fields_are_refused(message: Struct) -> None:
    assert not refused(message, Message)
    assert refused(message, Message, extra=1)


def test_an_unknown_tag_is_refused() -> None:
    assert refused(RecordsRequest(RUN, 0), Message, type="gossip")


@pytest.mark.parametrize(
    ("value", "kind", "changes"),
    [
        (RecordsRequest(RUN, 0), RecordsRequest, {"run": RUN[:-1]}),
        (RecordsRequest(RUN, 0), RecordsRequest, {"run": RUN.upper()}),
        (RecordsRequest(RUN, 0), RecordsRequest, {"run": RUN + "\n"}),
        (RecordsRequest(RUN, 0), RecordsRequest, {"after": -2}),
        (Prepare(RUN, 1, BALLOT), Prepare, {"round": -1}),
        (Prepare(RUN, 1, BALLOT), Prepare, {"round": 2**40}),
        (Prepare(RUN, 1, BALLOT), Prepare, {"ballot": [0, node("ben")]}),
        (Prepare(RUN, 1, BALLOT), Prepare, {"ballot": [1, "ben"]}),
        (Prepare(RUN, 1, BALLOT), Prepare, {"ballot": [1, node("ben"), 1]}),
        (update("ada", 1), UpdateEntry, {"examples": 0}),
        (update("ada", 1), UpdateEntry, {"examples": 2**60}),
        (update("ada", 1), UpdateEntry, {"examples": 1.5}),
        (update("ada", 1), UpdateEntry, {"loss": math.nan}),
        (update("ada", 1), UpdateEntry, {"loss": math.inf}),
        (update("ada", 1), UpdateEntry, {"loss": -math.inf}),
        (update("ada", 1), UpdateEntry, {"steps": 0}),
        (update("ada", 1), UpdateEntry, {"blobs": {}}),
        (update("ada", 1), UpdateEntry, {"blobs": {"update": RUN, "model": RUN}}),
        (evaluation(8, 10, 2.0), Evaluation, {"examples": 0}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {}}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {"loss": math.nan}}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {"loss": math.inf}}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {"Loss": 1.0}}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {"x" * 33: 1.0}}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {"loss": 1.0, "accuracy": 1.0}}),
        (evaluation(8, 10, 2.0), Evaluation, {"sums": {f"m{n:02}": 1.0 for n in range(MAX_SUMS + 1)}}),
        (genesis(), Genesis, {"roster": []}),
        (genesis(), Genesis, {"nonce": "xy"}),
        (genesis(), Genesis, {"agreement": {"classes": ["0"], "examples": 0}}),
        (genesis(), Genesis, {"blobs": {"state": RUN}}),
        (genesis(), Genesis, {"blobs": {"model": RUN, "other": RUN}}),
        (Card(CARD), Card, {"card": {"task": "digits", "examples": 0, "labels": []}}),
        (Card(CARD), Card, {"card": {"task": "digits", "examples": 1, "labels": [["", 1]]}}),
        (RECORD, Record, {"round": 0}),
        (RECORD, Record, {"kind": "guess"}),
        (RECORD, Record, {"then": "stop"}),
        (RECORD, Record, {"note": "x" * 301}),
        (status(), Status, {"progress": 1.5}),
        (status(), Status, {"min_nodes": 0}),
        (status(), Status, {"phase": "asleep"}),
        (CONTROL_REQUEST, ControlRequest, {"what": "explode"}),
        (Decline(RUN, "no"), Decline, {"reason": "x" * 301}),
        (Decline(RUN, "no"), Decline, {"reason": None}),
    ],
)
def test_what_is_out_of_bounds_is_refused(value: Struct, kind: Any, changes: Any) -> None:
    assert not refused(value, kind)
    assert refused(value, kind, **changes)


def test_a_roster_has_a_largest_size() -> None:
    entry = msgspec.to_builtins(RosterEntry(node("ada"), journal("ada"), "ada", 0, 1))
    assert not refused(genesis(), Genesis, roster=[entry] * MAX_ROSTER)
    assert refused(genesis(), Genesis, roster=[entry] * (MAX_ROSTER + 1))


def test_a_record_of_the_largest_roster_fits_a_frame_four_times() -> None:
    entries = tuple(
        RosterEntry(node("ada"), journal("ada"), "n" * 64, 65535, 2**40) for _ in range(MAX_ROSTER)
    )
    updates = tuple(update("ada", 1) for _ in range(MAX_ROSTER))
    record = msgspec.structs.replace(RECORD, roster=entries, updates=updates)
    assert len(msgspec.msgpack.encode(record)) < 256 * 1024


# --- digests ----------------------------------------------------------------------------------------------------


def test_the_digest_of_a_record_survives_the_wire() -> None:
    assert record_digest(through(RECORD, Record)) == record_digest(RECORD)
    assert record_digest(through(genesis(), Genesis)) == RUN


def test_a_record_has_one_digest_however_its_blobs_and_fields_were_ordered_on_the_way() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(RECORD))
    fields["blobs"] = {"state": "", "model": RECORD.model}
    shuffled = msgspec.msgpack.encode(dict(reversed(fields.items())))
    assert shuffled != msgspec.msgpack.encode(RECORD)
    assert record_digest(msgspec.msgpack.decode(shuffled, type=Record)) == record_digest(RECORD)


def test_the_roles_of_a_record_and_an_update_are_those_that_are_filled() -> None:
    assert RecordBlobs(RUN).roles == ("model",)
    assert RecordBlobs(RUN, state=RUN).roles == ("model", "state")
    assert UpdateBlobs(RUN).roles == ("update",)
    assert UpdateBlobs(RUN, control=RUN).roles == ("update", "control")


def test_evaluations_of_the_same_metrics_add_up_and_give_means() -> None:
    total = add_evaluations((evaluation(8, 10, 5.0), evaluation(1, 4, 2.0)))
    assert total == evaluation(9, 14, 7.0)
    assert total.metrics == {"accuracy": 9 / 14, "f1": 18 / 28, "loss": 0.5}


def test_an_evaluation_that_tells_no_number_of_examples_has_the_same_means() -> None:
    whole = evaluation(8, 10, 5.0)
    assert whole.as_one_example() == Evaluation(1, {"accuracy": 0.8, "loss": 0.5})


def test_the_f1_score_is_the_mean_of_the_classes_that_occur() -> None:
    counts = (ClassCount(2, 4, 2), ClassCount(3, 3, 5), ClassCount(0, 0, 0))
    metrics = Evaluation(7, {"accuracy": 5.0, "loss": 1.4}, counts).metrics
    assert metrics["f1"] == pytest.approx((2 * 2 / 6 + 2 * 3 / 8) / 2)


def test_the_coefficient_of_determination_follows_from_sums() -> None:
    targets, errors = (1.0, 2.0, 4.0), (0.5, -0.5, 0.5)
    sums = {
        "loss": sum(error**2 for error in errors),
        "target": sum(targets),
        "target_square": sum(target**2 for target in targets),
    }
    mean = sum(targets) / 3
    by_hand = 1 - sums["loss"] / sum((target - mean) ** 2 for target in targets)
    assert Evaluation(3, sums).metrics == pytest.approx({"loss": 0.25, "r2": by_hand})
    assert Evaluation(1, {"loss": 0.1, "target": 1.0, "target_square": 1.0}).metrics["r2"] == 0.0


def test_records_that_differ_only_in_their_roster_have_different_digests() -> None:
    smaller = msgspec.structs.replace(RECORD, roster=RECORD.roster[:2])
    assert smaller.model == RECORD.model
    assert record_digest(smaller) != record_digest(RECORD)


@pytest.mark.parametrize("field", Record.__struct_fields__)
def test_every_field_of_a_record_counts_in_its_digest(field: str) -> None:
    others = {
        "run": digest("x"),
        "round": 9,
        "previous": digest("x"),
        "kind": "evaluate",
        "trained": 9,
        "rounds": 99,
        "ballot": Ballot(9, node("cleo")),
        "blobs": RecordBlobs(digest("x")),
        "updates": (),
        "left_out": (msgspec.convert({"node": node("ada"), "reason": "late"}, LeftOut),),
        "evaluations": (),
        "roster": RECORD.roster[:1],
        "then": "pause",
        "note": "a word",
    }
    assert record_digest(msgspec.structs.replace(RECORD, **{field: others[field]})) != record_digest(RECORD)


# --- order and quorum -------------------------------------------------------------------------------------------

ballots = st.builds(
    Ballot, st.integers(1, 5), st.sampled_from([node(name) for name in ("ada", "ben", "cleo")])
)


@given(ballots, ballots)
def test_ballots_are_totally_ordered_by_attempt_and_then_node(one: Any, other: Any) -> None:
    assert (one < other) == ((one.attempt, one.node) < (other.attempt, other.node))
    assert (one == other) == (not one < other and not other < one)


@given(st.integers(1, MAX_ROSTER))
def test_two_quorums_always_share_a_member(size: Any) -> None:
    assert 2 * quorum(size) > size
    assert quorum(size) <= size


def test_a_member_is_a_pair() -> None:
    assert RECORD.roster[0].member == Member(node("ada"), journal("ada"))
    assert isinstance(COMMIT, Commit)


def test_the_largest_record_there_can_be_fits_a_frame_with_all_its_acceptors() -> None:
    members = [f"{number:0>52}".translate(str.maketrans("0189", "abcd")) for number in range(MAX_ROSTER)]
    ids = "f" * 32
    record = msgspec.structs.replace(
        RECORD,
        round=2**31,
        rounds=2**31,
        updates=(),
        left_out=tuple(LeftOut(member, LARGEST * 300) for member in members),
        evaluations=tuple(MemberEvaluation(member, LARGEST_EVALUATION) for member in members),
        roster=tuple(
            RosterEntry(member, ids, LARGEST * 64, slot, 2**40) for slot, member in enumerate(members)
        ),
        note=LARGEST * 300,
    )
    votes = tuple(SignedVote(member, ids, 2**53, bytes(256), bytes(128)) for member in members)
    commit = Commit(record, Ballot(MAX_ATTEMPT, members[0]), votes)
    message = Records(run=RUN, genesis=None, commits=(commit,))
    assert msgspec.convert(msgspec.to_builtins(message), Records) == message, "the types let it pass"
    assert len(msgspec.msgpack.encode(message)) <= NetSettings().max_frame_bytes - FRAME_MARGIN


def test_record_0_fits_a_frame_with_the_largest_roster_however_many_tensors_the_model_has() -> None:
    roster = tuple(
        RosterEntry(node("ada"), "f" * 32, LARGEST * 64, slot, 2**40) for slot in range(MAX_ROSTER)
    )
    origins = tuple(Origin(RUN, 2**31, RUN, 2**31) for _ in range(MAX_ORIGINS))
    tensors = [TensorSpec(f"{number:0>150}", "F32", (1, 2, 3)) for number in range(15_000)]
    layout = layout_of(canonical(tensors))
    assert layout.header_bytes > 2 * NetSettings().max_frame_bytes
    record_0 = msgspec.structs.replace(genesis(), roster=roster, continues=origins, layout=layout)
    assert len(msgspec.msgpack.encode(Offer(record_0))) <= NetSettings().max_frame_bytes
