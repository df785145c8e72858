"""PROTOCOL.md says what the code does: its test vectors, its tables of frames and records, its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from blake3 import blake3
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from p2pfl import cards, messages, personal_specs, proofs, spec
from p2pfl.config import NetSettings, ProtocolSettings
from p2pfl.core.roster import ranked, selection
from p2pfl.enrolment import frames as enrolment
from p2pfl.enrolment import pake
from p2pfl.identity import signatures
from p2pfl.identity.keys import id_of_spki, node_id_of
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.identity.lifetime import Lifetime
from p2pfl.identity.peer import certificate_uris
from p2pfl.identity.revocation import parse_revocations
from p2pfl.identity.signatories import verify_statement
from p2pfl.messages import Genesis, Message, Record, RosterEntry, record_digest
from p2pfl.proofs import casts_of
from p2pfl.schema import Layout, Schema, canonical, file_bytes, header, layout_of, parse_header
from p2pfl.spec import with_options
from p2pfl.statements import Statement
from p2pfl.wire import links, observing
from p2pfl.wire.blobs import (
    BlobRefusal,
    BulkOpening,
    Serve,
    decode_opening,
    encode_request,
    encode_serve,
)
from p2pfl.wire.codec import ControlFrame, decode, encode
from p2pfl.wire.frames import FrameDecoder, encode_frame
from p2pfl.wire.links import LinkFrame
from tests.support.records import SPEC
from tests.support.source import PACKAGE

TEXT = (PACKAGE / "PROTOCOL.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```vector (\S+)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| ([^|]+) \|([^|]*)\|", re.MULTILINE)

Vector = dict[str, str]
ROUNDS = (1, 2, 3)
LIMIT = NetSettings().max_frame_bytes


def vectors() -> list[tuple[str, Vector]]:
    """Return kind and lines of every vector in the document."""
    return [
        (kind, dict(line.split(": ", 1) for line in lines.splitlines()))
        for kind, lines in BLOCK.findall(TEXT)
    ]


def check_node_id(vector: Vector) -> None:
    key = load_der_public_key(bytes.fromhex(vector["spki"]))
    assert node_id_of(key) == vector["id"]  # type: ignore[arg-type]


def check_frame(vector: Vector) -> None:
    frame = msgspec.json.decode(vector["json"], type=ControlFrame)
    data = bytes.fromhex(vector["frame"])
    assert encode_frame(encode(frame), LIMIT) == data
    (body,) = FrameDecoder(LIMIT).feed(data)
    assert decode(body) == frame


def check_bulk(vector: Vector) -> None:
    opening = msgspec.json.decode(vector["json"], type=BulkOpening)
    data = bytes.fromhex(vector["frame"])
    assert (encode_serve(opening) if isinstance(opening, Serve) else encode_request(opening)) == data
    assert decode_opening(data[4:]) == opening


def check_observing(vector: Vector) -> None:
    watch = msgspec.json.decode(vector["json"], type=observing.WatchRequest)
    data = bytes.fromhex(vector["frame"])
    assert encode_frame(observing.encode(watch), LIMIT) == data
    assert observing.decode_observer(data[4:]) == watch


def check_schema(vector: Vector) -> None:
    schema = canonical(msgspec.json.decode(vector["tensors"], type=Schema))
    assert header(schema).hex() == vector["header"]
    assert file_bytes(schema) == int(vector["length"])
    assert layout_of(schema).header == vector["digest"]
    assert parse_header(bytes.fromhex(vector["header"])) == schema


def check_record(vector: Vector, kind: type[Record] | type[Genesis] = Record) -> None:
    record = msgspec.json.decode(vector["json"], type=kind)
    data = bytes.fromhex(vector["bytes"])
    assert msgspec.msgpack.encode(record) == data
    assert msgspec.msgpack.decode(data, type=kind) == record
    assert record_digest(record) == blake3(data).hexdigest() == vector["digest"]


def check_genesis(vector: Vector) -> None:
    check_record(vector, Genesis)


def check_rank(vector: Vector) -> None:
    for round_ in ROUNDS:
        assert ranked(vector["run"], round_, vector["nodes"].split()) == vector[f"round-{round_}"].split()


def check_sample(vector: Vector) -> None:
    counts = map(int, vector["examples"].split())
    stated = zip(vector["nodes"].split(), counts, strict=True)
    entries = [RosterEntry(node, "0" * 32, "x", 0, examples) for node, examples in stated]
    given = {"sample": int(vector["sample"]), "sample_by": vector["sample-by"]}
    spec = with_options(SPEC, **given)
    for round_ in ROUNDS:
        chosen = selection(vector["run"], round_, entries, spec)
        assert sorted(chosen) == vector[f"round-{round_}"].split()


def check_signature(vector: Vector) -> None:
    key, signature, text = (bytes.fromhex(vector[name]) for name in ("key", "signature", "text"))
    assert signatures.verify(vector["node"], key, signature, text)
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(text)) == text


def check_enrolment(vector: Vector) -> None:
    sides: dict[str, pake.Pake] = {}
    for side in get_args(pake.Side):
        random = {64: bytes.fromhex(vector[f"{side}-scalar"]).rjust(64, b"\0")}
        random[32] = bytes.fromhex(vector[f"{side}-nonce"])
        sides[side] = pake.Pake(side, vector["code"], random.__getitem__)
        assert sides[side].message.element.hex() == vector[f"{side}-element"]
    binding = pake.TlsBinding(bytes.fromhex(vector["certificate"]), bytes.fromhex(vector["finished"]))
    keys = sides["joiner"].finish(sides["inviter"].message, binding)
    assert keys == sides["inviter"].finish(sides["joiner"].message, binding)
    assert (keys.secret.hex(), keys.transcript.hex()) == (vector["secret"], vector["digest"])
    for side in get_args(pake.Side):
        assert keys.proof(side).hex() == vector[f"{side}-proof"]
        assert keys.mac(side, bytes.fromhex(vector["body"])).hex() == vector[f"{side}-mac"]


def authority_of(vector: Vector) -> x509.Certificate:
    return x509.load_der_x509_certificate(bytes.fromhex(vector["authority"]))


def check_statement(vector: Vector) -> None:
    statement = msgspec.json.decode(vector["json"], type=Statement)
    assert statement.text.hex() == vector["text"]
    signed = verify_statement(statement, authority_of(vector), "lab")
    assert signed is not None
    assert signed.by.name == vector["by"]


def check_revocations(vector: Vector) -> None:
    try:
        listed = parse_revocations(bytes.fromhex(vector["crl"]), authority_of(vector))
    except ValueError as error:
        raise AssertionError from error
    assert (listed.number, listed.keys) == (int(vector["number"]), frozenset({vector["key"]}))


def signed_texts() -> set[bytes]:
    """Return what the frames among the vectors hold signed."""
    frames = [
        msgspec.json.decode(lines["json"], type=ControlFrame) for kind, lines in vectors() if kind == "frame"
    ]
    texts: set[bytes] = set()

    def note(_node: str, _key: bytes, _signature: bytes, text: bytes) -> bool:
        texts.add(text)
        return True

    for frame in frames:
        if isinstance(frame, links.Hello):
            frame.claim.is_valid(id_of_spki(frame.claim.key), note)
        elif isinstance(frame, messages.Commit):
            for cast in casts_of(frame):
                cast.is_valid(note)
    return texts


def check_renewal(vector: Vector) -> None:
    authority, old, new = (
        x509.load_der_x509_certificate(bytes.fromhex(vector[name])) for name in ("authority", "old", "new")
    )
    lives = []
    for certificate in (old, new):
        certificate.verify_directly_issued_by(authority)
        lives.append(Lifetime(certificate.not_valid_before_utc, certificate.not_valid_after_utc))
    assert old.public_key() == new.public_key()
    assert certificate_uris(old) == certificate_uris(new) == ["spiffe://lab/node/ant"]
    assert [life.length.total_seconds() for life in lives] == [float(vector["life"])] * 2
    assert lives[0].renewed_from <= lives[1].issued_at <= lives[0].not_after


CHECKS: dict[str, Callable[[Vector], None]] = {
    "node-id": check_node_id,
    "frame": check_frame,
    "bulk": check_bulk,
    "observing": check_observing,
    "schema": check_schema,
    "genesis": check_genesis,
    "record": check_record,
    "rank": check_rank,
    "sample": check_sample,
    "signature": check_signature,
    "renewal": check_renewal,
    "enrolment": check_enrolment,
    "statement": check_statement,
    "revocations": check_revocations,
}


@pytest.mark.parametrize(("kind", "vector"), vectors())
def test_a_vector_is_what_the_code_makes(kind: str, vector: dict[str, str]) -> None:
    CHECKS[kind](vector)


def test_the_signed_texts_are_those_of_the_frames() -> None:
    told = {bytes.fromhex(lines["text"]) for kind, lines in vectors() if kind == "signature"}
    assert told <= signed_texts()
    assert {msgspec.msgpack.decode(text)[0] for text in told} == {"p2pfl acceptance", "p2pfl start"}


def test_every_signature_in_a_frame_is_valid() -> None:
    for kind, lines in vectors():
        frame = msgspec.json.decode(lines["json"], type=ControlFrame) if kind == "frame" else None
        if isinstance(frame, links.Hello):
            assert frame.claim.is_valid(id_of_spki(frame.claim.key), signatures.verify)
        elif isinstance(frame, messages.Commit):
            assert all(cast.is_valid(signatures.verify) for cast in casts_of(frame))


def test_every_kind_of_vector_is_in_the_document() -> None:
    assert {kind for kind, _ in vectors()} == set(CHECKS)
    types = {json.loads(lines["json"])["type"] for kind, lines in vectors() if kind == "frame"}
    assert types == {"hello", "status", "commit", "renew"}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_changed_vector_is_noticed(kind: str) -> None:
    vector = next(lines for found, lines in vectors() if found == kind)
    result = next(
        key for key in ("id", "frame", "length", "digest", "round-3", "text", "life", "crl") if key in vector
    )
    last = vector[result][-1]
    changed = vector | {result: vector[result][:-1] + ("2" if last != "2" else "3")}
    with pytest.raises(AssertionError):
        CHECKS[kind](changed)


def fields_in_the_document() -> dict[str, tuple[str, ...]]:
    """Return the fields of every row whose first cell is a tag or a struct's name."""
    return {name.strip("`"): tuple(re.findall(r"`([a-z_]+)`", fields)) for name, fields in ROW.findall(TEXT)}


