"""The screen shows the metric by which the run compares its models, whatever its name and direction."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace
from rich.text import Text

from p2pfl import events
from p2pfl.cards import ColumnCard, DataCard, LabelCount, Measures
from p2pfl.messages import ClassCount
from p2pfl.observe import rounds
from p2pfl.observe.state import State
from tests.support import recordings
from tests.support.recordings import eventful, regression, running, state_of
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
    chart = views.metric_chart(state, "r2")
    assert chart.series[0].points[0][1] == next(iter(state.rounds)).metrics["r2"]
    assert all(value is not None for _, value in chart.series[1].points[:-1])
    assert chart.band is not None
    assert (chart.title, chart.is_loss) == ("R2", False)
    assert chart.note.startswith("highest 0.")


def test_charts_show_every_metric_with_its_direction(state: State) -> None:
    assert views.metrics_of(state) == ("r2", "loss", "mae", "mse")
    assert views.metrics_of(state_of(running(3, 1))) == ("accuracy", "loss")
    charts = [views.metric_chart(state, name) for name in views.metrics_of(state)]
    assert [(chart.title, chart.is_loss) for chart in charts] == [
        ("R2", False), ("Loss", True), ("MAE", True), ("MSE", True),
    ]  # fmt: skip
    assert charts[2].note == "lowest 3.000 in round 1"
    names = ("f1", "personal_accuracy", "personal_mae", "top_2")
    assert [views.chart_title(name) for name in names] == [
        "Macro F1", "Personal accuracy", "Personal MAE", "Top 2",
    ]  # fmt: skip


def test_a_chart_has_at_most_eight_curves_that_differ_in_colour_line_and_letter() -> None:
    state = state_of(running(9, 8))
    state.add_local_only("node-1", 0.7)
    others = [name for name in state.peers if name != state.name]
    series = views.metric_chart(state, "accuracy", chosen=[state.name, *others]).series
    assert len(series) == len({one.style for one in series}) == len({one.marker for one in series}) == 8
    assert [one.letter for one in series] == ["", "", "", *"abcde"]
    assert series[2].is_level
    assert series[3].points[0][1] == state.rounds.get(1).score_of(others[0]).mean("accuracy")  # type: ignore[union-attr]
    assert {name for one in series[3:] for name in [one.name]} <= set(others)


def test_the_values_of_a_chart_are_made_once_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    state, data = state_of(running(3, 5)), views.ChartData()
    first = data.get(state, "accuracy")
    assert data.get(state, "accuracy") is first
    assert data.get(state, "accuracy", over_time=True) is not first
    other = next(name for name in state.peers if name != state.name)
    assert len(data.get(state, "accuracy", chosen=(other,)).series) == len(first.series) + 1
    assert data.get(state, "accuracy", chosen=("of an earlier run",)) == first
    state.versions["rounds"] += 1
    again = data.get(state, "accuracy")
    assert again is not first
    assert again == first


def of_another_run(item: events.Published) -> events.Published:
    """Return *item* as of a run whose accuracy and loss are half as high."""
    event = item.event
    if isinstance(event, events.EvaluationFinished):
        event = replace(event, metrics={name: value / 2 for name, value in event.metrics.items()}, scores=())
    if getattr(event, "run", ""):
        event = replace(event, run=recordings.digest_of("another run"))
    return replace(item, event=event)


@pytest.mark.parametrize("over_time", [False, True])
def test_points_that_are_kept_are_those_of_a_chart_made_anew(
    monkeypatch: pytest.MonkeyPatch, *, over_time: bool
) -> None:
    monkeypatch.setattr(rounds, "MAX_ROUNDS", 12)  # so that older ones are dropped on the way
    live = eventful()
    state, data = State(), views.ChartData()
    other = recordings.names_of(3)[2]
    half = len(live) // 2
    items: list[events.Published | events.RoundRow] = [*live[:half], *recordings.rows_of(live), *live[half:]]
    for item in items:
        state.apply(item)
        for metric in ("accuracy", "loss"):
            kept = data.get(state, metric, over_time=over_time, chosen=(other,))
            known = (other,) if other in state.peers else ()
            assert kept == views.metric_chart(state, metric, over_time=over_time, chosen=known)
    assert known


def test_the_points_of_another_run_are_not_kept() -> None:
    state, data = state_of(running(4, 20)), views.ChartData()
    first = data.get(state, "accuracy")
    for item in running(4, 20):
        state.apply(of_another_run(item))
    then = data.get(state, "accuracy")
    assert then == views.metric_chart(state, "accuracy") != first


def test_a_new_round_does_not_read_the_committed_ones_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state, data = state_of(running(4, 20)), views.ChartData()
    data.get(state, "accuracy")
    read: list[int] = []
    score_of = rounds.Round.score_of

    def noted(one: rounds.Round, name: str) -> events.MemberScore | None:
        read.append(one.round)
        return score_of(one, name)

    monkeypatch.setattr(rounds.Round, "score_of", noted)
    state.versions["rounds"] += 1
    data.get(state, "accuracy")
    assert read == [one.round for one in state.rounds if not one.is_settled] == [19]


def test_what_happened_is_marked_over_rounds_and_over_time() -> None:
    state = state_of(running(4, 6))
    first = next(iter(state.rounds)).committed_at
    assert first is not None
    names = sorted(state.peers)
    state.marks.note("join", 2, names[0], first + 9.0)
    state.marks.note("election", 3, names[0], None)
    for kind, name in (("pause", ""), ("pause", "no quorum"), ("resume", "")):
        state.marks.note(kind, 3, name, first - 5.0)  # type: ignore[arg-type]
    marks = views.metric_chart(state, "accuracy").marks
    assert [(mark.x, mark.kind) for mark in marks][1:] == [
        (2.0, "join"), (3.0, "election"), (3.0, "pause"), (3.0, "pause"), (3.0, "resume"),
    ]  # fmt: skip
    assert [mark.text for mark in marks][1:] == [
        f"{names[0]} joined", f"{names[0]} aggregates", "paused", "no quorum", "goes on",
    ]  # fmt: skip
    assert (marks[0].kind, marks[0].x) == ("loss", 6.0), "the last peer of this recording is lost"
    timed = views.metric_chart(state, "accuracy", over_time=True).marks
    assert [(mark.x, mark.kind) for mark in timed][1:] == [
        (pytest.approx(9.0), "join"), (0.0, "pause"), (0.0, "pause"), (0.0, "resume"),
    ]  # fmt: skip
    own = views.peer_chart(state, state.peers[names[0]], "accuracy")
    assert {mark.kind for mark in own.marks} == {"join", "election"}


def test_the_best_and_the_worst_peer_are_those_by_the_direction_of_the_metric(state: State) -> None:
    values = {name: state.value_of(peer.score) for name, peer in state.peers.items() if not peer.is_me}
    order = sorted(values, key=lambda name: values[name] or 0.0)
    assert views.best_and_worst(state) == (order[-1], order[0])
    assert views.best_and_worst(State()) == ()


def test_the_recall_of_each_class_is_shown_the_lowest_first_where_not_all_have_room() -> None:
    state = state_of(running())
    one = state.rounds.last
    assert one is not None
    bars, is_sorted = views.class_bars(state, one, 10)
    assert [bar.label for bar in bars] == [str(number) for number in range(10)]
    assert bars[0].part > bars[9].part
    assert (bars[9].value, is_sorted) == (".926   999", False)
    bars, is_sorted = views.class_bars(state, one, 5)
    assert ([bar.label for bar in bars][:2], is_sorted) == (["9", "8"], True)
    state.classes = ("cat", "dog")
    one.classes = (ClassCount(1, 2, 2), ClassCount(0, 0, 0))
    assert [bar.label for bar in views.class_bars(state, one, 5)[0]] == ["cat"], "dogs have no examples"


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
    series = views.metric_chart(state, "loss").series
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
    whole = views.metric_chart(state, state.primary).series[0].points
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
