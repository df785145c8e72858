from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import safetensors.numpy
from blake3 import blake3

from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.schema import file_bytes, header
from p2pfl.store.export import export_blob, with_metadata
from tests.support.records import LAYOUT, SCHEMA

CONTENT = header(SCHEMA) + bytes(file_bytes(SCHEMA) - len(header(SCHEMA)))


def put(folder: Path, content: bytes) -> Path:
    blob = folder / blake3(content).hexdigest()
    blob.write_bytes(content)
    return blob


def test_an_exported_model_is_loadable_by_safetensors_and_the_same_bytes(tmp_path: Path) -> None:
    target = tmp_path / "out" / "model.safetensors"
    target.parent.mkdir()
    export_blob(put(tmp_path, CONTENT), LAYOUT, target, force=False)
    tensors = safetensors.numpy.load_file(target)
    assert target.read_bytes() == CONTENT
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"weight": (2, 3), "steps": ()}
    assert [path.name for path in target.parent.iterdir()] == ["model.safetensors"]


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    target.write_text("precious")
    with pytest.raises(UserError, match="exists already; choose another name, or add --force"):
        export_blob(put(tmp_path, CONTENT), LAYOUT, target, force=False)
    assert target.read_text() == "precious"
    export_blob(put(tmp_path, CONTENT), LAYOUT, target, force=True)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content", [CONTENT[:-1], CONTENT[:-1] + b"x", b"\0" * len(CONTENT)], ids=["cut", "flipped", "no header"]
)
def test_a_damaged_blob_is_not_exported(tmp_path: Path, content: bytes) -> None:
    blob = put(tmp_path, CONTENT)
    blob.write_bytes(content)
    target = tmp_path / "model.safetensors"
    target.write_text("precious")
    with pytest.raises(DataDirectoryError, match=f"{blob} is damaged"):
        export_blob(blob, LAYOUT, target, force=True)
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {blob.name, target.name}


def test_a_blob_of_another_schema_is_not_exported(tmp_path: Path) -> None:
    blob = put(tmp_path, b"\0" * len(CONTENT))
    with pytest.raises(DataDirectoryError, match="is damaged"):
        export_blob(blob, LAYOUT, tmp_path / "model.safetensors", force=False)


def test_a_blob_collected_meanwhile_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="is not here any more; export a later one"):
        export_blob(
            tmp_path / blake3(CONTENT).hexdigest(), LAYOUT, tmp_path / "model.safetensors", force=False
        )


def test_a_blob_written_over_meanwhile_is_told_as_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = put(tmp_path, CONTENT)
    blob.write_bytes(b"x" * len(CONTENT))
    source = blob.open("rb")
    blob.unlink()
    monkeypatch.setattr("p2pfl.store.export._open", lambda _blob: source)
    with pytest.raises(DataDirectoryError, match="is not here any more; export a later one"):
        export_blob(blob, LAYOUT, tmp_path / "model.safetensors", force=False)


def test_a_folder_as_target_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} is a folder; name the file to write"):
        export_blob(put(tmp_path, CONTENT), LAYOUT, tmp_path, force=True)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; make it first"):
        export_blob(put(tmp_path, CONTENT), LAYOUT, tmp_path / "none" / "model.safetensors", force=False)


def test_metadata_are_added_and_the_tensors_stay_the_same_bytes(tmp_path: Path) -> None:
    content = header(SCHEMA) + bytes(range(file_bytes(SCHEMA) - len(header(SCHEMA))))
    target = tmp_path / "model.safetensors"
    metadata = {"p2pfl": '{"classes":["ñ \\" ☃"]}', "format": "pt"}
    export_blob(put(tmp_path, content), LAYOUT, target, force=False, metadata=metadata)
    with safetensors.safe_open(target, "np") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == {"weight", "steps"}
    start = target.read_bytes()
    length = int.from_bytes(start[:8], "little")
    assert length % 8 == 0, "tensors stay aligned"
    assert start[8 + length :] == content[len(header(SCHEMA)) :]
    before = safetensors.numpy.load(content)
    after = safetensors.numpy.load_file(target)
    assert {name: tensor.tobytes() for name, tensor in after.items()} == {
        name: tensor.tobytes() for name, tensor in before.items()
    }


def test_a_damaged_blob_is_not_exported_with_metadata_either(tmp_path: Path) -> None:
    blob = put(tmp_path, CONTENT)
    blob.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DataDirectoryError, match="is damaged"):
        export_blob(blob, LAYOUT, tmp_path / "a.safetensors", force=True, metadata={"a": "b"})
    assert [path.name for path in tmp_path.iterdir()] == [blob.name]


def test_a_model_without_tensors_takes_metadata_too() -> None:
    start = with_metadata(header(()), {"a": "b"})
    assert json.loads(start[8:]) == {"__metadata__": {"a": "b"}}
    assert int.from_bytes(start[:8], "little") == len(start) - 8
