"""The order of a start: the worker is under way before the rest of the node is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.names import Role
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.runtime import start
from p2pfl.runtime.node_config import NodeConfig, ScriptSettings
from tests.support.core import options
from tests.support.federation import make_federation
from tests.support.source import ROOT

SHOW_ORDER = """
import asyncio, json, sys, time
from p2pfl.cli.node import node
from p2pfl.runtime import configure, start

def heavy():
    return [name for name in ("p2pfl.core.node", "p2pfl.net.mesh", "p2pfl.runtime.node") if name in sys.modules]

class Noted:
    def __init__(self, settings):
        print(json.dumps(["made", heavy()]))
    async def start(self):
        print(json.dumps(["started", heavy()]))
    async def close(self):
        print(json.dumps(["closed", heavy()]))

start.Worker = Noted
from p2pfl.cli import main
main()
"""
"""Prints which large parts of the node are imported when its worker is started, and when it is closed."""


def config(tmp_path: Path, role: Role = "node") -> NodeConfig:
    [ada] = make_federation(tmp_path / "ca", "ada", role=role).values()
    return NodeConfig(ada, tmp_path / "data", options().spec, frozenset())


def test_the_worker_starts_before_the_rest_of_the_node_is_imported(tmp_path: Path) -> None:
    make_federation(tmp_path / "ca", "ada")
    words = ["node", f"--certs={tmp_path / 'ca' / 'ada'}", f"--data-dir={tmp_path / 'data'}", "--listen=x:1"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHOW_ORDER, *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        cwd=tmp_path,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert found[:2] == [["made", []], ["started", []]], done.stderr
    assert [what for what, _ in found[2:]][-1] == "closed"


class Noted(Worker):
    """Notes what is asked of it; its process never starts."""

    made: list[Noted]

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        super().__init__(settings)
        self.asked: list[str] = []
        self.made.append(self)

    async def start(self) -> None:
        self.asked.append("start")

    async def close(self) -> None:
        self.asked.append("close")


@pytest.mark.parametrize(
    ("script", "asked"), [(None, ["start", "close"]), (ScriptSettings(("train.py",)), ["close"])]
)
async def test_a_node_that_cannot_start_ends_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ScriptSettings | None, asked: list[str]
) -> None:
    Noted.made = []
    monkeypatch.setattr(start, "Worker", Noted)
    wrong = msgspec.structs.replace(config(tmp_path, "observer"), script=script)
    with pytest.raises(CredentialsError, match="has the role observer"):
        await start.start_node(wrong, (), 0.0)
    assert [worker.asked for worker in Noted.made] == [asked]


@pytest.mark.parametrize("owns_process", [True, False])
async def test_a_worker_inherits_the_raised_limit_of_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owns_process: bool
) -> None:
    order: list[str] = []

    class Ordered(Noted):
        async def start(self) -> None:
            order.append("worker")

    Noted.made = []
    monkeypatch.setattr(start, "Worker", Ordered)
    monkeypatch.setattr(start, "raise_files_limit", lambda: order.append("limit"))
    chosen = msgspec.structs.replace(config(tmp_path, "observer"), owns_process=owns_process)
    with pytest.raises(CredentialsError):
        await start.start_node(chosen, (), 0.0)
    assert order == (["limit", "worker"] if owns_process else ["worker"])
