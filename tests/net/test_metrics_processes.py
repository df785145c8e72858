"""Real nodes are scraped and probed: the values are those of the run, and probes tell when a node cannot do its part."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2pfl import events
from p2pfl.observe.client import command
from p2pfl.observe.target import find_target
from p2pfl.runtime.observing.endpoint import read_endpoint
from p2pfl.store.directory import DataDirectory
from tests.support.processes import LIGHT, PATIENCE_SECONDS, Process, fleet, last_round, until

pytestmark = pytest.mark.processes


class Response(NamedTuple):
    """What a node answers."""

    status: int
    text: str

    @property
    def values(self) -> dict[str, float]:
        """The samples, by name and labels."""
        return {
            sample.name + "".join(f",{value}" for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


async def get(process: Process, folder: Path, path: str) -> Response:
    """Return the answer of a node, which `observe.json` in its data directory says how to reach."""
    endpoint = read_endpoint(DataDirectory(folder / process.name).observe_path)
    assert endpoint is not None
    assert endpoint.metrics.endswith("/metrics")
    url = endpoint.metrics.removesuffix("/metrics") + path

    def fetch() -> Response:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return Response(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, error.read().decode())

    return await asyncio.to_thread(fetch)


def received_bytes(values: Mapping[str, float]) -> float:
    [received] = [
        value for name, value in values.items() if name.startswith("p2pfl_peer_bytes_total,received")
    ]
    return received


@pytest.mark.long
@pytest.mark.xdist_group("metrics")
async def test_a_run_is_scraped_and_a_lost_quorum_is_probed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        options = ("--rounds=100000", "--metrics=0", "--wait")
        ada, ben = await nodes.start_all("ada", "ben", options=options, program=LIGHT)
        told = await ada.until(events.Notice, lambda one: "metrics at http://127.0.0.1:" in one.text)
        assert told.text.split()[2].rstrip(",").endswith("/metrics")
        await ada.until(events.WorkerReady)
        waits = await get(ada, tmp_path, "/readyz")
        assert (waits.status, waits.json["phase"]) == (200, "waiting"), waits.text
        for name in ("ada", "ben"):
            await command(find_target(data_dir=tmp_path / name), "start")
        await until(lambda: last_round(ada) > 2 and last_round(ben) > 2, "some rounds", ada)
        scraped = await get(ada, tmp_path, "/metrics")
        values = scraped.values
        assert values["p2pfl_round"] >= 3
        assert values["p2pfl_rounds_wanted"] == 100000
        assert (values["p2pfl_members"], values["p2pfl_members_reachable"]) == (2, 2)
        assert (values["p2pfl_quorum_members"], values["p2pfl_quorum_held"]) == (2, 1)
        assert values["p2pfl_round_seconds_count"] >= 3
        assert values["p2pfl_updates_counted_total"] >= 6
        assert 0 <= values["p2pfl_model_metric,accuracy,true"] <= 1
        assert values["p2pfl_memory_bytes"] > 2**20, "it is measured when it is asked for"
        async with asyncio.timeout(PATIENCE_SECONDS):  # links are measured at most twice a second
            while not received_bytes((await get(ada, tmp_path, "/metrics")).values):
                pass
        assert (await get(ada, tmp_path, "/healthz")) == (200, "ok\n")
        ben.end()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await get(ada, tmp_path, "/metrics")).values["p2pfl_quorum_held"]:
                pass
        lost = await get(ada, tmp_path, "/readyz")
        assert lost.status == 503
        assert "there is no quorum: 1 of 2 members are reachable, 2 are needed" in lost.json["reasons"]
        assert (await get(ada, tmp_path, "/healthz")).status == 200, "a restart would not help"


async def test_a_taken_port_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ada = nodes.start_unheard("ada", "--min-nodes=1", f"--metrics={port}", program=LIGHT)
            assert await ada.exit_code() == 2
    assert ada.output == (
        f"p2pfl: This device cannot listen on 127.0.0.1:{port}: another program does already, perhaps another "
        "node. Stop it, or choose another port with --metrics HOST:PORT.\n"
    )


async def test_idle_and_slow_clients_do_not_stop_the_run(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        ada = await nodes.start("ada", "--min-nodes=1", "--rounds=100000", "--metrics=0", program=LIGHT)
        endpoint = read_endpoint(DataDirectory(tmp_path / "ada").observe_path)
        assert endpoint is not None
        port = int(endpoint.metrics.split(":")[2].partition("/")[0])
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for client in clients:
            client.send(b"GET /metrics HT")
        before = last_round(ada)
        await until(lambda: last_round(ada) > before + 2, "rounds beside them", ada)
        for client in clients:
            client.close()
        await until_answered(ada, tmp_path)


async def until_answered(process: Process, folder: Path) -> None:
    """Wait until the places of cut clients are free."""
    async with asyncio.timeout(20):
        while True:
            try:
                assert (await get(process, folder, "/healthz")).status == 200
            except OSError:
                continue
            return
