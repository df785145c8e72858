"""The test vectors of PROTOCOL.md are what the code computes: a second implementation can rely on them."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from p2pfl.core.roster import ranked, sampled
from p2pfl.identity.keys import node_id_of
from p2pfl.messages import Commit, Founding, Prepare, Record, RosterEntry, record_digest
from p2pfl.schema import TensorSpec, canonical, file_bytes, header, parse_header
from p2pfl.wire.blobs import BlobRequest, encode_request
from p2pfl.wire.codec import decode, encode
from p2pfl.wire.links import Hello

DOCUMENT = Path(__file__).parents[2] / "p2pfl" / "PROTOCOL.md"
BLOCKS = dict(re.findall(r"^```json ([a-z ]+)\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S))
VECTORS = {name: json.loads(text) for name, text in BLOCKS.items()}


def test_a_node_id_is_the_digest_of_the_public_key():
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    vector = VECTORS["node id"]
    assert node_id_of(load_der_public_key(bytes.fromhex(vector["spki"]))) == vector["node"]


def test_the_run_id_is_the_digest_of_record_0():
    vector = VECTORS["founding"]
    founding = msgspec.convert(vector["value"], Founding)
    assert msgspec.msgpack.encode(founding).hex() == vector["bytes"]
    assert record_digest(founding) == vector["run"]


def test_a_records_digest_covers_its_fields_in_order():
    vector = VECTORS["record"]
    assert record_digest(msgspec.convert(vector["value"], Record)) == vector["digest"]


@pytest.mark.parametrize(("name", "kind"), [("commit", Commit), ("hello", Hello), ("prepare", Prepare)])
def test_a_control_frame_is_a_length_and_a_tagged_map(name, kind):
    frame = bytes.fromhex(VECTORS[f"{name} frame"]["frame"])
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    message = decode(frame[4:])
    assert isinstance(message, kind)
    assert encode(message) == frame[4:]


def test_a_schema_has_one_header_and_one_length():
    vector = VECTORS["schema"]
    schema = canonical(msgspec.convert(vector["tensors"], list[TensorSpec]))
    assert header(schema).hex() == vector["header"]
    assert file_bytes(schema) == vector["file bytes"]
    assert parse_header(bytes.fromhex(vector["header"])) == schema


def test_candidates_rank_by_hash():
    vector = VECTORS["rank"]
    assert {
        round_: ranked(vector["run"], int(round_), vector["nodes"]) for round_ in vector["rounds"]
    } == vector["rounds"]


def test_a_sample_is_drawn_by_hash():
    vector = VECTORS["sample"]
    roster = [RosterEntry(node, "0" * 32, node[:1], slot) for slot, node in enumerate(vector["nodes"])]
    drawn = {
        round_: sorted(sampled(vector["run"], int(round_), roster, vector["count"])[: vector["count"]])
        for round_ in vector["rounds"]
    }
    assert drawn == vector["rounds"]


def test_a_bulk_request_is_one_small_frame():
    vector = VECTORS["bulk request"]
    assert encode_request(BlobRequest(vector["digest"], vector["offset"])).hex() == vector["frame"]
