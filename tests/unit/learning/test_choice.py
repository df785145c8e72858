"""What a command line trains: which kind of task its options name, and what contradicts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import TaskError, UserError
from p2pfl.learning.choice import DEFAULTS, Choice, choose, make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.spec import BuiltinTask, FileTask, PicturesTask, ScriptTask, TableTask, task_name
from p2pfl.strategy_specs import FedAdamSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with pictures, a table, a file of another kind and a program."""
    (tmp_path / "photos").mkdir()
    for name in ("rows.csv", "ROWS.CSV.GZ", "notes.txt", "mine.py"):
        (tmp_path / name).touch()
    return tmp_path


def test_without_options_the_digits_are_trained() -> None:
    assert choose(None, None, DataPlaces()) == Choice("builtin", "digits", DataPlaces())
    assert isinstance(make_spec(choose("mnist", None, DataPlaces()), {}).task, BuiltinTask)


@pytest.mark.parametrize(
    ("data", "kind"), [("photos", "pictures"), ("rows.csv", "table"), ("ROWS.CSV.GZ", "table")]
)
def test_data_without_a_task_are_the_task(folder: Path, data: str, kind: str) -> None:
    places = DataPlaces(own=folder / data)
    assert choose(None, None, places) == Choice(kind, "", places)


def test_a_file_is_a_task_by_its_name_and_its_data_are_its_own_business(folder: Path) -> None:
    file, places = folder / "mine.py", DataPlaces(own=folder / "notes.txt")
    choice = choose(str(file), None, places)
    assert (choice.kind, choice.name) == ("file", "mine")
    assert choice.places == msgspec.structs.replace(places, code=str(file))
    assert choose("package.module:task", None, DataPlaces()).places.code == "package.module:task"


def test_a_script_is_a_task_by_its_name(folder: Path) -> None:
    choice = choose(None, folder / "mine.py", DataPlaces())
    assert (choice.kind, choice.name, choice.places.code) == ("script", "mine", str(folder / "mine.py"))


def test_a_program_that_connects_names_its_task(folder: Path) -> None:
    assert choose(None, Path("-"), DataPlaces()) == Choice("script", "script", DataPlaces())
    assert choose("mine", Path("-"), DataPlaces()).name == "mine"


def test_what_a_scripts_loop_decides_is_no_option() -> None:
    choice = Choice("script", "mine", DataPlaces())
    spec = make_spec(choice, {"rounds": 3, "seed": 2, "share": "none", "patience": 4})
    assert (spec.rounds, spec.seed, spec.stopping.patience) == (3, 2, 4)
    with pytest.raises(UserError, match="--lr has no effect with --script: the script's own loop decides"):
        make_spec(choice, {"rounds": 3, "learning_rate": 0.1})
    assert make_spec(choice, {"personal": ("head.*",)}).personalisation.personal == ("head.*",)
    with pytest.raises(UserError, match="--personalise has no effect with --script"):
        make_spec(choice, {"personalise": 1})


def test_options_that_exclude_each_other_are_refused() -> None:
    given = {"strategy": "ditto", "personalise": 1}
    for kind, name in (("builtin", "digits"), ("file", "mine")):
        with pytest.raises(UserError, match=r"^--personalise and --strategy ditto each adapt the model"):
            make_spec(Choice(kind, name, DataPlaces()), given)


def test_a_script_may_be_aggregated_in_any_way_that_leaves_its_loop_alone() -> None:
    choice = Choice("script", "mine", DataPlaces())
    given = {"strategy": "fedadam", "strategy_arg": {"server_lr": 0.5}}
    assert make_spec(choice, given).strategy == FedAdamSpec(server_lr=0.5)
    with pytest.raises(UserError, match="strategy scaffold changes local training, which the script's"):
        make_spec(choice, {"strategy": "scaffold"})


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import p2pfl\nfor r in p2pfl.rounds(None):\n    pass\n", "script"),
        ("from p2pfl import rounds\nrounds(None)\n", "script"),
        ("def rounds():\n    pass\nrounds()\n", "file"),
        ("def model():\n    return 'see p2pfl.rounds()'\n", "file"),
        ("def model(:", "file"),
    ],
)
def test_a_file_with_a_loop_of_its_own_is_a_script(tmp_path: Path, source: str, kind: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source, encoding="utf-8")
    choice = choose(str(file), None, DataPlaces())
    assert (choice.kind, choice.name, choice.places.code) == (kind, "mine", str(file))


