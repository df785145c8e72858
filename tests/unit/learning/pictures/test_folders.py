from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.models import ImageShape
from p2pfl.learning.pictures.folders import Picture, in_blocks, scan_folder
from p2pfl.learning.progress import ProgressLines
from tests.support.pictures import noise, write_noise, write_picture


def _counts(pictures: tuple[Picture, ...]) -> dict[str, int]:
    labels = [picture.label for picture in pictures]
    return {label: labels.count(label) for label in sorted(set(labels))}


def test_each_folder_is_a_class(tmp_path: Path) -> None:
    folder = scan_folder(write_noise(tmp_path, cat=3, dog=2))
    assert (_counts(folder.train), folder.test) == ({"cat": 3, "dog": 2}, ())
    assert folder.classes == ("cat", "dog")
    assert [picture.path for picture in folder.train] == [
        "cat/0.png",
        "cat/1.png",
        "cat/2.png",
        "dog/0.png",
        "dog/1.png",
    ]
    assert folder.shape == ImageShape(1, 8, 8)
    assert folder.notes == ()


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_train_and_test_folders_are_divided_as_they_are(tmp_path: Path, name: str) -> None:
    write_noise(tmp_path / "train", cat=3, dog=2)
    write_noise(tmp_path / name, cat=1, dog=1, fox=1)
    folder = scan_folder(tmp_path)
    assert _counts(folder.train) == {"cat": 3, "dog": 2}
    assert _counts(folder.test) == {"cat": 1, "dog": 1, "fox": 1}
    assert folder.classes == ("cat", "dog", "fox")
    assert folder.notes == ()


def test_a_train_folder_alone_holds_the_classes(tmp_path: Path) -> None:
    write_noise(tmp_path / "train", cat=1, dog=1)
    assert scan_folder(tmp_path).classes == ("cat", "dog")


def test_of_several_folders_to_evaluate_on_the_others_are_named(tmp_path: Path) -> None:
    for name in ("train", "test", "val"):
        write_noise(tmp_path / name, cat=2, dog=2)
    folder = scan_folder(tmp_path)
    assert {picture.path.split("/")[0] for picture in folder.test} == {"test"}
    assert folder.notes == ("val/ beside train/ not used",)


def test_pictures_of_trains_are_a_class(tmp_path: Path) -> None:
    write_noise(tmp_path, car=1, train=1)
    assert scan_folder(tmp_path).classes == ("car", "train")
    write_noise(tmp_path / "train", steam=1)
    assert _counts(scan_folder(tmp_path).train) == {"car": 1, "train": 2}


def test_pictures_may_lie_deeper_and_folders_may_be_links(tmp_path: Path) -> None:
    write_noise(tmp_path / "elsewhere", cat=2)
    write_noise(tmp_path / "data" / "dog" / "2024", june=1)
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    assert _counts(scan_folder(tmp_path / "data").train) == {"cat": 2, "dog": 1}


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=1, dog=1)
    write_noise(tmp_path, **{".cache": 1})
    write_noise(tmp_path / "cat", **{".thumbnails": 1})
    (tmp_path / "cat" / ".0.png").write_bytes(b"")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("x")
    folder = scan_folder(tmp_path)
    assert (_counts(folder.train), folder.notes) == ({"cat": 1, "dog": 1}, ())


def test_one_broken_file_among_many_is_named_and_left_out(tmp_path: Path) -> None:
    write_noise(tmp_path, cats=50, dogs=50)
    (tmp_path / "cats" / "x.jpg").write_bytes(b"\xff\xd8\xff no picture")
    folder = scan_folder(tmp_path)
    assert _counts(folder.train) == {"cats": 50, "dogs": 50}
    assert folder.notes == ("1 file cannot be read and is left out: cats/x.jpg",)


def test_empty_files_telephone_pictures_and_unreadable_ones_are_counted_and_some_named(
    tmp_path: Path,
) -> None:
    write_noise(tmp_path, cats=2, dogs=2)
    for number in range(4):
        (tmp_path / "cats" / f"e{number}.png").write_bytes(b"")
    (tmp_path / "dogs" / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "dogs" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert scan_folder(tmp_path).notes == (
        "6 files cannot be read and are left out: cats/e0.png, cats/e1.png, cats/e2.png and 3 more",
    )


def test_copies_are_counted(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=3, dog=3)
    shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "cat" / "a.png")
    assert scan_folder(tmp_path).notes == ("1 picture is a copy of another one: cat/0.png and cat/a.png",)
    shutil.copy(tmp_path / "cat" / "1.png", tmp_path / "dog" / "b.png")
    assert scan_folder(tmp_path).notes == (
        "2 pictures are copies of another one: cat/0.png and cat/a.png",
        "1 pair of equal pictures in different classes: cat/1.png and dog/b.png",
    )


