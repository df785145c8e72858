"""Members of a running federation are kicked, banned and revoked, on real processes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.exit_codes import ExitCode
from p2pfl.identity.authority import issue
from p2pfl.identity.credentials import load_credentials
from p2pfl.identity.exclusions import Exclusions
from p2pfl.identity.revocation import REVOCATIONS_FILE
from tests.support.processes import LIGHT, Fleet, Process, fleet, last_round
from tests.support.source import ROOT

pytestmark = [
    pytest.mark.processes,
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("bans"),
]

LONG = "--rounds=100000"
"""So that the run goes on until the test ends."""

NAMES = ("ada", "ben", "cas", "dan")


async def command(fleet: Fleet, *words: str) -> tuple[int, str]:
    """Run a command of `p2pfl`; return its exit code and its output."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "p2pfl", *words],
        capture_output=True,
        text=True,
        cwd=fleet.folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(fleet.folder)},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


async def running(fleet: Fleet, *options: str) -> list[Process]:
    """Start four nodes on an endless run, and wait for two rounds."""
    issue(fleet.folder / "certs", "desk", "operator")
    nodes = await fleet.start_all(*NAMES, options=("--rounds=1000000", *options), program=LIGHT)
    for one in nodes:
        await one.until(events.Committed, lambda event: event.round >= 2)
    return nodes


def folder_of(fleet: Fleet, name: str) -> Path:
    return fleet.folder / "certs" / name


async def is_out(process: Process, name: str, since: int) -> int:
    """Wait until *process* has committed a record without *name*; return its round."""
    found = await process.until(
        events.Committed, lambda event: event.round > since and name not in event.members
    )
    return found.round


