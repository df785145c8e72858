"""`p2pfl demo`: a whole federation on one machine, made of real node processes, and what it gained.

Nothing is simulated: the nodes are started with the command line that any device would use, find each other
over TLS on loopback, and are only watched from outside, by the event files they write (`demo_story`,
`demo_screen`). On a terminal the terminal UI is opened over one of them meanwhile (`demo_show`), from which
nodes can be killed and started (`demo_control`). What is printed at the end is read from their journals
(`demo_result`, `demo_compare`), and is the same with and without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from p2pfl.cli.tui import has_screen

if TYPE_CHECKING:
    import asyncio

    from p2pfl.cli.demo_compare import Comparing
    from p2pfl.cli.demo_control import Control
    from p2pfl.cli.demo_nodes import NodeProcess
    from p2pfl.cli.demo_result import JournalSummary
    from p2pfl.cli.demo_screen import Screen
    from p2pfl.learning.data import DataPlaces
    from p2pfl.spec import RunSpec

MAX_NODES = 32
"""Each loads torch: 32 take about 16 GB."""

SHOWN_PACE = 3.0
"""Seconds of a node's training at least, when somebody looks: less, and nobody sees what happens."""

SHOWN_LINES = 8
"""Of what a failed node printed last."""

INTERRUPTED_EXIT = 130
"""Exit code after Ctrl-C, as shells count."""


class DemoSettings(NamedTuple):
    """What the demo was asked to do."""

    nodes: int
    options: tuple[str, ...]
    """For every node: what is to be trained, and how fast."""
    folder: Path
    keeps: bool
    """Whether the folder stays."""
    spec: RunSpec
    places: DataPlaces
    """Where data sets are."""
    is_shown: bool
    """Whether the terminal UI is opened."""


def demo(
    nodes: Annotated[
        int, typer.Option("--nodes", metavar="N", min=2, max=MAX_NODES, help="Node processes to start.")
    ] = 4,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            metavar="R",
            min=1,
            help="Rounds to train.  [default: the task's, 10]",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option("--task", metavar="T", help="What to train: digits, fashion-mnist, mnist or cifar10."),
    ] = "digits",
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="One of the task's models.", show_default=False)
    ] = None,
    partition: Annotated[
        str,
        typer.Option(
            "--partition", metavar="P", help="How data are divided: iid, dirichlet:ALPHA or shards:K."
        ),
    ] = "dirichlet:0.5",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of the initial model and the partition.")
    ] = 1,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            metavar="DIR",
            help="The only folder to look for the task's data in.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the task's data if they are not here.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Keep everything there: certificates, data directories, events. Otherwise all is removed.",
            show_default=False,
        ),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(
            "--pace",
            metavar="SECONDS",
            min=0.0,
            help="Each node holds its update back until so long after its training began, to watch it.  "
            "[default: 3 with the terminal UI, else 0]",
            show_default=False,
        ),
    ] = None,
    no_tui: Annotated[
        bool, typer.Option("--no-tui", help="Plain lines, also on a terminal: no terminal UI.")
    ] = False,
) -> None:
    """Run a whole federation on this machine and compare it with models trained alone."""
    import asyncio
    import logging

    from rich.console import Console

    from p2pfl.cli.demo_folder import folder_for, save_place
    from p2pfl.cli.demo_screen import Screen
    from p2pfl.cli.node import make_spec
    from p2pfl.errors import UserError
    from p2pfl.learning import catalogue
    from p2pfl.learning.data import DataPlaces
    from p2pfl.paths import full, shown

    given = {"task": task, "model": model, "rounds": rounds, "partition": partition, "seed": seed}
    chosen = {key: value for key, value in given.items() if value is not None}
    spec = make_spec(task, chosen)  # says now, once, what every node would say
    places = DataPlaces(data_root and full(data_root), download)
    if data_root is not None and task not in catalogue.tasks_with_files():
        raise UserError(
            f"the task {task!r} does not look into --data-root, since its data come with scikit-learn: name "
            f"the task whose data lie in {shown(data_root)} with --task "
            f"({', '.join(catalogue.tasks_with_files())}), or leave --data-root out"
        )
    if not download:
        catalogue.find_data(task, places)
    options = [f"--{key}={value}" for key, value in chosen.items()]
    if places.root is not None:
        options.append(f"--data-root={places.root}")
    is_shown = not no_tui and has_screen()
    if pace is None:
        pace = SHOWN_PACE if is_shown else 0.0
    if pace:
        options.append(f"--pace={pace:g}")
    if directory is None:
        options.append(f"--save-dir={save_place()}")
    if is_shown:
        # A logger without any handler prints warnings, and would over the terminal UI.
        logging.getLogger("p2pfl").addHandler(logging.NullHandler())
    screen = Screen(Console(highlight=False), is_live=not no_tui)
    with folder_for(directory) as folder:
        _prepare(folder, nodes)
        setting = DemoSettings(nodes, tuple(options), folder, directory is not None, spec, places, is_shown)
        code = asyncio.run(_perform(setting, screen))
    raise typer.Exit(code)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"node-{number}" for number in range(1, count + 1))


