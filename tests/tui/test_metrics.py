"""The screen shows the metric by which the run compares its models, whatever its name and direction."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace
from rich.text import Text

from p2pfl import events
from p2pfl.cards import ColumnCard, DataCard, LabelCount, Measures
from p2pfl.observe.state import State
from tests.support.recordings import regression, running, state_of
from tui import views
from tui.export import rows_of
from tui.symbols import glyphs
from tui.views.summary import NONE, columns
from tui.widgets.header import draw_header

ASCII = glyphs(ascii_only=True)


@pytest.fixture(scope="module")
def state() -> State:
    return state_of(regression())


def text_of(lines: Iterable[Text]) -> str:
    return "\n".join(line.plain for line in lines)


def test_only_accuracies_are_compared_by_bars(state: State) -> None:
    accurate = state_of(running(4, 3))
    for one in (accurate, state):
        one.add_local_only("node-1", 0.5)
        one.add_local_only("node-2", 0.7)
    bars = [line.plain.split() for line in views.finale_lines(accurate, ASCII, [], 60)[1:4]]
    assert [(row[0], row[-1]) for row in bars[1:]] == [("best", ".7000"), ("mean", ".6000")]
    assert [row[2].count("#") for row in bars[1:]] == [28, 24]
    assert "mean alone" not in text_of(views.finale_lines(state, ASCII, [], 60))
    assert "mean alone" not in text_of(views.finale_lines(accurate, ASCII, [], 25)), "there is no room"


def test_the_tables_have_a_column_of_the_metric_in_the_place_of_the_accuracy(state: State) -> None:
    for all_ in (views.PEER_COLUMNS, views.ROUND_COLUMNS):
        titles = [column.title for column in columns(state, all_)]
        assert "R2" in titles
        assert "ACC" not in titles
        assert "LOSS" in titles
    assert {column.title for column in columns(state_of(running(4, 3)), views.PEER_COLUMNS)} >= {
        "ACC",
        "LOSS",
    }
    last = state.rounds.last
    assert last is not None
    row = views.round_rows(state, ASCII)[-1 if state.open is None else 1]
    assert float(str(row.cells["primary"]).removeprefix("~")) == pytest.approx(last.metrics["r2"], abs=0.001)
    me = views.peer_rows(state, state.time, ASCII)[0]
    assert state.me is not None
    assert float(str(me.cells["primary"])) == pytest.approx(known_r2(state), abs=0.001)


def known_r2(state: State) -> float:
    assert state.me is not None
    value = state.value_of(state.me.score)
    assert value is not None
    return value


def test_header_title_and_last_line_name_the_metric(state: State) -> None:
    last = views.last_scores(state)
    assert last.value is not None
    drawn = draw_header(views.header(state, ""), 120, ASCII).plain.replace("~", "")
    assert f"r2 {f'{last.value:.4f}'.removeprefix('0')}" in drawn
    assert views.title(state) == f"r{state.trained} r2 {last.value:.4f}"
    assert f", r2 {last.value:.4f}" in views.finished_text(state)


def test_the_details_of_a_round_and_of_a_peer_have_every_metric_and_no_accuracy(state: State) -> None:
    one = next(one for one in state.rounds if one.metrics)
    lines = text_of(views.round_lines(state, one, ASCII))
    assert lines.startswith("r2        ")
    assert "mae 3.0000  mse 12.0000" in lines
    assert state.me is not None
    rounds = text_of(views.peer_rounds(state, state.me, 5))
    assert "r2 " in rounds
    for text in (lines, rounds):
        assert "acc" not in text
        assert "None" not in text
    one.updates = (replace(one.updates[0], steps=3, planned=9), *one.updates[1:])
    gantt, _ = views.round_gantt(state, one)
    assert [row.note.endswith("  cut at 3 of 9 batches") for row in gantt].count(True) == 1
    assert f"{views.summary.primary_of(state, one.score_of(gantt[0].name))}" in gantt[0].note


def test_the_chart_shows_the_metric_of_all_and_of_this_node(state: State) -> None:
    series, band = views.primary_series(state, over_time=False)
    assert series[0].points[0][1] == next(iter(state.rounds)).metrics["r2"]
    assert all(value is not None for _, value in series[1].points[:-1])
    assert band is not None
    assert views.chart_title("r2") == "R2"


def test_a_smaller_value_is_a_gain_where_less_is_better() -> None:
    values = views.header(state_of(regression()), "")._replace(value=0.5, change=-0.1, reachable=4)
    gain = values._replace(is_rise_good=False)
    styles = [{str(span.style) for span in draw_header(one, 120, ASCII).spans} for one in (gain, values)]
    assert "warning" not in styles[0]
    assert "warning" in styles[1]


def test_without_a_loss_beside_the_metric_there_is_no_column_and_no_chart_of_it() -> None:
    measures = Measures("mine", ("loss",), "loss", "min")
    recording = [
        replace(one, event=replace(one.event, measures=measures))
        if isinstance(one.event, events.RunJoined)
        else one
        for one in running(3, 5)
    ]
    state = state_of(recording)
    assert not views.has_loss(state)
    assert [column.title for column in columns(state, views.ROUND_COLUMNS)].count("LOSS") == 1
    state.add_local_only("node-1", 0.7)
    state.add_local_only("node-2", 0.9)
    series, _ = views.primary_series(state, over_time=False)
    assert series[-1].points[0][1] == 0.7, "the best model alone has the smallest loss"


def test_an_export_has_the_metric_of_the_run(state: State) -> None:
    assert {(row.primary, row.direction) for row in rows_of(state)} == {("r2", "max")}


def test_what_only_some_members_have_reported_is_not_shown_as_the_value_of_all() -> None:
    state = state_of(running())
    last = state.rounds.last
    assert last is not None
    last.scores = last.scores[:2]
    shown = views.last_scores(state)
    assert shown.round is not None
    assert shown.round.round == last.round - 1
    assert views.round_rows(state, ASCII)[0 if state.open is None else 1].cells["primary"] == NONE
    assert "reported by 2 of 6 members" in text_of(views.round_lines(state, last, ASCII))
    whole = views.primary_series(state, over_time=False)[0][0].points
    assert (whole[-1][1], whole[-2][1] is None) == (None, False)


TABLE = DataCard(
    "table",
    1,
    (),
    columns=tuple(ColumnCard(f"x{index}", "number") for index in range(9)),
    target=ColumnCard("price", "number"),
)


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        (None, ["not known before it has trained"]),
        (TABLE, ["1 row", "9 columns: x0, x1, x2, x3, x4, x5, x6, x7 and 1 more", "target price, a number"]),
        (DataCard("mine", 36, (), input_shape=(3, 8, 8)), ["36 examples", "inputs 3x8x8"]),
        (DataCard("mine", 1, (), share="none"), ["it tells nothing about its data (--share none)"]),
        (
            DataCard("mine", 36, (LabelCount("cat", 0), LabelCount("dog", 0)), share="counts"),
            ["36 examples", "2 labels: cat, dog", "how many of each it does not tell"],
        ),
    ],
    ids=["nothing", "table", "file", "none", "counts"],
)
def test_data_without_counts_of_labels_are_described(part: DataCard | None, lines: list[str]) -> None:
    device = events.PeerDeviceInfo("n" * 52, "ada", "1", "Linux", 4, 1, "cpu", part)
    assert text_of(views.data_lines(device)).splitlines() == lines
    assert text_of(views.data_lines(None)) == "not known before it has trained"
