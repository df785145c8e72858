"""The mesh: a link to every node that can be reached, and blobs from any of them.

This is what the runtime sees of the network. It puts together what the modules beside it do one thing each:
listening (`acceptor`), dialling (`dialler`, `book`), agreeing on a link (`handshake`, `admission`), the links
(`link`), and blobs (`blobs`, `transfer`, `serving`), over connections that either side may have made
(`reach`, `answering`). Peers tell each other whom they are linked to, so one
reachable address is enough to find everybody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Message
from p2pfl.net.bulk.connector import Reach
from p2pfl.net.bulk.dial_back import BulkDoor, CallAnswerer, Calls
from p2pfl.net.bulk.dialler import BulkDialler
from p2pfl.net.bulk.holders import Holder
from p2pfl.net.bulk.puller import BlobPuller
from p2pfl.net.bulk.request import PullRequest
from p2pfl.net.bulk.server import BlobServer
from p2pfl.net.bulk.transfer import Transfers
from p2pfl.net.dialling.address_book import MAX_NODES, MAX_TOLD, AddressBook, parse_told
from p2pfl.net.dialling.dialler import Dialler
from p2pfl.net.dialling.notices import Refusals, UnreachableAddresses
from p2pfl.net.dialling.sleep import SleepWatch
from p2pfl.net.links.admission import Admission
from p2pfl.net.links.handshake import Agreed, Disowned, Handshakes, Reachable, WrongNode
from p2pfl.net.links.link import Brought, Link
from p2pfl.net.links.peers import IncarnationMemory, LinkedPeer, Local, MeshListener
from p2pfl.net.links.rate_limits import Allowances, Gate
from p2pfl.net.transport import sockets
from p2pfl.net.transport.acceptor import ConnectionAcceptor, Purpose
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.net.transport.resolver import RESOLVER
from p2pfl.net.transport.stream import FrameStream
from p2pfl.net.transport.tasks import Tasks
from p2pfl.net.transport.tls import BLOB_ALPN, CONTROL_ALPN, OBSERVE_ALPN
from p2pfl.net.transport.traffic import Traffic
from p2pfl.store.blobs import BlobStore
from p2pfl.wire.links import Call, CallFailed, PeerAddresses, Peers

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""For queued frames and goodbyes at the end."""

DISK_THREADS = 8
"""Hash, write and read blobs: more would only wait for the same disk."""

_DEFAULT_SETTINGS = NetSettings()


@dataclass(frozen=True)
class _Neighbour:
    """A linked node and what others are told of reaching it."""

    link: Link
    addresses: tuple[Address, ...]
    is_loopback: bool
    """Whether it sits on this very device."""