def _prepare(folder: Path, nodes: int) -> None:
    """Make the CA and the nodes' certificates in *folder*, or use those of an earlier demo there.

    Raises:
        UserError: the earlier one had another number of nodes.
        CredentialsError: the folder cannot be written, or its CA is of no use.
    """
    from p2pfl.errors import UserError
    from p2pfl.identity.authority import create_authority, issue, read_federation
    from p2pfl.identity.credentials import issued_folders

    certs = folder / "certs"
    known = sorted(path.name for path in issued_folders(certs)) if certs.is_dir() else []
    # A node's data directory is made after the last certificate: without one, the making was interrupted.
    if (folder / _names(1)[0]).exists() and known != sorted(_names(nodes)):
        raise UserError(
            f"{folder} holds a demo of {len(known)} nodes: go on with it by --nodes {len(known)}, or give "
            "this one another --dir."
        )
    if read_federation(certs) is None:
        create_authority(certs, "demo")
    for name in _names(nodes):
        if name not in known:
            issue(certs, name)


async def _perform(setting: DemoSettings, screen: Screen) -> int:
    """Run the demo and return its exit code; however it ends, no node is left running."""
    import asyncio

    from p2pfl.cli.demo_nodes import NodeProcess, end_all
    from p2pfl.cli.demo_result import fetch_data

    nodes = [NodeProcess(name, setting.folder) for name in _names(setting.nodes)]
    task = asyncio.current_task()
    assert task is not None
    with _interruptible(task, nodes):
        try:
            if setting.places.download:
                # All nodes look in the same place: it is done once, before there are any.
                screen.say(("·", f"downloading the data of {setting.spec.task.name}, unless they are here"))
                await fetch_data(setting.spec, setting.places)
            return await _watch_and_judge(setting, nodes, screen)
        except asyncio.CancelledError:
            if not task.cancelling():
                raise
            task.uncancel()
            screen.say(("!", "interrupted: the nodes are ended"))
            return INTERRUPTED_EXIT
        finally:
            await end_all(nodes)


@contextlib.contextmanager
def _interruptible(task: asyncio.Task[int], nodes: Sequence[NodeProcess]) -> Iterator[None]:
    """Cancel *task* on the first SIGINT, SIGTERM or SIGHUP; kill the nodes on a second one."""
    import asyncio
    import signal

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
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # Windows has neither SIGHUP nor such handlers; there asyncio.run cancels the task on Ctrl-C.
        with contextlib.suppress(NotImplementedError, AttributeError):
            number = getattr(signal, name)
            loop.add_signal_handler(number, interrupt)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)


async def _watch_and_judge(setting: DemoSettings, nodes: Sequence[NodeProcess], screen: Screen) -> int:
    from p2pfl.cli.demo_compare import Comparing
    from p2pfl.cli.demo_control import Control

    control = Control(setting.folder, nodes)
    comparing = Comparing(setting.places, screen, control)
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
    comparing: Comparing,
) -> int:
    from p2pfl.cli.demo_show import Show
    from p2pfl.cli.demo_watch import DemoWatcher
    from p2pfl.core.departure import LEFT_EXIT
    from p2pfl.paths import quoted

    def begin_comparing() -> None:
        """Compare while somebody still looks: what comes of it is shown there too."""
        if setting.is_shown and (found := _complete(_read(nodes))):
            comparing.begin(next(iter(found.values())))

    watch = DemoWatcher(
        nodes, screen, control, Show(setting.folder) if setting.is_shown else None, begin_comparing
    )
    reason = await watch.run(setting.options)
    journals = _read(nodes)
    complete = _complete(journals)
    failed = [node for node in nodes if watch.dead.get(node.name, LEFT_EXIT) != LEFT_EXIT]
    if reason or not complete:
        screen.say(("✗", f"the demo failed: {reason or 'no node has the final model'}"))
        _show_failed(failed, screen)
        return 1
    agree = await _show_result(setting, journals, screen, comparing)
    _show_failed(failed, screen)
    if setting.keeps:
        screen.say(("·", f"everything is kept in {setting.folder}"))
        screen.say(("·", f"more: p2pfl history --data-dir {quoted(nodes[0].data_dir)}"))
    # A node that somebody killed is what the others are there for; one that gave up by itself is a failure.
    return 0 if agree and all(watch.dead[node.name] < 0 for node in failed) else 1


def _read(nodes: Sequence[NodeProcess]) -> dict[str, JournalSummary]:
    from p2pfl.cli.demo_result import read_journals

    return read_journals({node.name: node.data_dir for node in nodes})


def _complete(journals: dict[str, JournalSummary]) -> dict[str, JournalSummary]:
    """Return the journals of the nodes that have the final model."""
    return {name: journal for name, journal in journals.items() if journal.run.ended}


async def _show_result(
    setting: DemoSettings, journals: dict[str, JournalSummary], screen: Screen, comparing: Comparing
) -> bool:
    """Print rounds, agreement and comparison; return whether all that the nodes have agrees."""
    from p2pfl.cli import demo_result

    complete = _complete(journals)
    journal = next(iter(complete.values()))
    screen.print(demo_result.round_table(journal.rounds))
    wrong = demo_result.disagreements(journals)
    for text in wrong:
        screen.say(("✗", text))
    if not wrong:
        digest = journal.rounds[-1].digest[: demo_result.SHORT]
        whom = f"all {setting.nodes} nodes" if len(complete) == setting.nodes else ", ".join(complete)
        screen.say(("✓", f"{whom} hold the same model, BLAKE3 {digest}"))
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
    """Print the last words of the nodes that did not end well."""
    from p2pfl.cli.demo_nodes import describe_exit

    for node in failed:
        code = node.exit_code
        how = describe_exit(code) if code is not None else "did not end"
        screen.say(("✗", f"{node.name} {how}; the last it printed:"))
        for line in node.last_lines(SHOWN_LINES):
            screen.say((" ", line))
