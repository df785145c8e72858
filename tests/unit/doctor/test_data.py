from __future__ import annotations

from pathlib import Path

from p2pfl.doctor.data import check_task, survey_data
from p2pfl.learning.data import DataPlaces
from tests.support.images import write_images


def test_the_task_s_data_are_looked_for_and_their_folder_is_named(tmp_path: Path) -> None:
    missing = check_task("fashion-mnist", DataPlaces(tmp_path))
    assert missing.level == "FAIL"
    assert f"Looked for train-images-idx3-ubyte and others in {tmp_path}/FashionMNIST/raw" in missing.text
    write_images(tmp_path / "FashionMNIST" / "raw", 10, 10, side=1)
    found = check_task("fashion-mnist", DataPlaces(tmp_path))
    assert found.level == "ok"
    assert f"in {tmp_path}/FashionMNIST/raw" in found.text


def test_it_is_told_of_which_tasks_data_are_here(tmp_path: Path) -> None:
    write_images(tmp_path / "MNIST" / "raw", 10, 10, side=1)
    finding = survey_data(DataPlaces(tmp_path))
    assert finding.level == "ok"
    assert finding.text == (
        "data here: digits, mnist; not here: fashion-mnist, cifar10 (a node gets them with --download)"
    )
