"""The official parser reads the metrics; dashboard and alert rules name only metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.process_collector import ProcessCollector

from p2pfl import __version__, events
from p2pfl.events import AnyEvent
from p2pfl.monitoring.exposition import NodeCollector, ScrapeContext
from p2pfl.monitoring.place import DataPlace
from p2pfl.monitoring.values import NodeValues
from tests.support.monitored import RUNNING, committed, evaluated, folded
from tests.support.records import node
from tests.support.source import PACKAGE

FOLDER = PACKAGE / "monitoring"

NAME = re.compile(r"\b(?:p2pfl|process)_[a-z_]+")

MEASURED = events.Measured(0.5, 2**20, (events.LinkMeasure(node("ben"), 0.01, 5, 6),))

FULL: tuple[AnyEvent, ...] = (
    *RUNNING,
    MEASURED,
    events.CertificateChanged(5000.0, ""),
    committed(1, "cleo", seconds=0.2),
    evaluated(1, accuracy=0.75, loss=0.5),
)


def text_of(values: NodeValues, path: Path) -> str:
    context = ScrapeContext(DataPlace(path), 100.0, lambda: 1000.0)
    return NodeCollector(values, context).text().decode()


def samples(values: NodeValues, path: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return each sample of *values* by name and labels, as the official parser reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text_of(values, path))
        for sample in family.samples
    }


def test_the_official_parser_reads_every_metric(tmp_path: Path) -> None:
    found = samples(folded(*FULL), tmp_path)
    expected = {
        ("p2pfl_round", ()): 1.0,
        ("p2pfl_rounds_wanted", ()): 10.0,
        ("p2pfl_members", ()): 3.0,
        ("p2pfl_members_reachable", ()): 3.0,
        ("p2pfl_quorum_members", ()): 2.0,
        ("p2pfl_quorum_held", ()): 1.0,
        ("p2pfl_model_metric", (("metric", "accuracy"), ("primary", "true"))): 0.75,
        ("p2pfl_model_metric", (("metric", "loss"), ("primary", "false"))): 0.5,
        ("p2pfl_model_metric_round", ()): 1.0,
        ("p2pfl_round_seconds_bucket", (("le", "0.1"),)): 0.0,
        ("p2pfl_round_seconds_bucket", (("le", "0.25"),)): 1.0,
        ("p2pfl_round_seconds_bucket", (("le", "+Inf"),)): 1.0,
        ("p2pfl_round_seconds_count", ()): 1.0,
        ("p2pfl_round_seconds_sum", ()): 0.2,
        ("p2pfl_updates_counted_total", ()): 2.0,
        ("p2pfl_updates_left_out_total", (("peer", "cleo"),)): 1.0,
        ("p2pfl_phase", (("state", "running"),)): 1.0,
        ("p2pfl_phase", (("state", "paused"),)): 0.0,
        ("p2pfl_worker_state", (("state", "ready"),)): 1.0,
        ("p2pfl_certificate_remaining_seconds", ()): 4000.0,
        ("p2pfl_memory_bytes", ()): 2.0**20,
    }
    assert {key: found.get(key) for key in expected} == expected
    about_ben = {
        (name, dict(labels).get("direction")): value
        for (name, labels), value in found.items()
        if dict(labels).get("node") == node("ben")[:7]
    }
    assert about_ben == {
        ("p2pfl_peer_linked", None): 1.0,
        ("p2pfl_peer_rtt_seconds", None): 0.01,
        ("p2pfl_peer_bytes_total", "sent"): 5.0,
        ("p2pfl_peer_bytes_total", "received"): 6.0,
    }
    builds = [dict(labels) for name, labels in found if name == "p2pfl_build_info"]
    assert [one["version"] for one in builds] == [__version__]
    assert found[("p2pfl_data_dir_free_bytes", ())] > 0


def test_a_node_that_has_just_started_has_no_accuracy_rather_than_0(tmp_path: Path) -> None:
    names = {name for name, _ in samples(NodeValues(), tmp_path)}
    assert "p2pfl_model_metric" not in names
    assert "p2pfl_node_info" not in names
    assert "p2pfl_data_dir_free_bytes" not in {name for name, _ in samples(NodeValues(), tmp_path / "no")}


def test_hostile_names_stay_inside_their_label(tmp_path: Path) -> None:
    hostile = 'ben"} 1\np2pfl_round 99\\'
    values = folded(*RUNNING, events.PeerLinked(node("ben"), hostile, "127.0.0.1:9001"))
    found = samples(values, tmp_path)
    assert found[("p2pfl_round", ())] == 0.0
    assert 'ben"} 1?p2pfl_round 99\\' in {dict(labels).get("peer") for _, labels in found}


def test_the_start_of_the_process_is_there_also_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ("process_start_time_seconds", ()) in samples(NodeValues(), tmp_path)
    monkeypatch.setattr(ProcessCollector, "collect", lambda self: [])
    assert samples(NodeValues(), tmp_path)[("process_start_time_seconds", ())] == 100.0


def test_names_follow_the_rules_of_prometheus(tmp_path: Path) -> None:
    families = list(text_string_to_metric_families(text_of(folded(*FULL), tmp_path)))
    own = [family for family in families if family.name.startswith("p2pfl_")]
    assert len(own) > 25
    for family in own:
        assert re.fullmatch("[a-z_0-9]+", family.name)
        assert family.documentation.endswith("."), family.name
        totals = {one.name.endswith("_total") for one in family.samples}
        assert totals <= {family.type == "counter"}, family.name


def known_names(path: Path) -> set[str]:
    text = text_of(folded(*FULL), path)
    typed = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    return {name for name, _ in samples(folded(*FULL), path)} | set(typed)


def expressions(value: Any) -> list[str]:
    """Return every Prometheus expression in a dashboard or a file of rules."""
    if isinstance(value, dict):
        own = [value["expr"]] if "expr" in value else []
        return own + [found for one in value.values() for found in expressions(one)]
    return [found for one in value for found in expressions(one)] if isinstance(value, list) else []


def test_every_metric_in_the_dashboard_and_the_alert_rules_exists(tmp_path: Path) -> None:
    known = known_names(tmp_path)
    rules = expressions(yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8")))
    shown = expressions(json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8")))
    assert len(rules) > 8
    assert len(shown) > 12
    named = {name for expression in rules + shown for name in NAME.findall(expression)}
    assert named - known == set()


def test_every_metric_is_documented_and_every_documented_metric_exists(tmp_path: Path) -> None:
    documented = set(NAME.findall((FOLDER / "README.md").read_text(encoding="utf-8")))
    own = {
        re.sub("_(bucket|sum|count)$", "", name)
        for name in known_names(tmp_path)
        if name.startswith("p2pfl_")
    }
    assert own - documented == set()
    assert {name for name in documented if name.startswith("p2pfl_")} - own == set()
