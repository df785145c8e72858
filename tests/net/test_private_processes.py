"""Runs on private data in real processes: pictures and tables that differ from device to device.

What the nodes send is recorded and decoded: nothing of the data may be in it but what the data card says.
"""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from p2pfl import events
from tests.support.processes import PRIVATE, RIGGED, Fleet, digests, fleet

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("private")]

NAMES = ("ada", "ben", "cleo")


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        opened.common = PRIVATE
        yield opened


def write_digits(folder: Path, part: int, parts: int, without: tuple[int, ...] = ()) -> None:
    """Write every *parts*-th handwritten digit as a PNG file, in one folder for each digit."""
    data = load_digits()
    for index in range(part, len(data.target), parts):
        label = int(data.target[index])
        if label not in without:
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
            pixels = (data.images[index] * 15).astype(np.uint8)
            Image.fromarray(pixels).save(folder / str(label) / f"secret-name-{index}.png")


def write_rows(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def frames_of(path: Path) -> Iterator[Any]:
    """Decode all frames that a node with the rig `tap` has sent."""
    raw = path.read_bytes()
    while raw:
        length = int.from_bytes(raw[:4], "big")
        yield msgspec.msgpack.decode(raw[4 : 4 + length])
        raw = raw[4 + length :]


def leaves(value: Any) -> Iterator[Any]:
    """Yield all strings and numbers in a decoded frame."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


TENSORS_OF_2NN = {
    "hidden1.weight": ("F32", [200, 192]),
    "hidden1.bias": ("F32", [200]),
    "hidden2.weight": ("F32", [200, 200]),
    "hidden2.bias": ("F32", [200]),
    "out.weight": ("F32", [10, 200]),
    "out.bias": ("F32", [10]),
}
"""Tensors of the model 2nn for pictures of 3 x 8 x 8 and ten classes."""


def tensors_of(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Return types and shapes of the tensors in a blob, in which there must be nothing else."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    ends = [0, *(end for part in header.values() for end in part["data_offsets"][1:])]
    assert [part["data_offsets"] for part in header.values()] == [list(pair) for pair in pairwise(ends)]
    assert len(raw) == 8 + length + ends[-1]
    return {name: (part["dtype"], part["shape"]) for name, part in header.items()}


async def test_three_devices_with_photos_of_their_own_train_one_model(nodes: Fleet, tmp_path: Path) -> None:
    for part, name in enumerate(NAMES):
        write_digits(tmp_path / "photos" / name, part, 3, without=(3, 8) if name == "cleo" else ())
    shared = ("--min-nodes=3", "--model=2nn", "--rounds=6", "--lr=0.05")
    photos = [f"--data={tmp_path / 'photos' / name}" for name in NAMES]
    first = await nodes.start("ada", *shared, photos[0])
    others = [
        nodes.start_unheard(name, *shared, data, peers=[first])
        for name, data in zip(NAMES[1:], photos[1:], strict=True)
    ]
    assert [await process.exit_code() for process in (first, *others)] == [0, 0, 0]
    rows = nodes.rounds()
    assert all(len(found) == 1 for found in digests(rows).values())
    [ended] = first.all(events.RunEnded)
    assert ended.metrics["accuracy"] > 0.8
    nodes.check()
    for process in (first, *others):
        assert "cleo has no examples of the classes '3', '8'" in process.output


async def test_nothing_of_the_data_leaves_a_device_but_what_its_card_says(
    nodes: Fleet, tmp_path: Path
) -> None:
    for part, name in enumerate(NAMES[:2]):
        write_digits(tmp_path / "photos" / name, part, 2)
    classes = "--classes=" + ",".join(map(str, range(10)))
    options = ("--share=none", classes, "--image-size=8", "--min-nodes=2", "--model=2nn", "--rounds=2")
    first = await nodes.start(
        "ada",
        *options,
        f"--data={tmp_path}/photos/ada",
        program=(*RIGGED, f"--rig=tap:{tmp_path}/ada.tap,keep"),
    )
    second = nodes.start_unheard(
        "ben",
        *options,
        f"--data={tmp_path}/photos/ben",
        peers=[first],
        program=(*RIGGED, f"--rig=tap:{tmp_path}/ben.tap,keep"),
    )
    assert [await process.exit_code() for process in (first, second)] == [0, 0]
    sent: list[Any] = []
    pulled = set[str]()
    for name in NAMES[:2]:
        frames = list(frames_of(tmp_path / f"{name}.tap"))
        cards = [frame["card"] for frame in frames if frame.get("type") == "card"]
        assert cards
        for card in cards:
            told = {"task": "pictures", "examples": 1, "share": "none", "input_shape": [3, 8, 8]}
            assert {key: card[key] for key in told} == told
            assert all(examples == 0 for _, examples in card["labels"])
            assert not card.get("notes")
        submits = [frame for frame in frames if frame.get("type") == "submit"]
        sent += [one["update"] for one in submits if one["update"]]
        pulled |= {frame["digest"] for frame in frames if frame.get("type") == "pull"}
        evaluations = [one["evaluation"] for one in submits if one["evaluation"]]
        assert {one["examples"] for one in evaluations} <= {1}
        assert not any(one.get("classes") for one in evaluations)
        assert not any(
            "secret-name" in leaf for frame in frames for leaf in leaves(frame) if isinstance(leaf, str)
        )
    assert {(one["examples"], one["steps"]) for one in sent} == {(1, 1)}
    assert pulled >= {digest for one in sent for digest in one["blobs"].values() if digest}
    for digest in pulled:
        held = [folder.path(digest) for folder in nodes.blobs("ada", "ben") if folder.has(digest)]
        assert held
        for path in held:
            assert tensors_of(path) == TENSORS_OF_2NN


async def test_a_card_tells_counts_and_statistics_and_no_value_of_a_row(nodes: Fleet, tmp_path: Path) -> None:
    chance = np.random.default_rng(7)
    cells: list[str] = []
    for name in NAMES[:2]:
        ages = [f"{value:.6f}" for value in chance.normal(40, 9, 60)]
        cells += ages
        ill = ["yes" if float(age) > 40 else "no" for age in ages]
        write_rows(tmp_path / f"{name}.csv", {"age": ages, "note": ["a", "b"] * 30, "ill": ill})
    options = ("--target=ill", "--min-nodes=2", "--model=linear", "--rounds=2")
    first = await nodes.start(
        "ada", *options, f"--data={tmp_path}/ada.csv", program=(*RIGGED, f"--rig=tap:{tmp_path}/ada.tap")
    )
    second = nodes.start_unheard(
        "ben",
        *options,
        f"--data={tmp_path}/ben.csv",
        peers=[first],
        program=(*RIGGED, f"--rig=tap:{tmp_path}/ben.tap"),
    )
    assert [await process.exit_code() for process in (first, second)] == [0, 0]
    values = {float(cell) for cell in cells} | {float(np.float32(cell)) for cell in cells}
    for name in NAMES[:2]:
        sent = {leaf for frame in frames_of(tmp_path / f"{name}.tap") for leaf in leaves(frame)}
        assert not values & {leaf for leaf in sent if isinstance(leaf, float)}
        assert not set(cells) & {leaf for leaf in sent if isinstance(leaf, str)}
        assert {"age", "note", "yes", "no", "a", "b"} <= {leaf for leaf in sent if isinstance(leaf, str)}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"hight": [1.0, 2.5] * 20}, "the table of ben lacks the column 'height', which ada has"),
        ({"height": ["tall", "short"] * 20}, "the column 'height' holds numbers on ada and text on ben"),
    ],
    ids=["missing", "of another kind"],
)
async def test_tables_that_do_not_go_together_are_refused_before_round_1_on_both_devices(
    nodes: Fleet, tmp_path: Path, columns: dict[str, list[Any]], words: str
) -> None:
    ill = {"ill": ["yes", "no"] * 20}
    write_rows(tmp_path / "ada.csv", {"height": [1.5, 2.0] * 20, **ill})
    write_rows(tmp_path / "ben.csv", {**columns, **ill})
    options = ("--target=ill", "--min-nodes=2", "--model=linear")
    first = await nodes.start("ada", *options, f"--data={tmp_path}/ada.csv")
    second = await nodes.start("ben", *options, f"--data={tmp_path}/ben.csv", peers=[first])
    for process in (first, second):
        waiting = await process.until(events.Waiting, lambda event: words in event.reason)
        assert (waiting.present, waiting.is_mismatch) == (2, True)
        assert not process.all(events.RunJoined)


async def test_one_table_that_does_not_fit_does_not_stop_the_others(nodes: Fleet, tmp_path: Path) -> None:
    for name in NAMES[:3]:
        column = "hight" if name == "cleo" else "height"
        write_rows(tmp_path / f"{name}.csv", {column: [1.5, 2.0] * 20, "ill": ["yes", "no"] * 20})
    options = ("--target=ill", "--min-nodes=2", "--model=linear", "--rounds=2")
    third = await nodes.start("cleo", *options, f"--data={tmp_path}/cleo.csv")
    first = await nodes.start("ada", *options, f"--data={tmp_path}/ada.csv", peers=[third])
    await first.until(events.Waiting, lambda event: event.is_mismatch)
    second = await nodes.start("ben", *options, f"--data={tmp_path}/ben.csv", peers=[first, third])
    assert [await process.exit_code() for process in (first, second)] == [0, 0]
    await third.until(events.Notice, lambda event: event.level == "error" and "its table lacks" in event.text)


async def test_different_models_are_named_and_no_round_is_committed(nodes: Fleet, tmp_path: Path) -> None:
    for part, name in enumerate(NAMES[:2]):
        write_digits(tmp_path / "photos" / name, part, 2)
    file = tmp_path / "task.py"
    file.write_text(
        "import torch\n"
        "from torch import nn\n"
        "from torch.utils.data import TensorDataset\n"
        "SIZE = 4\n"
        "def model():\n    return nn.Linear(SIZE, 2)\n"
        "def data():\n    return TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)\n",
        encoding="utf-8",
    )
    other = tmp_path / "other" / "task.py"
    other.parent.mkdir()
    other.write_text(
        file.read_text(encoding="utf-8").replace(
            "nn.Linear(SIZE, 2)", "nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))"
        ),
        encoding="utf-8",
    )
    first = await nodes.start("ada", "--min-nodes=2", f"--task={file}")
    second = await nodes.start("ben", "--min-nodes=2", f"--task={other}", peers=[first])
    words = "its model differs"
    for process in (first, second):
        await process.until(events.Notice, lambda event: words in event.text)
        assert not process.all(events.Committed)


# --- task files that fail on one device ---------------------------------------------------------------------

TASK = """\
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

def model():
    return nn.Linear(4, 2)

def data():
    x = torch.randn(40, 4)
    return TensorDataset(x, (x[:, 0] > 0).long())

def loss(outputs, targets):
    return functional.cross_entropy(outputs, targets)

def metrics(outputs, targets):
    return {"accuracy": (outputs.argmax(1) == targets).float().mean()}
"""


def write_tasks(folder: Path, changed: str, old: str, new: str) -> dict[str, str]:
    """Write the same task file for all devices but *changed*, in which *new* replaces *old*; return options."""
    assert old in TASK
    options = {}
    for name in NAMES:
        file = folder / "tasks" / name / "task.py"
        file.parent.mkdir(parents=True)
        file.write_text(TASK.replace(old, new) if name == changed else TASK, encoding="utf-8")
        options[name] = f"--task={file}"
    return options


async def test_an_error_in_data_ends_that_device_alone_and_names_its_line(
    nodes: Fleet, tmp_path: Path
) -> None:
    tasks = write_tasks(tmp_path, "ben", "    x = torch.randn(40, 4)", "    raise OSError('no camera')")
    shared = ("--min-nodes=2", "--rounds=2")
    ada = await nodes.start("ada", *shared, tasks["ada"])
    ben, cleo = (nodes.start_unheard(name, *shared, tasks[name], peers=[ada]) for name in NAMES[1:])
    assert await ben.exit_code() == 2
    assert "task.py, line 10, in data(): OSError: no camera" in ben.output
    assert "Traceback" not in ben.output
    assert [await process.exit_code() for process in (ada, cleo)] == [0, 0]
    rows = nodes.rounds("ada", "cleo")
    assert {row.round for row in rows["ada"]} >= {1, 2}
    assert all(len(found) == 1 for found in digests(rows).values())


async def test_a_device_with_a_loss_of_nan_is_left_out_and_the_others_go_on(
    nodes: Fleet, tmp_path: Path
) -> None:
    # Only in training: the loss is tried on a few examples before the run, without gradients.
    tasks = write_tasks(
        tmp_path,
        "ben",
        "    return functional.cross_entropy(outputs, targets)\n",
        "    factor = float('nan') if outputs.requires_grad else 1.0\n"
        "    return factor * functional.cross_entropy(outputs, targets)\n",
    )
    shared = ("--min-nodes=3", "--rounds=2")
    ada = await nodes.start("ada", *shared, tasks["ada"])
    ben, cleo = (nodes.start_unheard(name, *shared, tasks[name], peers=[ada]) for name in NAMES[1:])
    assert [await process.exit_code() for process in (ada, cleo)] == [0, 0]
    assert await ben.exit_code() == 0
    rows = nodes.rounds()
    assert all(len(found) == 1 for found in digests(rows).values())
    trained = [row for row in rows["ada"] if row.kind == "train"]
    assert [sorted(update.name for update in row.updates) for row in trained] == [["ada", "cleo"]] * 2
    for row in trained:
        [(name, reason)] = row.left_out
        assert name == "ben"
        assert "its loss or a weight is not finite" in reason


# --- differences between devices ----------------------------------------------------------------------------


async def test_devices_with_different_classes_train_one_model_of_all_classes(
    nodes: Fleet, tmp_path: Path
) -> None:
    data = load_digits()
    kinds = {"ada": {0: "cat", 1: "dog"}, "ben": {1: "dog", 2: "fox"}}
    for name, classes in kinds.items():
        for label, kind in classes.items():
            folder = tmp_path / "photos" / name / kind
            folder.mkdir(parents=True)
            for index in np.flatnonzero(data.target == label)[name == "ben" :: 4]:
                Image.fromarray((data.images[index] * 15).astype(np.uint8)).save(folder / f"{index}.png")
    shared = ("--min-nodes=2", "--model=2nn", "--rounds=6", "--lr=0.05")
    ada = await nodes.start("ada", *shared, f"--data={tmp_path}/photos/ada")
    ben = nodes.start_unheard("ben", *shared, f"--data={tmp_path}/photos/ben", peers=[ada])
    assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
    nodes.check()
    for process in (ada, ben):
        [joined] = process.all(events.RunJoined)
        assert joined.classes == ("cat", "dog", "fox")
        [ended] = process.all(events.RunEnded)
        assert (
            ended.metrics["accuracy"] > 0.8
        )  # less than a quarter of the examples are of one device's class
        assert "only ada has the class 'cat'" in process.output
        assert "only ben has the class 'fox'" in process.output


async def test_task_files_with_different_metrics_are_refused_before_round_1(
    nodes: Fleet, tmp_path: Path
) -> None:
    tasks = write_tasks(tmp_path, "ben", '"accuracy"', '"hits"')
    ada = await nodes.start("ada", "--min-nodes=2", tasks["ada"])
    ben = await nodes.start("ben", "--min-nodes=2", tasks["ben"], peers=[ada])
    for process in (ada, ben):
        waiting = await process.until(events.Waiting, lambda event: "metrics" in event.reason)
        assert "ben and ada differ" in waiting.reason
        assert "hits" in waiting.reason
        assert "accuracy" in waiting.reason
        assert not process.all(events.RunJoined)