class Mesh:
    """One node's connections. Make it in a running event loop, `start` it, in the end `close` it."""

    def __init__(
        self,
        credentials: Credentials,
        local: Local,
        listener: MeshListener,
        store: BlobStore,
        *,
        listen: tuple[str | None, int],
        incarnations: IncarnationMemory,
        advertise: Sequence[str] = (),
        peers: Sequence[str] = (),
        observers: Purpose | None = None,
        settings: NetSettings = _DEFAULT_SETTINGS,
    ) -> None:
        """Check the addresses and open nothing yet.

        *listen* is a host (None: every interface) and a port (0: any free one). *observers* hears the
        connections of observers; without it there are none.

        Raises:
            UserError: something in *advertise* or *peers* is no address.
            CredentialsError: OpenSSL does not take the key or a certificate.
        """
        self._node = credentials.node_id
        self._listener = listener
        self._settings = settings
        self._listen = listen
        self._addresses: list[Address] = []
        self._listed = {parse_address(text): text for text in peers}
        self._reachable = Reachable(tuple(str(parse_address(text)) for text in advertise))
        self._hosts: dict[str, str] = {}
        """By node, the IP address of its last link."""
        self._answered: dict[Address, str] = {}
        """The node that answered last at a listed address."""
        self._unreached = UnreachableAddresses(self._tell_unreached, time.monotonic)
        self._neighbours: dict[str, _Neighbour] = {}
        self._closing = False
        self._watching = Tasks()
        self._links = Tasks()
        self._allowances = Allowances(time.monotonic, settings.turned_away_seconds)
        self._admission = Admission(
            credentials.node_id, local, incarnations, settings.max_links, self._allowances.objection
        )
        self._book = AddressBook(credentials.node_id)
        self._refusals = Refusals(self._tell_refused, time.monotonic)
        self.traffic = Traffic()
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="blobs")
        server = BlobServer(store, settings, self.traffic, self._threads, self._tell_served)
        calls = Calls(self._send_link, settings)
        door = BulkDoor(credentials, settings, server, calls)
        purposes: dict[str, Purpose] = {CONTROL_ALPN: self._answer, BLOB_ALPN: door.hear}
        if observers is not None:
            purposes[OBSERVE_ALPN] = observers
        self._acceptor = ConnectionAcceptor(
            credentials, settings, purposes, self._refusals.refused, self._is_known
        )
        self._dialler = Dialler(
            self._attempt,
            self._book.addresses,
            self._is_linked,
            credentials.node_id,
            settings,
            self._book.forget,
        )
        bulk = BulkDialler(credentials, settings)
        self._calls = calls
        self._answerer = CallAnswerer(bulk, server, self._book.addresses, self._send_link)
        self._reach = Reach(bulk, calls, self.traffic)
        self._transfers = Transfers(credentials, settings, self.traffic, self._threads, self._reach)
        self._puller = BlobPuller(store, self._transfers, self._holders, settings.max_pulls, self._threads)
        self._handshakes = Handshakes(credentials, local, self._admission, settings, self._reachable)
        self._watch = SleepWatch(settings.clock_jump_seconds, self._slept)

    async def start(self) -> None:
        """Listen, and begin to dial.

        Raises:
            UserError: the port is taken or forbidden, or the host is not this device's.
        """
        listening = sockets.listen(*self._listen)
        self._addresses = [sockets.local_address(one) for one in listening]
        self._reachable.port = self.port
        self._acceptor.open(listening)
        for address in self._listed:
            RESOLVER.favour(address.host)
            self._dialler.add_listed(address)
        self._watching.start_lasting("looking for sleep", self._watch.run)

    async def close(self, reason: str) -> None:
        """Stop listening and dialling, send what is queued, say goodbye, and close, all in bounded time.

        The listener is told nothing any more. Cancel pulls before.
        """
        self._closing = True
        await self._dialler.close()
        await self._acceptor.close()
        await self._answerer.close()
        await self._watching.close()
        for neighbour in self._neighbours.values():
            neighbour.link.close(reason)
        await self._links.wait(CLOSE_SECONDS)
        await self._links.close()
        self._transfers.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def port(self) -> int:
        """The port this node listens on."""
        return self._addresses[0].port

    @property
    def addresses(self) -> list[str]:
        """What this node listens on."""
        return [str(address) for address in self._addresses]

    @property
    def expected(self) -> int:
        """How many devices the listed peers and this node are, as far as is known.

        Several addresses may lead to one device. One where nobody has answered yet counts as a device.
        """
        devices = {self._answered.get(address, address) for address in self._listed}
        return len(devices - {self._node}) + 1

    @property
    def unreachable(self) -> dict[str, str]:
        """Listed peers that could not be reached at the last try, as they were written, and why."""
        return self._unreached.reasons

    def links(self) -> dict[str, LinkedPeer]:
        """Return the linked peers by node id."""
        return {node: neighbour.link.peer for node, neighbour in self._neighbours.items()}

    def rtt(self, node: str) -> float | None:
        """Return how long the last ping of *node* took, in seconds; None before it was answered."""
        neighbour = self._neighbours.get(node)
        return neighbour.link.rtt if neighbour is not None else None

    def send(self, node: str, message: Message) -> bool:
        """Queue *message* for *node*; return False where there is no link, or it cannot take more."""
        neighbour = self._neighbours.get(node)
        return neighbour is not None and neighbour.link.send(message)

    def drop_all(self, reason: str) -> None:
        """Cut every link and dial again at once: after a sleep nobody knows which of them still lives."""
        for neighbour in self._neighbours.values():
            neighbour.link.cut(reason)
        self._dialler.hurry()

    def drop(self, node: str, reason: str) -> None:
        """Cut the link to *node*; the next handshake judges it anew."""
        neighbour = self._neighbours.get(node)
        if neighbour is not None:
            neighbour.link.cut(reason)

    async def pull(self, request: PullRequest) -> None:
        """Bring the requested blob into the store; see `BlobPuller.pull`.

        Raises:
            NetworkError: no node that could be reached sent the blob; one may do so later.
            BlobError: every node that could be reached sent something else.
            DataDirectoryError: the local disk failed.
        """
        await self._puller.pull(request)

    # --- connections become links ---------------------------------------------------------------------------

    async def _attempt(self, address: Address, expected: str | None) -> str | None:
        """Dial *address*; return the node that is linked now, if any."""
        text = self._listed.get(address)
        try:
            connection = await sockets.connect(address, self._settings.dial_seconds)
            sockets.tune(connection, self._settings.silence_seconds)
        except (NetworkError, OSError) as error:
            logger.debug("%s cannot be reached: %s", address, error)
            if expected is not None:
                self._book.fail(expected, address)
            if text is None:
                return None
            if await self._is_own(address):
                return self._found(address, self._node)
            self._unreached.failed(text, f"{error}{self._linked_all_the_same(address)}")
            return None
        try:
            outcome = await self._handshakes.dial(connection, address, expected)
        except HandshakeRefused as error:
            if isinstance(error, WrongNode) and expected is not None:
                self._book.strike(expected, address)
            self._refusals.refused(str(address), str(error))
            if text is not None:
                self._unreached.failed(text, str(error), is_refused=True)
            self._heed(error)
            return None
        if isinstance(outcome, Agreed):
            self._establish(outcome, address, dialled=True)
            return self._found(address, outcome.identity.node_id)
        return self._found(address, outcome.node)

    def _found(self, address: Address, node: str) -> str:
        """Take note that *node* answered at *address*; return it."""
        text = self._listed.get(address)
        if text is not None:
            self._answered[address] = node
            self._unreached.reached(text)
        return node

    def _linked_all_the_same(self, address: Address) -> str:
        """Say of *address*, which cannot be dialled, that its node is linked because it dialled this one."""
        for node, neighbour in self._neighbours.items():
            if address in self._book.addresses(node):
                return f" ({neighbour.link.peer.name}, whose address this is, is linked all the same)"
        return ""

    async def _is_own(self, address: Address) -> bool:
        """Whether *address*, where nobody was reached, is this node's: not every device can dial itself."""
        if str(address) in self._reachable.advertise:
            return True
        if address.port != self.port:
            return False
        try:
            infos = await RESOLVER.resolve(address, self._settings.dial_seconds)
        except NetworkError:
            return False
        return all(sockets.is_own(where) for where in infos)

    async def _answer(self, stream: FrameStream, identity: PeerIdentity, address: str) -> None:
        """Make a link of an accepted control connection, which came from the host *address*.

        Raises:
            HandshakeRefused: it was refused.
        """
        try:
            outcome = await self._handshakes.answer(stream, identity)
        except HandshakeRefused as error:
            self._heed(error)
            raise
        if isinstance(outcome, Agreed):
            self._establish(outcome, Address(address, outcome.words.port), dialled=False)

    def _heed(self, error: HandshakeRefused) -> None:
        """Act on a refusal that means more than the end of one connection."""
        if isinstance(error, Disowned) and not self._closing:
            self._listener.disowned(str(error))

    def _establish(self, agreed: Agreed, address: Address, *, dialled: bool) -> None:
        """Make an agreed connection the link to its node, and introduce the node to the others."""
        node, words = agreed.identity.node_id, agreed.words
        peer = LinkedPeer(
            agreed.member,
            agreed.identity.name,
            agreed.identity.role,
            str(address),
            words.incarnation,
            words.nonce,
        )
        gate = Gate(node, self._allowances, partial(self._refusals.refused, f"{peer.name} ({short(node)})"))
        link = Link(agreed.stream, peer, agreed.order, self._settings, self._take, gate)
        self._allowances.count_link(node)
        advertised = parse_told(words.advertise)
        host = sockets.host_of(agreed.stream.transport.get_extra_info("peername"))
        observed = Address(host, address.port)
        self._book.note(node, [address, *advertised] if dialled else [*advertised, address], first=True)
        self._hosts[node] = host
        while len(self._hosts) > MAX_NODES:
            del self._hosts[next(iter(self._hosts))]
        self._replace(node, "a new connection took its place")
        self._reach.linked(node, dialled=dialled)
        self._answerer.linked(node)
        told = tuple(advertised) or (observed,)
        self._neighbours[node] = _Neighbour(link, told, observed.is_loopback)
        self.traffic.watch("control", node, agreed.stream.meter)
        self._links.start(self._run(link))
        self._dialler.add_node(node)
        self._introduce(node)
        if not self._closing:
            self._listener.linked(peer)

    def _replace(self, node: str, reason: str) -> None:
        """End the link to *node*, if there is one, before another takes its place."""
        neighbour = self._neighbours.pop(node, None)
        if neighbour is not None:
            neighbour.link.cut(reason)
            self._transfers.forget(node)
            self._reach.unlinked(node)
            if not self._closing:
                self._listener.unlinked(neighbour.link.peer, reason)

    async def _run(self, link: Link) -> None:
        """See a link through to its end."""
        node = link.peer.member.node
        reason = "a fault in this node ended the link"
        try:
            reason = await link.run()
        finally:
            self.traffic.settle(link.stream.meter)
            self._admission.release(node, link.order)
            neighbour = self._neighbours.get(node)
            if neighbour is not None and neighbour.link is link:
                del self._neighbours[node]
                self._transfers.forget(node)
                self._reach.unlinked(node)
                self._dialler.lost(node)
                if not self._closing:
                    self._listener.unlinked(link.peer, reason)
        await link.end()

    # --- what links bring -----------------------------------------------------------------------------------

    def _take(self, link: Link, frame: Brought) -> None:
        """Handle a frame that is not the link's own affair."""
        node = link.peer.member.node
        neighbour = self._neighbours.get(node)
        if neighbour is None or neighbour.link is not link or self._closing:
            return
        match frame:
            case Peers():
                self._hear_of(frame, node)
            case Call():
                self._answerer.called(node, frame)
            case CallFailed():
                self._calls.failed(node, frame)
            case _:
                self._listener.received(link.peer, frame)

    def _hear_of(self, frame: Peers, source: str) -> None:
        """Take the addresses that the peer *source* tells of others."""
        for told in frame.peers:
            is_new = self._book.note(told.node, parse_told(told.addresses), first=False)
            if is_new and not self._dialler.add_node(told.node, source):
                self._book.forget(told.node)

    def _introduce(self, node: str) -> None:
        """Tell *node* of the others, and the others of *node*."""
        newcomer = self._neighbours[node]
        others = {other: self._neighbours[other] for other in self._neighbours if other != node}
        _send_peers(newcomer, others)
        for other in others.values():
            _send_peers(other, {node: newcomer})

    def _is_linked(self, node: str) -> bool:
        return node in self._neighbours

    def _send_link(self, node: str, frame: Call | CallFailed) -> bool:
        neighbour = self._neighbours.get(node)
        return neighbour is not None and neighbour.link.send(frame)

    def _holders(self, sources: Sequence[str]) -> list[Holder]:
        """Return who may have a blob: *sources*, then all linked nodes; last, who is hardly to be reached.

        Those are the sources that are not linked, and who was just now not to be reached.
        """
        nodes = [node for node in dict.fromkeys([*sources, *self._neighbours]) if node != self._node]
        nodes.sort(key=lambda node: node not in self._neighbours or self._reach.is_barred(node))
        holders = [Holder(node, self._name(node), self._book.addresses(node)) for node in nodes]
        return [holder for holder in holders if holder.addresses or self._is_linked(holder.node)]

    def _name(self, node: str) -> str:
        neighbour = self._neighbours.get(node)
        return neighbour.link.peer.name if neighbour is not None else short(node)

    def _is_known(self, host: str) -> bool:
        """Whether a node was linked, or is listed, at *host*."""
        return host in self._hosts.values() or any(address.host == host for address in self._listed)

    def _tell_refused(self, address: str, reason: str) -> None:
        if not self._closing:
            self._listener.refused(address, reason)

    def _tell_unreached(self, address: str, reason: str, is_refused: bool) -> None:
        if not self._closing:
            self._listener.unreached(address, reason, is_refused=is_refused)

    def _tell_served(self, name: str, done: int, total: int) -> None:
        if not self._closing:
            self._listener.served(name, done, total)

    def _slept(self, seconds: float) -> None:
        logger.info("the clocks parted by %.1f s, as after a sleep: all links are made anew", seconds)
        self.drop_all("the device slept")


def _send_peers(to: _Neighbour, about: Mapping[str, _Neighbour]) -> None:
    """Tell *to* where to reach the nodes *about*, as far as it leads anywhere from its place."""
    told = []
    for node, neighbour in about.items():
        useful = tuple(
            str(address)
            for address in neighbour.addresses
            if address.is_useful_to_others and (to.is_loopback or not address.is_loopback)
        )
        if useful:
            told.append(PeerAddresses(node, neighbour.link.peer.name, useful[:MAX_TOLD]))
    if told:
        to.link.send(Peers(tuple(told)))