def test_held_out_pictures_that_are_trained_on_are_told(tmp_path: Path) -> None:
    write_noise(tmp_path / "train", cat=2, dog=2)
    write_noise(tmp_path / "test", cat=2, dog=2)
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "test" / "cat" / "0.png")
    assert "1 held-out picture also among those to train on" in scan_folder(tmp_path).notes


def test_an_empty_class_folder_is_no_class_and_named(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=1, dog=1)
    (tmp_path / "fox").mkdir()
    folder = scan_folder(tmp_path)
    assert folder.classes == ("cat", "dog")
    assert folder.notes == ("1 class folder without a picture: fox",)


def test_a_class_of_which_no_picture_can_be_read_is_no_class(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=1, dog=1)
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "1.png").write_bytes(b"")
    folder = scan_folder(tmp_path)
    assert folder.classes == ("cat", "dog")
    assert folder.notes == (
        "1 file cannot be read and is left out: fox/1.png",
        "1 class folder without a picture: fox",
    )


def test_a_share_of_one_class_is_told(tmp_path: Path) -> None:
    assert scan_folder(write_noise(tmp_path, cat=4)).notes == ("all pictures are of the class cat",)


def test_pictures_beside_the_class_folders_are_told(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=1, dog=1)
    write_picture(tmp_path / "x.png", noise(1))
    assert scan_folder(tmp_path).notes == ("1 picture outside of the class folders left out",)


def test_a_test_folder_without_pictures_is_told(tmp_path: Path) -> None:
    write_noise(tmp_path / "train", cat=2, dog=2)
    (tmp_path / "test" / "cat").mkdir(parents=True)
    folder = scan_folder(tmp_path)
    assert (folder.test, folder.notes) == ((), ("the folder test has no picture to evaluate on",))


def test_the_most_frequent_shape_counts(tmp_path: Path) -> None:
    for number, (height, width, channels) in enumerate([(8, 8, 3), (6, 9, 1), (6, 9, 1), (6, 9, 3)]):
        write_picture(tmp_path / "cat" / f"{number}.png", noise(number, height, width, channels))
    assert scan_folder(tmp_path).shape == ImageShape(1, 6, 9)


def test_the_same_accent_written_in_two_ways_is_one_class(tmp_path: Path) -> None:
    for name in ("caf\u00e9", "cafe\u0301"):
        write_picture(tmp_path / name / "1.png", noise(len(name)))
    assert _counts(scan_folder(tmp_path).train) == {"caf\u00e9": 2}


def test_names_that_are_no_text_stay_out_of_notes(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=1, dog=1)
    Path(tmp_path, "cat", "\udcff\n.png").write_bytes(b"")
    Path(tmp_path, "cat", "n" * 200 + ".png").write_bytes(b"")
    [note] = scan_folder(tmp_path).notes
    assert note.encode()
    assert note.isprintable()
    assert len(note) <= 300


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: None,
            r"--data .*/data is no folder \(it does not exist\); expected a folder with one",
        ),
        (lambda folder: folder.write_text("x"), r"is no folder \(it is a file\)"),
        (
            lambda folder: folder.mkdir(),
            r"data is empty; expected a folder for each class .*data/cat/1.jpg\.",
        ),
        (
            lambda folder: [write_picture(folder / f"{i}.png", noise(i)) for i in range(2)],
            "has no folders, 2 pictures and 0 other files; expected a folder for each class",
        ),
        (
            lambda folder: [(folder / name).mkdir(parents=True) for name in ("cat", "dog")],
            r"has 2 folders \(cat, dog\) without a picture file, 0 pictures and 0 other files; expected",
        ),
        (
            lambda folder: _empty(folder / "cat" / "x.png"),
            r"None of the 1 picture files in .*data can be read \(cat/x.png: it is empty\); expected .* PNG",
        ),
        (
            lambda folder: write_noise(folder, **{"n" * 65: 1}),
            "cannot name a class: use a name of at most 64 characters",
        ),
        (
            lambda folder: [(folder / str(i)).mkdir(parents=True) for i in range(1001)],
            "has 1,001 class folders, and 1,000 are possible",
        ),
    ],
)
def test_a_folder_without_classes_of_pictures_is_refused(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(TaskError, match=message):
        scan_folder(tmp_path / "data")


def _empty(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(tmp_path, cat=1)

    def scandir(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(
        TaskError, match=r"The folder .* cannot be read \(Permission denied\); make it readable"
    ):
        scan_folder(tmp_path)


def test_blocks_come_in_order_and_cover_all() -> None:
    progress = ProgressLines("working", 100)
    assert [row for block in in_blocks(100, list, progress) for row in block] == list(range(100))


def test_an_error_in_a_block_ends_the_others() -> None:
    def work(block: range) -> None:
        raise ValueError(block.start)

    with pytest.raises(ValueError, match=r"^0$"):
        list(in_blocks(10_000, work, ProgressLines("working", 10_000)))
