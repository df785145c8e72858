"""The metrics of a node in the text format of Prometheus.

Names follow https://prometheus.io/docs/practices/naming/: the prefix `p2pfl_`, base units, `_total` behind
counters. Labels have few values: the nodes of the federation, the metrics of the task, fixed words. What
belongs to a process in general (`process_...`) is that of the node's process, without its worker.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from p2pfl import __version__
from p2pfl.identity.keys import short
from p2pfl.monitoring.place import DataPlace
from p2pfl.monitoring.values import ROUND_SECONDS, NodeValues, Phase, WorkerState, label
from p2pfl.spec import model_name, task_name
from p2pfl.strategy_specs import strategy_name

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The classic text format, which every Prometheus reads."""

START_TIME = "process_start_time_seconds"


@dataclass(frozen=True)
class ScrapeContext:
    """What the metrics show besides the node's events."""

    place: DataPlace
    started: float
    """Start of the process, in seconds since the epoch."""
    clock: Callable[[], float] = time.time


class NodeCollector(Collector):
    """Collects the metrics of one node for prometheus_client."""

    def __init__(self, values: NodeValues, surroundings: ScrapeContext) -> None:
        self._values = values
        self._around = surroundings
        self._process = ProcessCollector(registry=None)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; one without a value yet is left out."""
        yield from self._device()
        yield from self._peers()
        yield from self._run()
        yield from self._rounds()

    # --- this device ----------------------------------------------------------------------------------------

    def _device(self) -> Iterator[Metric]:
        values, around = self._values, self._around
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("p2pfl_build", "Versions of p2pfl and Python.", build)
        if values.node:
            about = {
                "name": label(values.name),
                "node": short(values.node),
                "federation": label(values.federation),
            }
            yield InfoMetricFamily("p2pfl_node", "Name, node id and federation of the node.", about)
        yield from self._process_metrics()
        yield _states("p2pfl_phase", "What the node does: 1 for its state.", get_args(Phase), values.phase)
        yield _states(
            "p2pfl_worker_state",
            "State of the worker process, which trains: 1 for its state.",
            get_args(WorkerState),
            values.worker,
        )
        yield _count(
            "p2pfl_worker_failures", "Times the worker process ended or hung.", values.worker_failures
        )
        if values.memory is not None:
            yield _gauge("p2pfl_memory_bytes", "Resident memory of the node and its worker.", values.memory)
        if values.certificate_end is not None:
            left = values.certificate_end - around.clock()
            yield _gauge("p2pfl_certificate_remaining_seconds", "Time until the certificate expires.", left)
        if (free := around.place.free_bytes()) is not None:
            yield _gauge("p2pfl_data_dir_free_bytes", "Free disk space for the data directory.", free)

    def _process_metrics(self) -> Iterator[Metric]:
        found = list(self._process.collect())  # empty on systems without /proc
        yield from found
        if all(metric.name != START_TIME for metric in found):
            text = "Start time of the process since unix epoch in seconds."
            yield _gauge(START_TIME, text, self._around.started)

    # --- peers ----------------------------------------------------------------------------------------------

    def _peers(self) -> Iterator[Metric]:
        names = ["peer", "node"]
        linked = GaugeMetricFamily("p2pfl_peer_linked", "Whether there is a link to the peer.", labels=names)
        rtt = GaugeMetricFamily("p2pfl_peer_rtt_seconds", "Round-trip time of the last ping.", labels=names)
        traffic = CounterMetricFamily(
            "p2pfl_peer_bytes",
            "Bytes exchanged with the peer, above TLS.",
            labels=[*names, "direction"],
        )
        for node, peer in self._values.peers.items():
            labels = [label(peer.name), short(node)]
            linked.add_metric(labels, peer.linked)
            traffic.add_metric([*labels, "sent"], peer.sent)
            traffic.add_metric([*labels, "received"], peer.received)
            if peer.rtt is not None:
                rtt.add_metric(labels, peer.rtt)
        yield from (linked, rtt, traffic)

    # --- the run --------------------------------------------------------------------------------------------

    def _run(self) -> Iterator[Metric]:
        values = self._values
        if values.spec is not None:
            about = {
                "run": values.run[:12],
                "task": label(task_name(values.spec.task)),
                "model": label(model_name(values.spec.task)),
                "strategy": label(strategy_name(values.spec.strategy)),
            }
            yield InfoMetricFamily("p2pfl_run", "The run that the node is in.", about)
        yield _gauge("p2pfl_round", "Last committed training round of the run.", values.round)
        yield _gauge("p2pfl_rounds_wanted", "Training rounds that the run is to have.", values.rounds)
        yield _gauge("p2pfl_members", "Members in the roster.", len(values.members))
        yield _gauge("p2pfl_members_reachable", "Members that are linked and in the run.", values.reachable)
        yield _gauge("p2pfl_quorum_members", "Members that make a quorum.", values.needed)
        yield _gauge("p2pfl_quorum_held", "Whether a quorum is in reach.", values.has_quorum)
        model = GaugeMetricFamily(
            "p2pfl_model_metric",
            "Last committed evaluation of the shared model; primary marks the metric that models are "
            "compared by.",
            labels=["metric", "primary"],
        )
        for name, value in values.metrics.items():
            model.add_metric([label(name), "true" if name == values.primary else "false"], value)
        yield model
        if values.metrics:
            yield _gauge("p2pfl_model_metric_round", "Training round of that model.", values.metrics_round)

    # --- rounds ---------------------------------------------------------------------------------------------

    def _rounds(self) -> Iterator[Metric]:
        values = self._values
        yield _count(
            "p2pfl_rounds_committed", "Training rounds that the node saw committed.", values.committed
        )
        bounds = [*map(str, ROUND_SECONDS), "+Inf"]
        yield HistogramMetricFamily(
            "p2pfl_round_seconds",
            "Duration of a training round, from one commit to the next.",
            buckets=list(zip(bounds, values.round_seconds.cumulative(), strict=True)),
            sum_value=values.round_seconds.sum,
        )
        if values.last_round_at is not None:
            text = "Time of the last commit of a training round, in seconds since the epoch."
            yield _gauge("p2pfl_last_round_timestamp_seconds", text, values.last_round_at)
            text = "Attempts that the last committed round took: 1 if no aggregator failed."
            yield _gauge("p2pfl_last_round_attempts", text, values.last_attempts)
        yield _count("p2pfl_updates_counted", "Updates that were aggregated in these rounds.", values.counted)
        left_out = CounterMetricFamily(
            "p2pfl_updates_left_out", "Rounds without an update of the member.", labels=["peer"]
        )
        for name, count in values.left_out.items():
            left_out.add_metric([label(name)], count)
        yield left_out
        yield _count("p2pfl_elections_started", "Elections in which this node stood.", values.elections)
        yield _count("p2pfl_aggregators_elected", "Elections with a winner.", values.aggregators)
        yield _count(
            "p2pfl_step_downs", "Candidates and aggregators that gave up their attempt.", values.step_downs
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _count(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _states(name: str, text: str, states: Sequence[str], current: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state in states:
        family.add_metric([state], state == current)
    return family
