"""Runs one node from its start to its exit code.

Only this module connects data directory, network, worker, protocol and observers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from p2pfl import __version__, events
from p2pfl.core import inputs
from p2pfl.core.effects import Exit
from p2pfl.core.node import Node
from p2pfl.core.options import Options
from p2pfl.core.saved import Saved
from p2pfl.disclosure import PRIVATE_REASON
from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.identity.credentials import check_is_node
from p2pfl.identity.exclusions import Exclusions
from p2pfl.identity.known_peers import read_known_peers
from p2pfl.identity.signatures import signer_of
from p2pfl.learning.process import Worker
from p2pfl.monitoring.endpoint import MetricsEndpoint, OwnFacts, metrics_endpoint
from p2pfl.net.links.peers import LocalNode
from p2pfl.net.mesh import Mesh
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.paths import full
from p2pfl.runtime.certificates import CertificateKeeper, find_renewer
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.expectation import Expectation
from p2pfl.runtime.incarnations import Incarnations
from p2pfl.runtime.jobs.work import JobExecutor, Work
from p2pfl.runtime.leaving import Leaving, end_with_input, signals
from p2pfl.runtime.membership import Membership, check_not_revoked
from p2pfl.runtime.met_peers import linked_lately
from p2pfl.runtime.node_config import LanSettings, NodeConfig
from p2pfl.runtime.observing.command_executor import CommandExecutor
from p2pfl.runtime.observing.device_info import OwnDeviceInfo
from p2pfl.runtime.observing.endpoint import Endpoint, endpoint_file
from p2pfl.runtime.observing.metrics import MetricsSampler
from p2pfl.runtime.observing.observers import Observers, last_rounds
from p2pfl.runtime.observing.publish import Publisher, Sink
from p2pfl.runtime.old_memory import forget_old_runs
from p2pfl.runtime.script_training import script_training
from p2pfl.runtime.surroundings import Surroundings
from p2pfl.spec import MAX_ROSTER, task_name
from p2pfl.store.blobs import BlobStore
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from p2pfl.strategy_specs import least_updates
from p2pfl.tracking.sink import tracked

logger = logging.getLogger(__name__)


OWN_FILES = 24
"""Number of open files of a node without links: journal, logs, pipes of the worker, listening sockets, files
of the event loop."""

ALONE = (
    "neither --peers nor --min-nodes is given, and other nodes are not looked for, so this node begins a run "
    "alone; to train with other nodes, stop it and give their addresses"
)
"""Warning of a node that is about to found a run alone: its operator may have forgotten the options."""


async def run_node(
    config: NodeConfig,
    worker: Worker,
    sinks: tuple[Sink, ...],
    started: float,
    on_start: Callable[[Leaving], None] = lambda _leave: None,
    reload_log_level: Callable[[], None] = lambda: None,
) -> ExitCode:
    """Run a node until its run is complete or its operator ends it; return the exit code.

    *worker* does the node's jobs, has perhaps started, and is closed at the end of a node that has started.
    *started* is the start of the process or the node, by `time.time()`; *on_start* gets what ends the node,
    once it can be ended. If the node owns the process (`NodeConfig.owns_process`), Ctrl-C leaves politely, a
    second one stops at once; SIGTERM leaves politely within `leave_within`. SIGHUP does so too if the process
    has a terminal; otherwise it reloads the certificate and calls *reload_log_level*.

    Raises:
        UserError: the data directory, the port, an address or the certificates do not allow it, or a tracker
        is not installed.
    """
    check_is_node(config.credentials)
    exclusions = Exclusions(config.credentials)
    check_not_revoked(config.credentials, exclusions)
    _check_files(config)
    publisher = Publisher(time.time)
    for sink in sinks:
        publisher.add(sink)
    with DataDirectory(config.data_dir).open() as directory:
        journal = Journal.open(
            directory.journal_path, config.credentials.node_id, new_journal=config.new_journal
        )
        with contextlib.closing(journal):
            if journal.remark:
                publisher.publish(events.Notice("warning", journal.remark))
            worker.on_death = lambda reason: publisher.publish(events.WorkerFailed(reason))
            task = task_name(config.spec.task)
            own = OwnFacts(directory.path, started)
            async with (
                metrics_endpoint(config.metrics, own, publisher) as metrics,
                tracked(config.track, config.credentials.name, publisher.add),
                script_training(config.script, task, worker, directory, publisher) as trainer,
            ):
                exit_ = await _run(
                    config,
                    exclusions,
                    directory,
                    journal,
                    publisher,
                    started,
                    trainer,
                    metrics,
                    on_start,
                    reload_log_level,
                )
    return exit_.code


async def _run(
    config: NodeConfig,
    exclusions: Exclusions,
    directory: DataDirectory,
    journal: Journal,
    publisher: Publisher,
    started: float,
    worker: JobExecutor,
    metrics: MetricsEndpoint | None,
    on_start: Callable[[Leaving], None],
    reload_log_level: Callable[[], None],
) -> Exit:
    store = BlobStore(directory.blobs_path)
    saved = _recover(journal.load(), store)
    await asyncio.to_thread(forget_old_runs, journal, store)
    signer = signer_of(config.credentials)
    earlier = read_known_peers(config.credentials.directory)
    lan = _lan(config)
    expectation = Expectation(
        listed=_devices(config),
        known=linked_lately(earlier, time.time()).keys() - {config.credentials.node_id},
        has_mdns=lan.is_on,
        is_held=config.wait,
    )
    options = _options(config, expectation)
    node = Node(journal.member, config.credentials.name, options, saved, signer, settings=config.protocol)
    driver = Driver(node, journal, store, publisher, config.net)
    renewer, remark = (
        find_renewer(config.credentials, config.ca, config.passphrase_file, exclusions.reason)
        if config.renews
        else (None, "")
    )
    keeper = CertificateKeeper(config.credentials, publisher.publish, renewer)
    token, nonce = secrets.token_hex(32), secrets.token_hex(16)
    leave = Leaving(driver, config.leave_within)
    membership = Membership(config.credentials, exclusions, node, driver, journal.incarnation)
    executor = CommandExecutor(node, driver, store, config.save_dir or directory.path / "saved", leave.ask)
    observers = Observers(
        config.credentials,
        config.net,
        token,
        nonce,
        lambda run: asyncio.to_thread(last_rounds, directory, run),
        executor.execute,
        membership=membership,
    )
    publisher.add(observers.write)
    incarnations = Incarnations(journal, node.newest_vote, driver.fail)
    mesh = Mesh(
        config.credentials,
        LocalNode(
            journal.member.journal,
            journal.incarnation,
            nonce,
            __version__,
            lambda: journal.votes_cast,
            signer,
        ),
        driver,
        store,
        listen=config.listen,
        incarnations=incarnations,
        advertise=config.advertise,
        peers=_other_addresses(config),
        observers=observers.hear,
        renewals=keeper,
        membership=membership,
        settings=config.net,
    )
    await mesh.start()
    surroundings = Surroundings(
        config.credentials,
        mesh,
        publisher.publish,
        lan,
        expectation,
        earlier,
        is_watched=lambda: observers.count > 0,
    )
    publisher.add(surroundings.met.write)
    work = Work(driver, store, worker, mesh)
    publisher.add(OwnDeviceInfo(journal.member.node, config.credentials.name, publisher.publish, mesh).write)
    measures = MetricsSampler(
        node,
        journal.member,
        config.credentials.name,
        mesh,
        publisher.publish,
        lambda: observers.count > 0 or config.recorded or bool(config.track),
        lambda: worker.pid,
    )
    if config.track:
        publisher.add(_measure_commits(measures))
    if metrics is not None:
        loop = asyncio.get_running_loop()
        metrics.measure = lambda: measures.sample_now(loop.time())

    def reload() -> None:
        publisher.publish(events.Notice("info", "SIGHUP: reading the certificate and the log level again"))
        reload_log_level()
        keeper.reload()

    reason = "the node was interrupted"
    measuring = BackgroundTasks()
    measuring.start_restarting("measuring", measures.run)
    try:
        with (
            endpoint_file(directory.observe_path, _endpoint(config, mesh, token, metrics)),
            signals(leave, reload) if config.owns_process else contextlib.nullcontext(),
            _enter_key(config.wait and config.owns_process and not config.until_eof, driver),
        ):
            # Only now: a program that reads this event may connect to the node or end it at once.
            publisher.publish(_started(config, mesh, time.time() - started))
            keeper.start(mesh)
            if remark:
                publisher.publish(events.Notice("info", remark))
            is_waiting = (saved.current is None or config.new_run) and config.min_nodes is None
            if is_waiting and _founds_alone(config, expectation):
                publisher.publish(events.Notice("warning", ALONE))
            if is_waiting:
                surroundings.tell_whom_it_awaits()
            if config.until_eof:
                end_with_input(driver, wait=config.wait)
            surroundings.start()
            driver.start(mesh, work, _look_around(config, surroundings, expectation, driver))
            membership.start(mesh, incarnations, observers.recheck)
            measuring.start_restarting("bans", membership.run)
            on_start(leave)
            exit_ = await driver.run()
        reason = exit_.reason if exit_.code != ExitCode.UNFIT else PRIVATE_REASON
        logger.info("ended with exit code %d: %s", exit_.code, exit_.reason)
        publisher.publish(events.Ended(exit_.code, exit_.reason))
    finally:
        await observers.close(reason)
        await keeper.close()
        await measuring.close()
        await surroundings.close()
        await work.close()
        await mesh.close(reason)
        await worker.close()
    return exit_


def _measure_commits(measures: MetricsSampler) -> Sink:
    """Return a sink that measures the traffic of each round at its end, for the trackers."""
    loop = asyncio.get_running_loop()

    def write(published: events.Published) -> None:
        if isinstance(published.event, events.Committed):
            measures.measure(loop.time())

    return write


def _endpoint(config: NodeConfig, mesh: Mesh, token: str, metrics: MetricsEndpoint | None) -> Endpoint:
    own = config.credentials
    addresses = tuple(mesh.addresses)
    url = metrics.url if metrics is not None else ""
    return Endpoint(own.name, own.node_id, os.getpid(), addresses, str(full(own.directory)), token, url)


def _started(config: NodeConfig, mesh: Mesh, seconds: float) -> events.Started:
    own = config.credentials
    addresses = ", ".join(mesh.addresses)
    return events.Started(own.name, own.node_id, own.federation, addresses, str(config.data_dir), seconds)


def _check_files(config: NodeConfig) -> None:
    """Check that this process may have enough files open for the links it needs.

    Raises:
        UserError: it may not; the message says how many it needs.
    """
    links, limit = _devices(config) - 1, sockets.files_limit()
    if links > limit - sockets.reserved_files() - OWN_FILES:
        needed = links + OWN_FILES + 2 * sockets.RESERVED_FILES
        raise UserError(
            f"This process may have {limit} files and connections open, too few for {links + 1} "
            f"nodes. Raise the limit before the start: `ulimit -n {max(needed, 1024)}`."
        )


def _recover(saved: Saved, store: BlobStore) -> Saved:
    """Return what the journal *saved*, without this node's update if a power failure damaged its file.

    Raises:
        DataDirectoryError: a disk error.
    """
    update = saved.current.update if saved.current is not None else None
    blobs = update.blobs.digests if update is not None else ()
    store.recover(blobs)
    if saved.current is None or update is None or all(map(store.has, blobs)):
        return saved
    return msgspec.structs.replace(saved, current=msgspec.structs.replace(saved.current, update=None))


def _options(config: NodeConfig, expectation: Expectation) -> Options:
    return Options(
        spec=config.spec,
        given=config.given,
        partitions=config.partitions,
        min_nodes=config.min_nodes if config.min_nodes is not None else expectation.number,
        listed=expectation.told,
        is_open=config.min_nodes is None and expectation.told == 1,
        nonce=secrets.token_hex(16),
        software=__version__,
        wait=config.wait,
        new_run=config.new_run,
        stay=config.stay,
        continue_with=config.continue_with,
    )


def _other_addresses(config: NodeConfig) -> tuple[str, ...]:
    """Return the listed addresses without those that are certainly this node's own.

    Operators give all nodes the same list. A host name counts as another device here; the mesh dials it and
    detects whether it is this node. A node that listens on one interface may share its port with another node
    of this device.
    """
    host, port = config.listen
    own = {parse_address(text) for text in config.advertise}

    def is_own(address: Address) -> bool:
        listens_there = address.port == port and (host is None or host == address.host)
        return address in own or (listens_there and sockets.is_own_host(address.host))

    return tuple(text for text in config.peers if not is_own(parse_address(text)))


def _devices(config: NodeConfig) -> int:
    """Return the number of devices of the listed addresses and this node, before any address is dialled."""
    return min(len({parse_address(text) for text in _other_addresses(config)}) + 1, MAX_ROSTER)


def _lan(config: NodeConfig) -> LanSettings:
    """Return how the node takes part in discovery: not at all if only this device can dial it."""
    host, port = config.listen
    is_local = host is not None and Address(host, port).is_loopback
    return msgspec.structs.replace(config.lan, is_on=config.lan.is_on and not is_local)


def _founds_alone(config: NodeConfig, expectation: Expectation) -> bool:
    """Whether this node, which is in no run, founds one without waiting for another node."""
    needs_others = bool(config.peers) or config.wait or least_updates(config.spec.strategy) > 1
    return expectation.founds_alone and not needs_others


def _look_around(
    config: NodeConfig, surroundings: Surroundings, expectation: Expectation, driver: Driver
) -> Callable[[], None]:
    """Return a function that looks at the surroundings, and passes on how many nodes are awaited.

    The operator's own number of awaited nodes stays.
    """
    is_automatic = config.min_nodes is None

    def update() -> None:
        if surroundings.update(is_waiting=is_automatic and not driver.is_in_run):
            awaited = expectation.number if config.min_nodes is None else config.min_nodes
            driver.feed(inputs.Expect(awaited, expectation.told))

    return update


@contextlib.contextmanager
def _enter_key(wait: bool, driver: Driver) -> Iterator[None]:
    """Start the run that `--wait` holds back when a line is read from standard input."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            line = sys.stdin.readline()
        except OSError:  # the terminal is closed
            line = ""
        loop.remove_reader(sys.stdin)
        if line:
            driver.feed(inputs.Go())

    watching = False
    if wait:
        try:
            loop.add_reader(sys.stdin, read)
            watching = True
        except (
            OSError,
            ValueError,
            NotImplementedError,
        ):  # there is no standard input, or it cannot be polled
            logger.warning(
                "standard input cannot be read for the Enter key: start the run with `p2pfl start`"
            )
    try:
        yield
    finally:
        if watching:
            loop.remove_reader(sys.stdin)
