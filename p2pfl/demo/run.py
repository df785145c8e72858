"""Runs a demo: prepares certificates, starts nodes, watches them, judges the result, returns an exit code.

Nothing is simulated. The nodes are started with the command line that any device would use, find each other
over TLS on loopback, and are watched through the event files they write (`watch`, `story`, `screen`). On a
terminal the terminal UI is opened on one of them (`processes`), from which nodes can be killed and started
(`control`). The summary at the end is read from the nodes' journals (`results`, `compare`), with or without
the terminal UI.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from p2pfl.demo import results
from p2pfl.demo.compare import ComparisonTask, fetch_data
from p2pfl.demo.control import Control
from p2pfl.demo.director import Director, Plan
from p2pfl.demo.processes import NodeProcess, TuiProcess, describe_exit, end_all
from p2pfl.demo.record import write_recording
from p2pfl.demo.results import JournalSummary, read_journals
from p2pfl.demo.screen import Screen
from p2pfl.demo.watch import DemoWatcher
from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.identity.authority import create_authority, issue, read_federation
from p2pfl.identity.credentials import issued_folders
from p2pfl.learning.data import DataPlaces
from p2pfl.paths import quoted
from p2pfl.programs import ending_signals
from p2pfl.report.terminal import round_table
from p2pfl.spec import RunSpec, ScriptTask, task_name

SHOWN_LINES = 8
"""Lines shown of a failed node's output, the last ones."""


class DemoSettings(NamedTuple):
    """What a demo runs and where."""

    nodes: int
    options: tuple[str, ...]
    """Command-line options for every node."""
    folder: Path
    keeps: bool
    """Whether the folder is kept at the end."""
    spec: RunSpec
    places: DataPlaces
    """Where data sets are."""
    is_shown: bool
    """Whether the terminal UI is opened."""
    plan: Plan
    """What is said and done meanwhile."""
    record: Path | None = None
    """Where the recording is written; None for none."""


def names_of(count: int) -> tuple[str, ...]:
    """Return the names of the nodes of a demo with *count* nodes."""
    return tuple(f"node-{number}" for number in range(1, count + 1))


def prepare(folder: Path, nodes: int) -> None:
    """Create the CA and the nodes' certificates in *folder*, or reuse those of an earlier demo.

    Raises:
        UserError: the earlier one had another number of nodes.
        CredentialsError: the folder cannot be written, or its CA is of no use.
    """
    certs = folder / "certs"
    known = sorted(path.name for path in issued_folders(certs)) if certs.is_dir() else []
    # Data directories are created after all certificates: without one, an earlier demo was interrupted here.
    if (folder / names_of(1)[0]).exists() and known != sorted(names_of(nodes)):
        raise UserError(
            f"{folder} holds a demo of {len(known)} nodes: go on with it by --nodes {len(known)}, or give "
            "this one another --dir."
        )
    if read_federation(certs) is None:
        create_authority(certs, "demo")
    for name in names_of(nodes):
        if name not in known:
            issue(certs, name)


async def perform(setting: DemoSettings, screen: Screen) -> ExitCode:
    """Run the demo and return its exit code; all nodes are ended before it returns."""
    began = time.time()
    nodes = [NodeProcess(name, setting.folder) for name in names_of(setting.nodes)]
    task = asyncio.current_task()
    assert task is not None
    with _interruptible(task, nodes):
        try:
            if setting.places.download:
                # All nodes use the same files, so they are downloaded once, before any node starts.
                screen.say(
                    ("·", f"downloading the data of {task_name(setting.spec.task)}, unless they are here")
                )
                await fetch_data(setting.spec, setting.places)
            return await _watch_and_judge(setting, nodes, screen)
        except asyncio.CancelledError:
            if not task.cancelling():
                raise
            task.uncancel()
            screen.say(("!", "interrupted: the nodes are ended"))
            return ExitCode.INTERRUPTED
        finally:
            await end_all(nodes)
            if setting.record is not None:
                _record(setting.record, nodes[0], setting.folder, began, screen)


def _record(path: Path, node: NodeProcess, folder: Path, began: float, screen: Screen) -> None:
    """Write the recording, also of a demo that failed or was interrupted."""
    try:
        write_recording(path, node.events_path, folder, began)
    except UserError as error:
        screen.say(("!", str(error)))
    else:
        screen.say(("·", f"recorded; watch it again: p2pfl tui --replay {quoted(path)}"))