FRAMES = [
    *get_args(LinkFrame),
    *get_args(Message),
    *get_args(BulkOpening),
    BlobRefusal,
    *get_args(observing.ObserverFrame),
    *get_args(observing.NodeFrame),
    *get_args(enrolment.JoinerFrame),
    *get_args(enrolment.InviterFrame),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.__struct_config__.tag)
def test_a_frame_has_the_fields_of_its_row_in_their_order(frame: Any) -> None:
    assert fields_in_the_document()[frame.__struct_config__.tag] == frame.__struct_fields__


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("wish", enrolment.Wish),
        ("grant", enrolment.Grant),
        ("member", KnownPeer),
        ("genesis", messages.Genesis),
        ("layout", Layout),
        ("origin", messages.Origin),
        ("signed vote", messages.SignedVote),
        ("claim", proofs.Claim),
        ("signed statement", Statement),
        ("spec", spec.RunSpec),
        ("builtin task", spec.BuiltinTask),
        ("pictures task", spec.PicturesTask),
        ("table task", spec.TableTask),
        ("file task", spec.FileTask),
        ("script task", spec.ScriptTask),
        ("stopping", spec.Stopping),
        ("personalisation", personal_specs.Personalisation),
        ("adapters", personal_specs.LoraSpec),
        ("target", spec.MetricTarget),
        ("measures", cards.Measures),
        ("column card", cards.ColumnCard),
        ("column", cards.AgreedColumn),
        ("class count", messages.ClassCount),
        ("local training", spec.LocalTraining),
        ("participation", spec.Participation),
        ("data agreement", cards.Agreement),
        ("data card", cards.DataCard),
        ("label count", cards.LabelCount),
        ("record's blobs", messages.RecordBlobs),
        ("update's blobs", messages.UpdateBlobs),
        ("model provenance", messages.Provenance),
        ("roster entry", messages.RosterEntry),
        ("record", messages.Record),
        ("update", messages.UpdateEntry),
        ("left out", messages.LeftOut),
        ("member's evaluation", messages.MemberEvaluation),
        ("evaluation", messages.Evaluation),
    ],
)
def test_a_part_of_a_record_has_the_fields_of_its_row_in_their_order(name: str, struct: Any) -> None:
    assert fields_in_the_document()[name] == struct.__struct_fields__


@pytest.mark.parametrize("settings", [NetSettings(), ProtocolSettings()], ids=lambda one: type(one).__name__)
def test_the_limits_and_timings_are_the_defaults(settings: NetSettings | ProtocolSettings) -> None:
    rows = {name.strip("`"): value.strip() for name, value in ROW.findall(TEXT)}
    told = {name: float(rows[name].replace(",", "")) for name in settings.__struct_fields__}
    assert told == {name: float(value) for name, value in msgspec.structs.asdict(settings).items()}
