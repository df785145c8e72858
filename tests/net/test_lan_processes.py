"""A federation from nothing on a LAN of network namespaces: `up` on one device, `join` on three, Enter."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from p2pfl.identity.known_peers import read_known_peers
from tests.support.namespaces import wires
from tests.support.processes import QUICK, until
from tests.support.terminals import Terminal, terminal

pytestmark = [pytest.mark.processes, pytest.mark.long]

OTHERS = ("ben", "cleo", "dan")


async def seen(shown: Terminal, text: str) -> re.Match[str]:
    return await until(lambda: re.search(text, shown.text), f"{text} in {shown.text}")


async def test_four_devices_are_told_nothing_but_up_join_and_the_code(tmp_path: Path) -> None:
    with wires("ada", *OTHERS) as network:
        async with contextlib.AsyncExitStack() as stack:

            async def run(name: str, *words: str) -> Terminal:
                places = (
                    f"--name={name}",
                    f"--certs={tmp_path / name}",
                    f"--data-dir={tmp_path / f'{name}-data'}",
                )
                return await stack.enter_async_context(terminal(*words, *places, inside=network.inside(name)))

            ada = await run("ada", "up", "--rounds=1", *QUICK)
            code = (await seen(ada, r"\n +(\w+-\w+-\w+)\n"))[1]
            others = [await run(name, "join", "--start") for name in OTHERS]
            for joining in others:
                await seen(joining, r"\S+ invites to 'p2pfl', at ")
                await seen(joining, "Code")
                joining.press(f"{code.replace('-', ' ')}\n")
            for number in (1, 2, 3):
                await seen(ada, f"(?s)(Let it in.*){{{number}}}")
                ada.press("y\n")
                await seen(ada, f"(?s)(has joined.*){{{number}}}")
            await until(
                lambda: len(set(re.findall(r"(ben|cleo|dan) \(\w+\) linked", ada.text))) == 3, ada.text
            )
            ada.press("\n")
            await seen(ada, r"round 1 committed by \w+: 4 updates")
            assert [await one.exit_code() for one in (ada, *others)] == [0] * 4
    assert {peer.name for peer in read_known_peers(tmp_path / "dan" / "dan").values()} >= {
        "ada",
        "ben",
        "cleo",
    }
