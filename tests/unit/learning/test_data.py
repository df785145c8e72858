from __future__ import annotations

from pathlib import Path

import msgspec
import platformdirs
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import CIFAR10, DIGITS, FASHION_MNIST
from p2pfl.learning.data import Bundled, DataPlaces, DataSet, default_root, locate

NAMES = ("images", "labels")


def make_set(system: Path | None = None, *, is_flat: bool = True) -> DataSet:
    return DataSet(
        "Things",
        "Things/raw",
        NAMES,
        is_flat=is_flat,
        system_folder=str(system) if system is not None else None,
        system_package="dataset-things" if system is not None else None,
    )


def put(folder: Path, *names: str) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / name for name in names)
    for path in paths:
        path.write_bytes(b"")
    return paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for data sets."""
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, appauthor: tmp_path / "home" / name)
    root = default_root()
    assert root is not None
    return root


def test_the_users_folder_is_not_among_the_data_directories_of_nodes(home: Path) -> None:
    assert home.name == "p2pfl-datasets"


@pytest.mark.parametrize("folder", ["Things/raw", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_are_found_as_torchvision_lays_them_out_and_flat(
    tmp_path: Path, folder: str, ending: str
) -> None:
    paths = put(tmp_path / folder, *(name + ending for name in NAMES))
    assert locate("t", make_set(), DataPlaces(tmp_path)) == paths


def test_a_plain_file_is_preferred_to_the_compressed_one(tmp_path: Path) -> None:
    put(tmp_path, "images.gz", "labels.gz")
    plain = put(tmp_path, "images")
    assert locate("t", make_set(), DataPlaces(tmp_path)) == (*plain, tmp_path / "labels.gz")


def test_files_of_two_folders_are_not_mixed(tmp_path: Path) -> None:
    put(tmp_path, "images")
    put(tmp_path / "Things" / "raw", "labels")
    with pytest.raises(TaskError, match="not on this device"):
        locate("t", make_set(), DataPlaces(tmp_path))


def test_the_users_folder_comes_before_the_systems(home: Path, tmp_path: Path) -> None:
    systems = put(tmp_path / "system", *NAMES)
    source = make_set(tmp_path / "system")
    assert locate("t", source, DataPlaces()) == systems
    own = put(home / "Things" / "raw", *NAMES)
    assert locate("t", source, DataPlaces()) == own


def test_with_a_data_root_nothing_else_is_looked_at(home: Path, tmp_path: Path) -> None:
    put(home, *NAMES)
    put(tmp_path / "system", *NAMES)
    with pytest.raises(TaskError) as caught:
        locate("t", make_set(tmp_path / "system"), DataPlaces(tmp_path / "root"))
    assert f"Looked for images and others in {tmp_path}/root/Things/raw, {tmp_path}/root." in str(
        caught.value
    )


def test_missing_data_say_where_they_were_looked_for_and_how_to_get_them(home: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        locate("t", make_set(tmp_path / "system"), DataPlaces())
    assert str(caught.value) == (
        "The data of the task 't' are not on this device; use --download, or the Debian package dataset-things, "
        "or --data-root with the folder they are in. "
        f"Looked for images and others in {home}/Things/raw, {home}, {tmp_path}/system."
    )


def test_a_set_that_is_only_known_by_its_folder_is_not_found_flat_or_compressed(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    put(tmp_path / "Things" / "raw", "images.gz", "labels.gz")
    with pytest.raises(TaskError):
        locate("t", make_set(is_flat=False), DataPlaces(tmp_path))
    paths = put(tmp_path / "Things" / "raw", *NAMES)
    assert locate("t", make_set(is_flat=False), DataPlaces(tmp_path)) == paths


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    put(tmp_path, "labels")
    (tmp_path / "images").mkdir()
    with pytest.raises(TaskError):
        locate("t", make_set(), DataPlaces(tmp_path))


def test_bundled_data_are_found_without_importing_their_package() -> None:
    [path] = locate("digits", DIGITS.data, DataPlaces())
    assert path.name == "digits.csv.gz"


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"package": "no_such_package"}, "no_such_package"), ({"file": "x.gz"}, "x.gz")],
)
def test_missing_bundled_data_are_named(changes: dict[str, str], missing: str) -> None:
    assert isinstance(DIGITS.data, Bundled)
    source = msgspec.structs.replace(DIGITS.data, **changes)
    with pytest.raises(TaskError, match=rf"data of the task 'digits' are missing \(.*{missing}\)"):
        locate("digits", source, DataPlaces())


def test_debians_fashion_mnist_is_among_the_places() -> None:
    assert isinstance(FASHION_MNIST.data, DataSet)
    assert FASHION_MNIST.data.system_folder == "/usr/share/datasets/fashion-mnist"


def test_cifar10_is_looked_for_in_torchvisions_folder(tmp_path: Path) -> None:
    assert isinstance(CIFAR10.data, DataSet)
    paths = put(tmp_path / "cifar-10-batches-py", *CIFAR10.data.files)
    assert locate("cifar10", CIFAR10.data, DataPlaces(tmp_path)) == paths
    assert [path.name for path in paths][4:] == ["data_batch_5", "test_batch", "batches.meta"]
