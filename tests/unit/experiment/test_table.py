from __future__ import annotations

import csv
import io

import msgspec

from p2pfl.experiment.table import group_rows, rounds_csv, spread_text, table_csv, table_text
from tests.support.experiments import finished

RUNS = [
    finished(0.5, 0.9, 0.8, seed=1, strategy="fedavg"),
    finished(0.5, 0.6, 0.7, seed=2, strategy="fedavg"),
    finished(0.2, 0.3, seed=1, strategy="median"),
]


def test_seeds_are_averaged_with_their_sample_deviation() -> None:
    fedavg, median = group_rows(RUNS)
    assert (fedavg.settings, fedavg.runs, fedavg.last, fedavg.best) == (
        {"strategy": "fedavg"}, 2, (0.8, 0.7), (0.9, 0.7),
    )  # fmt: skip
    assert spread_text(fedavg.last) == "0.7500 ± 0.0707"
    assert spread_text(median.last) == "0.3000"
    assert spread_text(()) == "-"
    assert fedavg.seconds == 1.5


def test_the_table_has_a_line_for_each_setting() -> None:
    lines = table_text(group_rows(RUNS)).splitlines()
    assert len(lines) == 4
    assert lines[0].split("|")[1:-1] == [
        " strategy ", " last accuracy   ", " best accuracy   ", " runs ", " seconds ",
    ]  # fmt: skip
    assert "| median   | 0.3000          |" in lines[3]
    assert len({len(line) for line in lines}) == 1
    assert table_text([]) == "no run is finished yet\n"


def test_a_backdoor_has_a_column() -> None:
    rows = group_rows(
        [finished(0.5, metrics={"backdoor": 0.25}, attack="backdoor"), finished(0.5, attack="none")]
    )
    assert [row.backdoor for row in rows] == [(0.25,), ()]
    assert "| 0.2500   |" in table_text(rows)
    [first, second] = csv.DictReader(io.StringIO(table_csv(rows)))
    assert (first["backdoor_mean"], second["backdoor_mean"]) == ("0.250000", "")


def test_the_csv_of_the_table_has_numbers_in_columns_of_their_own() -> None:
    first, second = csv.DictReader(io.StringIO(table_csv(group_rows(RUNS))))
    assert (first["strategy"], first["last_mean"], first["last_std"]) == ("fedavg", "0.750000", "0.070711")
    assert (second["last_std"], second["metric"], second["runs"]) == ("", "accuracy", "1")
    assert "personal_mean" not in first


def test_the_csv_of_the_rounds_has_a_line_for_each_round() -> None:
    lines = list(csv.DictReader(io.StringIO(rounds_csv(RUNS))))
    assert len(lines) == 8
    assert lines[1] == {
        "strategy": "fedavg", "seed": "1", "round": "2", "accuracy": "0.900000", "best": "0.900000",
        "training_loss": "2.000000", "seconds": "0.500", "updates": "3", "attacking": "0", "left_out": "0",
        "digest": "d" * 64, "note": "",
    }  # fmt: skip


def test_columns_have_one_order_also_where_not_every_round_is_evaluated() -> None:
    run = finished(0.5, 0.6, strategy="fedavg")
    rows = (msgspec.structs.replace(run.rows[0], metrics={}, best=None, training_loss=None), *run.rows[1:])
    text = rounds_csv([msgspec.structs.replace(run, rows=rows)])
    assert text.splitlines()[0].startswith("strategy,seed,round,accuracy,best,training_loss,")
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["accuracy"], first["best"], first["training_loss"]) == ("", "", "")
    assert second["accuracy"] == "0.600000"


def test_rounds_without_a_new_model_are_counted_and_have_their_reason() -> None:
    runs = [finished(0.5, 0.5, note="median needs 3", strategy="median"), finished(0.5, strategy="fedavg")]
    rows = group_rows(runs)
    assert [row.unchanged for row in rows] == [2, 0]
    assert "| rounds without a new model |" in table_text(rows)
    assert "without a new model" not in table_text(rows[1:])
    assert [line["note"] for line in csv.DictReader(io.StringIO(rounds_csv(runs)))] == [
        "median needs 3"
    ] * 2 + [""]


def test_a_grid_over_clients_has_its_own_column() -> None:
    [line] = csv.DictReader(io.StringIO(rounds_csv([finished(0.5, clients="8", attackers="2")])))
    assert (line["clients"], line["attackers"], line["updates"], line["attacking"]) == ("8", "2", "3", "0")


def test_adapted_models_have_a_column() -> None:
    rows = group_rows(
        [finished(0.5, metrics={"personal_accuracy": 0.75}, personalise="1"), finished(0.5, personalise="0")]
    )
    assert [row.personal for row in rows] == [(0.75,), ()]
    assert "personal accuracy" in table_text(rows)
    [first, second] = csv.DictReader(io.StringIO(table_csv(rows)))
    assert (first["personal_mean"], second["personal_mean"]) == ("0.750000", "")