async def test_a_banned_node_is_out_within_one_round_everywhere_and_after_all_restarts(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as nodes:
        ada, ben, cas, dan = await running(nodes)
        code, said = await command(
            nodes, "ban", "ben", f"--data-dir={tmp_path / 'ada'}", "--certs=certs/desk", "--reason=stolen"
        )
        assert (code, said) == (
            0,
            "done: ben is banned, and out with the next commit, as desk (operator) says\n",
        )
        assert await ben.exit_code() == ExitCode.UNFIT
        assert "this device is banned by desk (operator): stolen" in ben.output
        for one in (ada, cas, dan):
            told = await one.until(events.MemberExcluded)
            assert (told.name, told.text, told.is_held) == (
                "ben",
                "is banned by desk (operator): stolen",
                True,
            )
            await is_out(one, "ben", 0)
            told_at = one.events.index(told)
            later = [event for event in one.events[told_at:] if isinstance(event, events.Committed)]
            with_ben = [event.round for event in later if "ben" in event.members]
            assert len(with_ben) <= 1, "one record may be proposed already when the ban comes"
        noted = await command(nodes, "history", f"--data-dir={tmp_path / 'cas'}")
        assert "ben is banned by desk (operator): stolen" in noted[1]

        for one in (ada, cas, dan):
            one.end()
        again = await nodes.start("ada", "--rounds=1000000", "--min-nodes=4", program=LIGHT)
        rest = [
            await nodes.start(name, "--rounds=1000000", "--min-nodes=4", peers=[again], program=LIGHT)
            for name in ("cas", "dan")
        ]
        for one in (again, *rest):
            await one.until(events.Committed)
        shutil.rmtree(tmp_path / "ben")  # a new data directory changes nothing
        back = await nodes.start(
            "ben", "--rounds=1000000", "--min-nodes=4", peers=[again, *rest], program=LIGHT
        )
        assert await back.exit_code() == ExitCode.UNFIT
        assert "this device is banned by desk (operator): stolen" in back.output
        before = max(map(last_round, (again, *rest)))
        for one in (again, *rest):
            found = await one.until(events.Committed, lambda event: event.round > before + 2)
            assert set(found.members) == {"ada", "cas", "dan"}
        for name in ("ada", "cas", "dan"):
            kept = Exclusions(load_credentials(folder_of(nodes, name)))
            assert list(kept.excluded().values()) == ["is banned by desk (operator): stolen"]

        code, said = await command(nodes, "bans", f"--data-dir={tmp_path / 'dan'}")
        assert code == 0
        assert "by desk (operator): stolen" in said
        code, said = await command(
            nodes, "unban", "ben", f"--data-dir={tmp_path / 'dan'}", "--certs=certs/desk"
        )
        assert code == 0
        for one in (again, *rest):
            await one.until(events.MemberExcluded, lambda event: not event.is_held)
        welcome = await nodes.start("ben", "--rounds=1000000", peers=[again], program=LIGHT)
        await welcome.until(events.Committed, lambda event: "ben" in event.members)
    nodes.check("ada", "cas", "dan")


async def test_a_kicked_node_ends_and_may_come_back(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        ada, ben, cas, _ = await running(nodes)
        code, said = await command(
            nodes, "kick", "ben", f"--data-dir={tmp_path / 'cas'}", "--certs=certs/desk"
        )
        assert (code, said[:44]) == (0, "done: ben is out with the next commit; it ma")
        assert await ben.exit_code() == ExitCode.LEFT
        assert "this device was kicked by desk (operator)" in ben.output
        out = max([await is_out(one, "ben", 0) for one in (ada, cas)])
        back = await nodes.start("ben", "--rounds=1000000", peers=[ada], program=LIGHT)
        await back.until(events.Committed, lambda event: "ben" in event.members)
        await ada.until(events.Committed, lambda event: event.round > out and "ben" in event.members)


async def test_a_member_whose_certificate_is_revoked_is_out_and_does_not_start_again(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        ada, ben, cas, dan = await running(nodes)
        code, said = await command(nodes, "certs", "revoke", "ben")
        assert code == 0, said
        assert await ben.exit_code() == ExitCode.UNFIT
        assert "this device is kept out: its certificate was revoked by the CA" in ben.output
        for one in (ada, cas, dan):
            await is_out(one, "ben", 0)
        assert await nodes.start_unheard("ben", peers=[ada], program=LIGHT).exit_code() == ExitCode.UNFIT
        (folder_of(nodes, "ben") / REVOCATIONS_FILE).unlink()  # it pretends not to know
        back = await nodes.start("ben", peers=[ada], program=LIGHT)
        assert await back.exit_code() == ExitCode.UNFIT


async def test_of_two_members_the_banned_one_votes_until_it_is_out(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        issue(nodes.folder / "certs", "desk", "operator")
        ada, ben = await nodes.start_all("ada", "ben", options=("--rounds=1000000",), program=LIGHT)
        for one in (ada, ben):
            await one.until(events.Committed, lambda event: event.round >= 2)
        code, _ = await command(nodes, "ban", "ben", f"--data-dir={tmp_path / 'ada'}", "--certs=certs/desk")
        assert code == 0
        assert await ben.exit_code() == ExitCode.UNFIT
        out = await is_out(ada, "ben", 0)
        await ada.until(events.Committed, lambda event: event.round > out + 2)
    nodes.check("ada")


async def test_a_banned_node_is_not_waited_for_before_a_run(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        issue(nodes.folder / "certs", "desk", "operator")
        ben = await nodes.start("ben", "--min-nodes=3", LONG, program=LIGHT)
        ada = await nodes.start("ada", "--min-nodes=3", LONG, peers=[ben], program=LIGHT)
        await ada.until(events.PeerLinked)
        code, said = await command(
            nodes, "ban", "ben", f"--data-dir={tmp_path / 'ada'}", "--certs=certs/desk"
        )
        assert code == 0, said
        assert await ben.exit_code() == ExitCode.UNFIT
        cas = await nodes.start("cas", "--min-nodes=2", LONG, peers=[ada], program=LIGHT)
        dan = await nodes.start("dan", "--min-nodes=3", LONG, peers=[cas], program=LIGHT)
        back = await nodes.start("ben", "--min-nodes=3", LONG, peers=[cas], program=LIGHT)
        assert await back.exit_code() == ExitCode.UNFIT
        for one in (ada, cas, dan):
            founded = await one.until(events.Committed)
            assert set(founded.members) == {"ada", "cas", "dan"}
