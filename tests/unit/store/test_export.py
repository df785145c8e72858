from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from blake3 import blake3

from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.schema import FrozenTensors, TensorSpec, canonical, file_bytes, frozen_mark, header, layout_of
from p2pfl.store.export import export_blob, personal_file, with_metadata
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


# --- tensors that stay on the device ------------------------------------------------------------------------

STILL = canonical([TensorSpec("body", "F32", (2,))])
STILL_CONTENT = header(STILL) + np.array([3, 4], "<f4").tobytes()
MARK = frozen_mark(FrozenTensors(blake3(STILL_CONTENT).hexdigest(), layout_of(STILL)))
MARKED = canonical([*SCHEMA, MARK])
MARKED_CONTENT = header(MARKED) + bytes(file_bytes(MARKED) - len(header(MARKED)))


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """Return a model with frozen tensors, which are beside it."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "frozen").mkdir()
    put(tmp_path / "frozen", STILL_CONTENT)
    return put(tmp_path / "blobs", MARKED_CONTENT)


def test_frozen_and_personal_tensors_are_put_together_with_the_exchanged_ones(marked: Path) -> None:
    folder, run = marked.parent.parent, "aa" * 32
    (folder / "memory" / run[:32]).mkdir(parents=True)
    memory = folder / "memory" / run[:32] / f"3-{'11' * 16}"
    safetensors.numpy.save_file({"personal:head": np.array([5], "<f4")}, memory)
    target = folder / "model.safetensors"
    personal = personal_file(marked.parent, run, ["22" * 32, "11" * 32])
    export_blob(marked, layout_of(MARKED), target, force=False, metadata={"a": "b"}, personal=personal)
    found = safetensors.numpy.load_file(target)
    assert set(found) == {"weight", "steps", "body", "head"}
    assert (found["body"].tolist(), found["head"].tolist()) == ([3.0, 4.0], [5.0])
    with safetensors.safe_open(target, "np") as file:
        assert file.metadata() == {"a": "b"}
    assert {path.name for path in folder.iterdir()} == {"blobs", "frozen", "memory", "model.safetensors"}


def test_frozen_tensors_that_are_not_here_are_told(marked: Path) -> None:
    (marked.parent.parent / "frozen" / blake3(STILL_CONTENT).hexdigest()).unlink()
    target = marked.parent / "model.safetensors"
    with pytest.raises(DataDirectoryError, match="the frozen parameters of this model are not here, since"):
        export_blob(marked, layout_of(MARKED), target, force=False)
    assert [path.name for path in marked.parent.iterdir()] == [marked.name]


def test_damaged_frozen_tensors_are_told(marked: Path) -> None:
    (marked.parent.parent / "frozen" / blake3(STILL_CONTENT).hexdigest()).write_bytes(STILL_CONTENT[:-1])
    with pytest.raises(DataDirectoryError, match="is damaged: its bytes are no longer the frozen parameters"):
        export_blob(marked, layout_of(MARKED), marked.parent / "model.safetensors", force=False)


def test_the_personal_file_is_that_of_the_latest_counted_update_else_the_oldest(tmp_path: Path) -> None:
    run = "aa" * 32
    assert personal_file(tmp_path / "blobs", run, ["11" * 32]) is None
    folder = tmp_path / "memory" / run[:32]
    folder.mkdir(parents=True)
    names = [f"{round_}-{digit * 32}" for round_, digit in ((9, "1"), (10, "2"), (11, "3"))]
    for name in names:
        (folder / name).touch()
    found = personal_file(tmp_path / "blobs", run, ["4" * 64, "2" * 64, "1" * 64])
    assert found is not None
    assert found.name == names[1]
    oldest = personal_file(tmp_path / "blobs", run, [])
    assert oldest is not None
    assert oldest.name == names[0]
