from __future__ import annotations

import asyncio
import sys

from p2pfl.net.loop import run


def test_a_node_runs_on_uvloop_where_there_is_one_and_its_result_comes_back() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert run(main()) == ("asyncio" if sys.platform == "win32" else "uvloop")
