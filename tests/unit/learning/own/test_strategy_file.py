from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.learning.own.strategy_file import find_strategy, read_strategy_class, split_code
from tests.support.user_tasks import write_task


def test_attributes_and_arguments_come_from_the_class_or_its_bases_in_the_file(tmp_path: Path) -> None:
    path = write_task(
        tmp_path,
        """
        from typing import ClassVar
        from p2pfl import Elementwise

        class Base(Elementwise):
            least_updates: ClassVar[int] = 3
            slots = ["a", "b"]

            def __init__(self, first, second=1 / 2):
                pass

        class Derived(Base):
            least_updates = 5
        """,
    )
    found = read_strategy_class(path, "Derived")
    assert (found.least, found.slots) == (5, ("a", "b"))
    assert found.arguments == {"first": None, "second": "1 / 2"}


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("class One(Elementwise): pass", {}),
        ("class One(other.Base): pass", None),
        ("class One(Elementwise):\n    def __init__(self, **more): pass", None),
        ("@dataclass\nclass One(Elementwise):\n    step: float = 1.0", None),
    ],
    ids=["none", "of a base elsewhere", "any", "of a dataclass"],
)
def test_arguments_that_the_file_does_not_tell_are_left_to_the_worker(
    tmp_path: Path, source: str, arguments: object
) -> None:
    assert read_strategy_class(write_task(tmp_path, source), "One").arguments == arguments


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class One:\n    least_updates = 1 + 1", "mine.py, line 2: least_updates is 1 \\+ 1, and a number"),
        ("class One:\n    least_updates = True", "line 2: least_updates is True"),
        ("class One:\n    slots = ('a')", r"line 2: slots is 'a', and a tuple of names"),
        ("class One(:\n", "mine.py, line 1: .*; correct the file"),
        ("class Ones: pass", r"no class 'One' \(did you mean 'Ones'\?\); .* classes of the file are Ones\."),
        ("", "the classes of the file are none"),
    ],
)
def test_what_a_node_cannot_read_is_told_with_its_line(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_strategy_class(write_task(tmp_path, source), "One")


def test_a_file_without_a_class_and_a_missing_file_are_told(tmp_path: Path) -> None:
    path = write_task(tmp_path, "class One: pass")
    with pytest.raises(UserError, match=r"is given without a class; FILE\.py:CLASS is expected"):
        read_strategy_class(*split_code(str(path)))
    with pytest.raises(
        UserError, match=r"--strategy is .*none\.py, which cannot be used: there is no such file"
    ):
        read_strategy_class(*split_code(f"{tmp_path}/none.py:One"))
    with pytest.raises(UserError, match="it is a folder"):
        read_strategy_class(tmp_path, "One")


def test_path_and_class_are_split_at_the_last_colon() -> None:
    assert split_code("a/mine.py:One") == (Path("a/mine.py"), "One")
    assert split_code("c:mine.py") == (Path("c:mine.py"), "")
    assert split_code("mine") == (Path("mine"), "")


@pytest.mark.parametrize(
    ("source", "named", "found"),
    [
        ("class A(p2pfl.Elementwise): ...", "", "A"),
        ("class A(Elementwise): ...\nclass B: ...", "", "A"),
        ("class A(Elementwise): ...\nclass B(A): ...", "B", "B"),
        ("from parts import model\nclass A(Elementwise): ...", "", ""),
        ("model = lambda: 3\nclass A(Elementwise): ...", "", ""),
        ("async def data(): ...\nclass A(Elementwise): ...", "", ""),
        ("class A(Elementwise): ...\nfor r in p2pfl.rounds(m): ...", "", ""),
        ("x = 3\nimport math\nclass A(Elementwise): ...", "", "A"),
        ("class A(Elementwise): ...\nclass B(Elementwise): ...", "B", "B"),
        ("class A(Elementwise): ...\ndef model(): ...", "", ""),
        ("class A(Elementwise): ...\ndef model(): ...", "A", "A"),
        ("class A: ...", "A", ""),
        ("class A(", "", ""),
    ],
)
def test_a_file_may_be_a_strategy(tmp_path: Path, source: str, named: str, found: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source, encoding="utf-8")
    code = f"{file}:{named}" if named else str(file)
    assert find_strategy(code) == (f"{file}:{found}" if found else "")


def test_of_several_strategies_one_is_named(tmp_path: Path) -> None:
    file = write_task(tmp_path, "class A(Elementwise): ...\nclass B(A): ...")
    with pytest.raises(UserError, match=r"mine.py has the strategies A, B; name one, such as .*mine.py:B\.$"):
        find_strategy(str(file))


def test_what_is_no_python_file_is_no_strategy(tmp_path: Path) -> None:
    assert find_strategy("package.module:Thing") == find_strategy(str(tmp_path / "none.py")) == ""
