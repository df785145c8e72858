"""The network check: runs `p2pfl doctor` as a process of its own, with the certificate that the screen has.

The doctor is no part of the terminal UI: it opens sockets of its own and may wait for peers that are silent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
from rich.text import Text

from p2pfl.doctor.finding import NOBODY_TRAINS
from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.net.transport.addresses import parse_address
from p2pfl.observe.state import State
from p2pfl.programs import PYTHON, environment
from p2pfl.text import one_line
from tui.symbols import MAX_TEXT, Glyphs, clip

if TYPE_CHECKING:
    from p2pfl.observe.target import Target

MOST_ADDRESSES = 32
"""Nodes that are asked: a check with more says nothing that these do not."""

LIMIT_SECONDS = 120.0
"""Time limit of a check: all nodes are asked at the same time, and one that is silent takes five seconds."""

NODE_CHECKS = ("certificate", "port", "peers", "way", "links")
"""Checks for a node of this device."""

WATCHER_CHECKS = ("certificate", "peers")
"""Checks for a certificate that watches or commands: it trains nowhere."""


class CheckFinding(msgspec.Struct, frozen=True):
    """What the doctor found."""

    check: str
    state: Literal["ok", "warn", "fail"]
    text: str
    advice: str = ""


class _Report(msgspec.Struct, frozen=True):
    findings: tuple[CheckFinding, ...]


def doctor_words(target: Target, state: State) -> list[str]:
    """Return the arguments of `p2pfl doctor` for what the certificate of *target* may do.

    That is a node of this device and the way to its peers, or to watch the nodes that are known.
    """
    is_node = target.credentials.role == "node"
    peers = [peer.address for peer in state.peers.values() if peer.address and not peer.is_me]
    peers += [one.address.rpartition(" at ")[2] for one in state.addresses]
    if not is_node:
        peers.insert(0, target.text)
    asked = dict.fromkeys(written for text in peers if (written := _as_parsed(text)))
    checks = NODE_CHECKS if is_node and state.run else (*NODE_CHECKS, "mdns") if is_node else WATCHER_CHECKS
    words = [
        "doctor",
        "--json",
        f"--certs={target.credentials.directory}",
        f"--only={','.join(checks)}",
        f"--peers={','.join(list(asked)[:MOST_ADDRESSES])}",
    ]
    if is_node:
        words.append(f"--listen={_as_parsed(state.address.partition(',')[0]) or target.addresses[0].port}")
    return words


def _as_parsed(text: str) -> str:
    """Return the address *text*, which another device stated, in its usual form; empty if it is none."""
    try:
        return str(parse_address(text))
    except UserError:
        return ""


async def run_doctor(words: Sequence[str]) -> list[CheckFinding]:
    """Run `p2pfl` with the arguments *words* of a doctor, and return what it finds.

    Raises:
        UserError: it could not be run, or did not end in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *PYTHON,
            "p2pfl",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
    except OSError as error:
        raise UserError(f"the check could not be started: {error.strerror or error}") from error
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise UserError(
            f"the check did not end within {LIMIT_SECONDS:.0f} s: run `p2pfl doctor` in a shell, which shows "
            "each step"
        ) from error
    finally:
        if process.returncode is None:  # it takes too long, or the dialog was closed
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode in (0, ExitCode.FAILED):
        with contextlib.suppress(msgspec.DecodeError):
            findings = msgspec.json.decode(output, type=_Report).findings
            return [one for one in findings if not one.text.endswith(NOBODY_TRAINS)]
    said = errors.decode(errors="replace").strip().splitlines()
    why = one_line(said[-1].removeprefix("p2pfl: "), 300) if said else f"exit code {process.returncode}"
    raise UserError(f"the check failed: {why}")


def check_lines(findings: Sequence[CheckFinding], glyphs: Glyphs) -> list[Text]:
    """Return a line for each of *findings*, the advice below it, and one that sums them up."""
    marks = {"ok": (glyphs.check, "good"), "warn": ("!", "warning"), "fail": (glyphs.broken, "bad")}
    lines = []
    for one in findings:
        mark, style = marks[one.state]
        line = Text(f"{mark} ", style=style)
        lines.append(line.append(f"{one.state:<4}  {clip(one.text, MAX_TEXT)}", style=""))
        if one.advice:
            lines.append(Text(f"        {glyphs.right} {clip(one.advice, MAX_TEXT)}", style="quiet"))
    count = sum(one.state == "fail" for one in findings)
    end = f"{count} of these to solve, then check again." if count else "Nothing is in the way."
    return [*lines, Text(""), Text(end, style="bold")]
