"""The node of `p2pfl up` ends with it, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.source import ROOT

UP = """
import asyncio, sys
from p2pfl.cli import node_process
from p2pfl.cli.node_process import LocalNodeProcess

async def up():
    node_process.PYTHON = (sys.executable, sys.argv[1])
    node = LocalNodeProcess(["--rounds=1"])
    await node.start()
    node.press_enter()
    await node.wait()

asyncio.run(up())
"""

NODE = "import sys; print(sys.argv[1:], flush=True); [print('line', flush=True) for _ in sys.stdin]; print('end')"


def test_a_killed_up_takes_its_node_with_it(tmp_path: Path) -> None:
    node = tmp_path / "node.py"
    node.write_text(NODE, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(node)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == "['p2pfl', 'node', '--until-eof', '--rounds=1']\n"
        assert up.stdout.readline() == "line\n", "Enter"
        up.kill()
        assert up.stdout.read() == "end\n", "its input ends, and with it the node"
