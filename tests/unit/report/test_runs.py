from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.report.runs import choose_run
from p2pfl.store.reader import RunRow
from tests.support.records import AGREEMENT, SPEC

PLACE = Path("place")


def run_of(start: str) -> RunRow:
    return RunRow(start.ljust(64, "0"), SPEC, AGREEMENT, 1, 1, 3, ended=False, closed=False)


RUNS = [run_of("aa1"), run_of("aa2"), run_of("b")]


def test_without_a_name_it_is_the_newest_run() -> None:
    assert choose_run(RUNS, None, PLACE) is RUNS[-1]


@pytest.mark.parametrize(("wanted", "index"), [("aa1", 0), ("AA2", 1), ("b", 2)])
def test_the_beginning_of_an_id_names_a_run(wanted: str, index: int) -> None:
    assert choose_run(RUNS, wanted, PLACE) is RUNS[index]


@pytest.mark.parametrize(
    ("wanted", "said"), [("c", "no run here has an id that begins with 'c'"), ("aa", "2 runs here have")]
)
def test_a_beginning_of_none_or_several_is_refused_with_the_ids(wanted: str, said: str) -> None:
    with pytest.raises(UserError, match="the runs are aa10000, aa20000, b000000") as caught:
        choose_run(RUNS, wanted, PLACE)
    assert str(caught.value).startswith(said.replace("have", "has"))


def test_a_node_that_was_in_no_run_has_none() -> None:
    with pytest.raises(UserError, match="place has not been in a run yet"):
        choose_run([], None, PLACE)
