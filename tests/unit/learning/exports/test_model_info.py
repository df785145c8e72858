from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import safetensors
import safetensors.torch
import torch

import p2pfl
from p2pfl.cards import REGRESSION, AgreedColumn, Agreement
from p2pfl.errors import UserError
from p2pfl.learning.catalogue import DIGITS
from p2pfl.learning.exports.model_info import KEY, ModelInfo, read_info, read_schema, task_label
from p2pfl.learning.pictures.inputs import PictureInputs
from p2pfl.learning.weights import schema_of
from p2pfl.spec import RunSpec
from tests.support.exported import METRICS, export_module, info_of
from tests.support.learning import SPEC, Mixed, pictures_spec
from tests.support.records import AGREEMENT
from tests.support.tables import table_spec
from tests.support.user_tasks import file_spec

CITY = AgreedColumn("city", "category", is_gappy=True, categories=("León", "Vigo"))
AGE = AgreedColumn("age", "number", mean=41.5, deviation=1 / 3)
TABLE = Agreement((), 90, REGRESSION, columns=(AGE, CITY), target=AgreedColumn("price", "number", mean=7.0))
PICTURES = Agreement(("cat", "dog"), 90, input_shape=(3, 8, 8))

KINDS: list[tuple[RunSpec, Agreement]] = [
    (SPEC, AGREEMENT),
    (pictures_spec(model="lenet"), PICTURES),
    (table_spec(target="price"), TABLE),
    (file_spec(), Agreement(("a", "b"), 90, input_shape=(4,))),
]


@pytest.mark.parametrize(("spec", "agreement"), KINDS, ids=lambda value: type(value).__name__)
def test_a_file_tells_what_was_exported(tmp_path: Path, spec: RunSpec, agreement: Agreement) -> None:
    path = export_module(tmp_path, Mixed(), spec, agreement)
    info = read_info(path)
    assert info == info_of(spec, agreement, info.digest)
    assert (info.spec, info.task, info.classes) == (spec, spec.task, agreement.classes)
    assert (info.run, info.round, info.record) == ("ab" * 32, 3, "22" * 32)
    assert (info.metrics, info.examples, info.version) == (METRICS, 50, p2pfl.__version__)
    again = info.agreement()
    assert (again.columns, again.target, again.measures) == (
        agreement.columns,
        agreement.target,
        agreement.measures,
    )


def test_pictures_have_shape_and_scaling() -> None:
    assert info_of(SPEC, AGREEMENT).pictures == DIGITS.inputs
    assert info_of(SPEC, AGREEMENT).input_shape == (1, 8, 8)
    private = info_of(pictures_spec(model="lenet"), PICTURES)
    assert private.pictures == PictureInputs((3, 8, 8), (0.5,) * 3, (0.25,) * 3)
    assert info_of(table_spec(), TABLE).pictures is None


def test_the_architecture_is_the_built_in_model_or_ones_own() -> None:
    assert [info_of(*kind).architecture for kind in KINDS] == ["2nn", "lenet", "mlp", "own"]


def test_plain_keys_tell_people_the_same(tmp_path: Path) -> None:
    path = export_module(tmp_path, Mixed(), *KINDS[1])
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert {name: metadata[name] for name in ("format", "task", "architecture", "strategy", "round")} == {
        "format": "pt",
        "task": "pictures",
        "architecture": "lenet",
        "strategy": "fedavg",
        "round": "3",
    }
    assert json.loads(metadata["classes"]) == ["cat", "dog"]
    assert json.loads(metadata[KEY])["pictures"]["mean"] == [0.5, 0.5, 0.5]


def test_columns_are_told_by_name() -> None:
    told = json.loads(info_of(table_spec(), TABLE).metadata()[KEY])
    assert told["columns"][1] == {
        "name": "city",
        "kind": "category",
        "is_gappy": True,
        "mean": 0.0,
        "deviation": 1.0,
        "categories": ["León", "Vigo"],
    }
    assert told["target"]["mean"] == 7.0


def test_the_label_of_a_task_has_its_kind_and_name() -> None:
    assert [task_label(spec.task) for spec, _ in KINDS] == [
        "builtin:digits",
        "pictures",
        "table:price",
        "file:mine",
    ]


def test_the_schema_is_read_without_the_metadata(tmp_path: Path) -> None:
    assert read_schema(export_module(tmp_path, Mixed(), *KINDS[0])) == schema_of(Mixed())


def _rewritten(tmp_path: Path, **changes: object) -> Path:
    fields = json.loads(msgspec.json.encode(info_of(*KINDS[0]))) | changes
    path = tmp_path / "changed.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(1)}, path, {KEY: json.dumps(fields)})
    return path


def test_a_description_of_a_newer_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a newer p2pfl may have written it; upgrade p2pfl"):
        read_info(_rewritten(tmp_path, invention=1))
    spec = json.loads(msgspec.json.encode(SPEC)) | {"task": {"type": "dreams"}}
    with pytest.raises(UserError, match="task 'dreams'"):
        read_info(_rewritten(tmp_path, spec=spec))


def test_a_description_out_of_bounds_is_refused(tmp_path: Path) -> None:
    assert isinstance(read_info(_rewritten(tmp_path)), ModelInfo)
    column = {"name": "a", "kind": "song", "is_gappy": False, "mean": 0, "deviation": 1, "categories": []}
    with pytest.raises(UserError, match="cannot be read"):
        read_info(_rewritten(tmp_path, columns=[column]))


def test_a_file_without_a_description_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="does not say which task and model it is of"):
        read_info(path)


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\xff" * 40, b"\x04" + bytes(7) + b"[{}]"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no safetensors file"):
        read_info(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.safetensors cannot be read: No such file"):
        read_info(tmp_path / "none.safetensors")


def test_a_header_that_is_no_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    text = b'{"w":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}   '
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(UserError, match="has dtype 'F7'"):
        read_schema(path)