@pytest.mark.parametrize(
    ("task", "script", "data", "words"),
    [
        (None, None, "nothing", "--data is .*nothing, which cannot be used: there is nothing at this path"),
        (None, None, "notes.txt", "neither a folder of pictures nor a table"),
        ("digits", None, "photos", "The task 'digits' has data of its own. Leave --data out"),
        ("none.py", None, None, "--task is none.py, which cannot be used: there is no such file"),
        (None, "photos", None, "--script is .*photos, which cannot be used: it is a folder"),
        ("mine.py", "mine.py", None, "--script and --task cannot be used together"),
    ],
)
def test_what_contradicts_or_is_missing_is_told(
    folder: Path, task: str | None, script: str | None, data: str | None, words: str
) -> None:
    places = DataPlaces(own=folder / data if data else None)
    with pytest.raises(UserError, match=words):
        choose(task, folder / script if script else None, places)


def test_data_of_a_file_that_are_not_there_are_told(folder: Path) -> None:
    with pytest.raises(UserError, match="there is nothing at this path"):
        choose(str(folder / "mine.py"), None, DataPlaces(own=folder / "no"))


def test_each_kind_has_defaults_that_make_a_spec() -> None:
    given = {"table": {"target": "age"}}
    kinds: dict[str, type] = {
        "pictures": PicturesTask,
        "table": TableTask,
        "file": FileTask,
        "script": ScriptTask,
    }
    assert kinds.keys() == DEFAULTS.keys()
    for kind, struct in kinds.items():
        name = "mine" if kind in ("file", "script") else ""
        spec = make_spec(Choice(kind, name, DataPlaces()), given.get(kind, {}))
        assert type(spec.task) is struct
        assert task_name(spec.task) in ("mine", kind)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("table", {}, r"Which column of /r.csv is to be predicted\? Name it with --target"),
        ("pictures", {"target": "age"}, "--target is of no use for this task; leave it out"),
        ("pictures", {"partition": "iid"}, "--partition is of no use for this task"),
        ("pictures", {"image_size": -1}, "--image-size is out of range"),
        ("pictures", {"holdout": 1.0}, "--holdout is out of range"),
        ("pictures", {"learning_rate": 0.0}, "--lr is out of range"),
        ("pictures", {"optimizer": "lion"}, "--optimizer is out of range: invalid enum value 'lion'"),
        ("pictures", {"until": {"metric": "Accuracy!", "value": 1.0}}, "--until is out of range"),
    ],
)
def test_an_option_that_cannot_be_is_named(kind: str, given: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_spec(Choice(kind, "", DataPlaces(own=Path("/r.csv"))), given)


def test_a_built_in_task_that_is_not_there_is_told() -> None:
    with pytest.raises(TaskError, match="There is no task 'birds'"):
        make_spec(choose("birds", None, DataPlaces()), {})


@pytest.mark.parametrize("strategy", ["fedprox", "scaffold", "feddyn", "q-fedavg"])
def test_a_strategy_that_changes_local_training_is_refused_for_a_script(strategy: str) -> None:
    with pytest.raises(
        UserError, match=f"The strategy {strategy} changes local training, which the script's"
    ):
        make_spec(Choice("script", "train", DataPlaces()), {"strategy": strategy})


def test_a_script_has_any_strategy_that_only_aggregates() -> None:
    given = {"strategy": "fedadam", "strategy_arg": {"tau": 0.1}}
    spec = make_spec(Choice("script", "train", DataPlaces()), given)
    assert spec.strategy == FedAdamSpec(tau=0.1)