@contextlib.contextmanager
def _interruptible(task: asyncio.Task[ExitCode], nodes: Sequence[NodeProcess]) -> Iterator[None]:
    """Cancel *task* on the first of the `ending_signals`; kill the nodes on a second one."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if task.cancelling() or interrupted:
            for node in nodes:
                node.kill()
        else:
            interrupted.append(True)
            task.cancel()

    interrupted: list[bool] = []
    installed = []
    for number in ending_signals():
        # Windows has no such handlers; there asyncio.run cancels the task on Ctrl-C.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, interrupt)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)


async def _watch_and_judge(setting: DemoSettings, nodes: Sequence[NodeProcess], screen: Screen) -> ExitCode:
    control = Control(setting.folder, nodes)
    comparing = ComparisonTask(setting.places, screen, control)
    try:
        return await _judge(setting, nodes, screen, control, comparing)
    finally:
        await comparing.close()
        control.close()


async def _judge(
    setting: DemoSettings,
    nodes: Sequence[NodeProcess],
    screen: Screen,
    control: Control,
    comparing: ComparisonTask,
) -> ExitCode:
    def begin_comparing() -> None:
        """Begin the comparison while the terminal UI is open: it shows the results, too."""
        if (
            setting.is_shown
            and not isinstance(setting.spec.task, ScriptTask)
            and (found := _complete(_read(nodes)))
        ):
            comparing.begin(next(iter(found.values())))

    show = TuiProcess(setting.folder) if setting.is_shown else None
    watch = DemoWatcher(nodes, screen, control, show, begin_comparing, Director(setting.plan))
    reason = await watch.run(setting.options)
    journals = _read(nodes)
    complete = _complete(journals)
    failed = [node for node in nodes if watch.dead.get(node.name, ExitCode.LEFT) != ExitCode.LEFT]
    if reason or not complete:
        screen.say(("✗", f"the demo failed: {reason or 'no node has the final model'}"))
        _show_failed(failed, screen)
        return ExitCode.FAILED
    agree = await _show_result(setting, journals, screen, comparing)
    _show_failed(failed, screen)
    if setting.keeps:
        screen.say(("·", f"everything is kept in {setting.folder}"))
        screen.say(("·", f"more: p2pfl history --data-dir {quoted(nodes[0].data_dir)}"))
    # The federation tolerates a killed node; a node that ended by itself is a failure.
    is_good = agree and all(watch.dead[node.name] < 0 for node in failed)
    return ExitCode.COMPLETE if is_good else ExitCode.FAILED


def _read(nodes: Sequence[NodeProcess]) -> dict[str, JournalSummary]:
    return read_journals({node.name: node.data_dir for node in nodes})


def _complete(journals: dict[str, JournalSummary]) -> dict[str, JournalSummary]:
    """Return the journals of the nodes that have the final model."""
    return {name: journal for name, journal in journals.items() if journal.run.ended}


async def _show_result(
    setting: DemoSettings, journals: dict[str, JournalSummary], screen: Screen, comparing: ComparisonTask
) -> bool:
    """Print rounds, agreement and comparison; return whether the nodes agree."""
    complete = _complete(journals)
    journal = next(iter(complete.values()))
    screen.print(round_table(journal.rounds))
    wrong = results.disagreements(journals)
    for text in wrong:
        screen.say(("✗", text))
    if not wrong:
        digest = journal.rounds[-1].digest[: results.SHORT]
        whom = f"all {setting.nodes} nodes" if len(complete) == setting.nodes else ", ".join(complete)
        screen.say(("✓", f"{whom} hold the same model, BLAKE3 {digest}"))
    if isinstance(journal.run.spec.task, ScriptTask):
        screen.say(("·", "no models are trained alone to compare: the training loop is the script's own"))
        return not wrong
    epochs = journal.run.trained * journal.run.spec.training.epochs
    screen.say(("·", f"to compare, each node's data alone are trained on for {epochs} epochs"))
    with screen.live():
        comparison = await comparing.result(journal)
    screen.print()
    for text in comparison.lines():
        screen.print(text)
    screen.print()
    return not wrong


def _show_failed(failed: Sequence[NodeProcess], screen: Screen) -> None:
    """Print the last output of the failed nodes."""
    for node in failed:
        code = node.exit_code
        how = describe_exit(code) if code is not None else "did not end"
        screen.say(("✗", f"{node.name} {how}; the last it printed:"))
        for line in node.last_lines(SHOWN_LINES):
            screen.say((" ", line))
