"""The mesh of a node: a link to every node that can be reached, and blobs pulled from any of them.

The runtime uses this class only. It composes the packages beside it: `transport` accepts connections,
`dialling` dials them, `links` agrees on links and runs them, and `bulk` transfers blobs on connections that
either side may have dialled. Peers share the addresses of the nodes they are linked to, so one reachable
address is enough to find all nodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import (
    ExcludedNodeError,
    HandshakeRefused,
    KeptOutError,
    LateClaimError,
    NetworkError,
    NotDialledError,
    VersionRefused,
)
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Message
from p2pfl.net.bulk.connector import HolderConnector
from p2pfl.net.bulk.dial_back import BulkDispatcher, DialBackRequests, DialBackResponder
from p2pfl.net.bulk.dialler import BulkDialler
from p2pfl.net.bulk.holders import Holder
from p2pfl.net.bulk.puller import BlobPuller
from p2pfl.net.bulk.request import PullRequest
from p2pfl.net.bulk.server import BlobServer
from p2pfl.net.bulk.transfer import Transfers
from p2pfl.net.dialling.address_book import MAX_NODES, AddressBook, parse_shared
from p2pfl.net.dialling.contacts import Contact, Contacts, DialFailure
from p2pfl.net.dialling.dialler import Dialler, FoundService
from p2pfl.net.dialling.notices import CopyDoubts, RefusalNotices
from p2pfl.net.dialling.sleep import SleepDetector
from p2pfl.net.links.admission import EVERYBODY, Admission
from p2pfl.net.links.handshake import (
    EstablishedConnection,
    Handshakes,
    JournalClonedError,
    OwnAddresses,
    WrongNodeError,
)
from p2pfl.net.links.link import DeliveredFrame, Link
from p2pfl.net.links.peers import (
    IncarnationMemory,
    LinkedPeer,
    LocalNode,
    MembershipPolicy,
    MeshListener,
    RenewalListener,
)
from p2pfl.net.links.rate_limits import LinkRateLimiter, Quotas
from p2pfl.net.neighbours import Neighbour, Neighbours
from p2pfl.net.transport import sockets
from p2pfl.net.transport.acceptor import AlpnHandler, ConnectionAcceptor
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.net.transport.resolver import RESOLVER
from p2pfl.net.transport.stream import FrameStream
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.net.transport.tls import BLOB_ALPN, CONTROL_ALPN, OBSERVE_ALPN
from p2pfl.net.transport.traffic import Traffic
from p2pfl.store.blobs import BlobStore
from p2pfl.wire.blobs import MAX_LINKED, LinkedNode, MeasureReply
from p2pfl.wire.links import (
    Call,
    CallFailed,
    CanRenew,
    Peers,
    Renew,
    RenewalFrame,
    RenewalRefused,
    Renewed,
    RevocationList,
    Statements,
)

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""For queued frames and BYEs when the mesh closes."""

DISK_THREADS = 8
"""For hashing, writing and reading blobs: more threads would only wait for the same disk."""

_DEFAULT_SETTINGS = NetSettings()


class Mesh:
    """All connections of one node. Create it in a running event loop, `start` it, finally `close` it."""

    def __init__(
        self,
        credentials: Credentials,
        local: LocalNode,
        listener: MeshListener,
        store: BlobStore,
        *,
        listen: tuple[str | None, int],
        incarnations: IncarnationMemory,
        advertise: Sequence[str] = (),
        peers: Sequence[str] = (),
        observers: AlpnHandler | None = None,
        renewals: RenewalListener | None = None,
        membership: MembershipPolicy = EVERYBODY,
        settings: NetSettings = _DEFAULT_SETTINGS,
    ) -> None:
        """Check the addresses and open nothing yet.

        *listen* is a host (None: every interface) and a port (0: any free one). *observers* handles the
        connections of observers; without it there are none. *renewals* handles the frames about certificates.
        *membership* says who is kept out.

        Raises:
            UserError: an entry of *advertise* or *peers* is not an address.
            CredentialsError: OpenSSL rejects the key or a certificate.
        """
        self._node = credentials.node_id
        self._membership = membership
        self._listener = listener
        self._renewals = renewals
        self._version = local.version
        self._settings = settings
        self._listen = listen
        self._addresses: list[Address] = []
        self._listed = {parse_address(text): text for text in peers}
        self._advertise = tuple(str(parse_address(text)) for text in advertise)
        self._hosts: dict[str, str] = {}
        """By node, the IP address of its last link."""
        self._known_hosts: set[str] = set()
        """Where nodes known from an earlier time may be."""
        self._is_closing = False
        self._background = BackgroundTasks()
        self._links = BackgroundTasks()
        self._neighbours = Neighbours()
        self._book = AddressBook(self._node)
        self._contacts = Contacts(self._on_contact, self._report_refusal, time.monotonic, time.time)
        self._refusal_notices = RefusalNotices(self._on_refusal, time.monotonic)
        self._copy_doubts = CopyDoubts(time.monotonic)
        self._quotas = Quotas(time.monotonic, settings.ban_seconds)
        self._admission = Admission(
            self._node, local, incarnations, settings.max_links, self._quotas.ban_reason, membership
        )
        own_addresses = OwnAddresses(self._advertise, lambda: self.port)
        self._handshakes = Handshakes(credentials, local, self._admission, settings, own_addresses)
        self._dialler = Dialler(
            self._attempt,
            self._book.addresses,
            self._neighbours.__contains__,
            self._node,
            settings,
            self._contacts,
            self._book.forget,
        )
        self._sleep_detector = SleepDetector(settings.clock_jump_seconds, self._on_sleep)
        self.traffic = Traffic()
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="blobs")
        server = BlobServer(
            store,
            settings,
            self.traffic,
            self._threads,
            self._on_served,
            self._about,
            membership.reason,
        )
        self._bulk_dialler = bulk_dialler = BulkDialler(credentials, settings)
        self._dial_backs = DialBackRequests(self._neighbours.send, settings)
        self._responder = DialBackResponder(bulk_dialler, server, self._book.addresses, self._neighbours.send)
        self._connector = HolderConnector(bulk_dialler, self._dial_backs, self.traffic)
        self._transfers = Transfers(credentials, settings, self.traffic, self._threads, self._connector)
        self._puller = BlobPuller(store, self._transfers, self._holders, settings.max_pulls, self._threads)
        dispatcher = BulkDispatcher(credentials, settings, server, self._dial_backs)
        handlers: dict[str, AlpnHandler] = {CONTROL_ALPN: self._answer, BLOB_ALPN: dispatcher.dispatch}
        if observers is not None:
            handlers[OBSERVE_ALPN] = observers
        self._acceptor = ConnectionAcceptor(
            credentials, settings, handlers, self._report_refusal, self._is_known
        )

    async def start(self) -> None:
        """Listen, and begin to dial.

        Raises:
            UserError: the port is in use or not permitted, or the host is not an address of this device.
        """
        listening = sockets.listen(*self._listen)
        self._addresses = [sockets.local_address(one) for one in listening]
        self._acceptor.open(listening)
        for address, text in self._listed.items():
            RESOLVER.prioritise(address.host)
            self._contacts.add(address, "listed", text)
            self._dialler.add_listed(address)
        self._background.start_restarting("sleep detection", self._sleep_detector.run)

    async def close(self, reason: str) -> None:
        """Stop listening and dialling, send queued frames and BYEs, and close, all in bounded time.

        The listener is not called any more. Cancel all pulls before.
        """
        self._is_closing = True
        await self._dialler.close()
        await self._acceptor.close()
        await self._responder.close()
        await self._background.close()
        for link in self._neighbours.links():
            link.close(reason)
        await self._links.wait(CLOSE_SECONDS)
        await self._links.close()
        self._transfers.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def port(self) -> int:
        """The port on which this node listens."""
        return self._addresses[0].port

    @property
    def addresses(self) -> list[str]:
        """The addresses on which this node listens."""
        return [str(address) for address in self._addresses]

    @property
    def expected(self) -> int:
        """How many devices the listed peers and this node are, as far as this node knows.

        Several addresses may lead to one device. An address where no node has answered counts as a device;
        one where a banned node has answered does not.
        """
        banned = {
            one for one in self._contacts.nodes_of("listed") if isinstance(one, str) and self.is_banned(one)
        }
        return len(self._contacts.nodes_of("listed") - {self._node} - banned) + 1

    def is_banned(self, node: str) -> bool:
        """Whether *node* is kept out of the federation until somebody lifts its ban."""
        return self._membership.is_banned(node)

    @property
    def contacts(self) -> list[Contact]:
        """The addresses and nodes that this node dials for its operator, and how that went."""
        return [contact for contact in self._contacts.all() if contact.node != self._node]

    def know(self, node: str, name: str, addresses: Sequence[Address]) -> None:
        """Keep dialling *node*, which was linked at an earlier time, at *addresses*."""
        if node == self._node or not addresses:
            return
        self._known_hosts.update(address.host for address in addresses)
        self._book.add(node, addresses, first=True)
        self._contacts.add(node, "known", f"{name} at {addresses[0]}", node)
        self._dialler.add_node(node)

    def found(self, service: FoundService, addresses: Sequence[Address], node: str, name: str) -> bool:
        """Keep dialling a node that was found in the local network; call it again when its addresses change.

        *node* and *name* are empty where they are not known. Return False if too many services were found.
        """
        if not self._dialler.add_service(service, addresses, node or None):
            return False
        self._contacts.add(service, "found", f"{name} at {addresses[0]}" if name else str(addresses[0]), node)
        return True

    def gone(self, service: FoundService) -> None:
        """Stop dialling a node that is no longer in the local network; its link stays."""
        self._dialler.remove_service(service)
        self._contacts.remove(service)

    def known_addresses(self, node: str) -> tuple[Address, ...]:
        """Return where *node* may be reached, the most likely address first."""
        return self._book.addresses(node)

    def use(self, credentials: Credentials) -> None:
        """Show the renewed certificate in *credentials* in all later handshakes; links live on.

        Raises:
            CredentialsError: OpenSSL rejects the key or a certificate; those in use stay.
        """
        self._acceptor.use(credentials)
        self._handshakes.use(credentials)
        self._bulk_dialler.use(credentials)

    def links(self) -> dict[str, LinkedPeer]:
        """Return the linked peers by node id."""
        return self._neighbours.peers()

    def rtt(self, node: str) -> float | None:
        """Return the last round-trip time to *node* in seconds; None before the first."""
        link = self._neighbours.link(node)
        return link.rtt if link is not None else None

    def send(self, node: str, message: Message | RenewalFrame) -> bool:
        """Queue *message* for *node*; return False if there is no link, or its queue is full."""
        return self._neighbours.send(node, message)

    def drop_all(self, reason: str) -> None:
        """Cut every link and dial again at once: after a sleep most links are dead."""
        for link in self._neighbours.links():
            link.cut(reason)
        self._dialler.dial_now()

    def own_addresses_changed(self) -> None:
        """Cut the links whose own address this device no longer has, and dial all that are not linked."""
        for link in self._neighbours.links():
            own = link.stream.transport.get_extra_info("sockname")
            if own is not None and not sockets.is_own_host(sockets.host_of(own)):
                link.cut("this device has another address now")
        self._dialler.dial_now()

    def drop(self, node: str, reason: str) -> None:
        """Cut the link to *node*; the next handshake checks the node anew."""
        link = self._neighbours.link(node)
        if link is not None:
            link.cut(reason)

    def dismiss(self, node: str, reason: str) -> None:
        """Close the link to *node* behind the frames queued for it, soon also if it does not read them."""
        link = self._neighbours.link(node)
        if link is not None:
            link.close(reason)
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, link.cut, reason)

    def spread(self, frame: Statements | RevocationList) -> None:
        """Queue *frame* for every linked node."""
        for link in self._neighbours.links():
            link.send(frame)

    async def pull(self, request: PullRequest) -> None:
        """Bring the requested blob into the store; see `BlobPuller.pull`.

        Raises:
            NetworkError: no node that could be reached sent the blob; one may do so later.
            BlobError: every node that could be reached sent something else.
            DataDirectoryError: the local disk failed.
        """
        await self._puller.pull(request)

    # --- connections become links ---------------------------------------------------------------------------

    async def _attempt(self, address: Address, expected: str | None) -> str:
        """Dial *address* for the `Dialler`; return the node that is linked afterwards.

        Raises:
            NetworkError: nobody was reached, or one side refused the other; the message is for people.
        """
        if expected is not None and self.is_banned(expected):
            raise NotDialledError("it is banned from this federation, so it is not dialled")
        try:
            connection = await sockets.connect(address, self._settings.dial_seconds)
            sockets.set_options(connection, self._settings.silence_seconds)
        except (NetworkError, OSError) as error:
            logger.debug("%s cannot be reached: %s", address, error)
            if expected is not None:
                self._book.dial_failed(expected, address)
            if address in self._listed and await self._is_own(address):
                return self._node
            raise NetworkError(f"{error}{self._linked_all_the_same(address)}") from error
        try:
            outcome = await self._handshakes.dial(connection, address, expected)
        except HandshakeRefused as error:
            if isinstance(error, WrongNodeError) and expected is not None:
                self._book.remove(expected, address)
            self._check_cloned(error)
            raise
        if isinstance(outcome, EstablishedConnection):
            self._establish(outcome, address, dialled=True)
            return outcome.identity.node_id
        return outcome.node

    def _about(self) -> MeasureReply:
        """Return what this node tells of itself when another one measures the way to it."""
        linked = self._neighbours.peers().items()
        links = tuple(LinkedNode(node, peer.name) for node, peer in sorted(linked)[:MAX_LINKED])
        return MeasureReply(time.time(), self._version, links)

    def _linked_all_the_same(self, address: Address) -> str:
        """Return a remark if the node at *address*, which cannot be dialled, has dialled this one."""
        for node, peer in self._neighbours.peers().items():
            if address in self._book.addresses(node):
                return f" ({peer.name}, whose address this is, is linked all the same)"
        return ""

    async def _is_own(self, address: Address) -> bool:
        """Whether *address*, which cannot be dialled, is this node's own: not every device reaches itself."""
        if str(address) in self._advertise:
            return True
        if address.port != self.port:
            return False
        try:
            infos = await RESOLVER.resolve(address, self._settings.dial_seconds)
        except NetworkError:
            return False
        return all(sockets.is_own(where) for where in infos)

    async def _answer(self, stream: FrameStream, identity: PeerIdentity, host: str) -> None:
        """Perform the handshake on a control connection accepted from *host*.

        Raises:
            HandshakeRefused: one side refused.
        """
        try:
            outcome = await self._handshakes.answer(stream, identity)
        except HandshakeRefused as error:
            self._check_cloned(error)
            raise
        if isinstance(outcome, EstablishedConnection):
            self._establish(outcome, Address(host, outcome.introduction.port), dialled=False)

    def _check_cloned(self, error: HandshakeRefused) -> None:
        """Stop the node if *error* proves that its journal is a copy."""
        if isinstance(error, JournalClonedError) and not self._is_closing:
            self._listener.journal_cloned(str(error))

    def _establish(self, established: EstablishedConnection, address: Address, *, dialled: bool) -> None:
        """Make an agreed connection the link to its node, and introduce the node to the others."""
        identity, introduction = established.identity, established.introduction
        node = identity.node_id
        self._copy_doubts.settle(node)
        peer = LinkedPeer(
            established.member,
            identity.name,
            identity.role,
            str(address),
            introduction.incarnation,
            introduction.nonce,
            identity.serial,
        )
        notify = partial(self._refusal_notices.report, f"{peer.name} ({short(node)})")
        limiter = LinkRateLimiter(node, self._quotas, notify)
        link = Link(established.stream, peer, established.order, self._settings, self._on_frame, limiter)
        self._quotas.count_link(node)
        advertised = parse_shared(introduction.advertise)
        host = sockets.host_of(established.stream.transport.get_extra_info("peername"))
        observed = Address(host, address.port)
        self._book.add(node, [address, *advertised] if dialled else [*advertised, address], first=True)
        if not dialled:
            self._contacts.linked(node, observed, {address.port, *(one.port for one in advertised)})
        self._hosts[node] = host
        while len(self._hosts) > MAX_NODES:
            del self._hosts[next(iter(self._hosts))]
        self._replace(node, "a new connection took its place")
        self._connector.linked(node, dialled=dialled)
        self._responder.linked(node)
        addresses = tuple(advertised) or (observed,)
        self._neighbours.add(node, Neighbour(link, addresses, observed.is_loopback))
        self.traffic.watch("control", node, established.stream.meter)
        self._links.start(self._run(link))
        self._dialler.add_node(node)
        self._neighbours.introduce(node)
        if self._renewals is not None:
            self._renewals.linked(peer)
        for frame in self._membership.frames():
            link.send(frame)
        if not self._is_closing:
            self._listener.linked(peer)

    def _replace(self, node: str, reason: str) -> None:
        """End the link to *node*, if there is one, before a new one takes its place."""
        link = self._neighbours.remove(node)
        if link is not None:
            link.cut(reason)
            self._unlinked(link, reason)

    async def _run(self, link: Link) -> None:
        """Run a link until its end."""
        node = link.peer.member.node
        reason = "a fault in this node ended the link"
        try:
            reason = await link.run()
        finally:
            self.traffic.settle(link.stream.meter)
            self._admission.release(node, link.order)
            if self._neighbours.is_current(link):
                self._neighbours.remove(node)
                self._dialler.link_lost(node, is_version_refused=link.is_version_refused)
                self._unlinked(link, reason)
        await link.end()

    def _unlinked(self, link: Link, reason: str) -> None:
        """Close what depends on *link*, which has ended, and report its end."""
        node = link.peer.member.node
        self._transfers.forget(node)
        self._connector.unlinked(node)
        if self._renewals is not None:
            self._renewals.unlinked(node)
        if not self._is_closing:
            self._listener.unlinked(link.peer, reason)

    # --- frames and callbacks -------------------------------------------------------------------------------

    def _on_frame(self, link: Link, frame: DeliveredFrame) -> None:
        """Handle a frame that *link* does not handle itself."""
        if self._is_closing or not self._neighbours.is_current(link):
            return
        node = link.peer.member.node
        match frame:
            case Peers():
                self._learn_addresses(frame, node)
            case Call():
                self._responder.requested(node, frame)
            case CallFailed():
                self._dial_backs.failed(node, frame)
            case CanRenew() | Renew() | Renewed() | RenewalRefused():
                if self._renewals is not None:
                    self._renewals.received(link.peer, frame)
            case Statements() | RevocationList():
                self._membership.heard(link.peer, frame)
            case _:  # mypy narrows the rest to Message
                self._listener.received(link.peer, frame)

    def _learn_addresses(self, frame: Peers, source: str) -> None:
        """Add the addresses in *frame*, which the peer *source* sent, and dial their nodes."""
        for peer in frame.peers:
            is_new = self._book.add(peer.node, parse_shared(peer.addresses), first=False)
            if is_new and not self._dialler.add_node(peer.node, source):
                self._book.forget(peer.node)

    def _holders(self, sources: Sequence[str]) -> list[Holder]:
        """Return the nodes that may have a blob: *sources*, then all linked nodes.

        Nodes that are not linked, or could not be reached recently, come last.
        """
        known = dict.fromkeys([*sources, *self._neighbours])
        nodes = [node for node in known if node != self._node and not self._membership.is_banned(node)]
        nodes.sort(key=lambda node: node not in self._neighbours or self._connector.is_unreachable(node))
        holders = [Holder(node, self._neighbours.name(node), self._book.addresses(node)) for node in nodes]
        return [holder for holder in holders if holder.addresses or holder.node in self._neighbours]

    def _is_known(self, host: str) -> bool:
        """Whether a node is or was linked, or is listed, at *host*."""
        listed = (address.host for address in self._listed)
        return host in self._known_hosts or host in self._hosts.values() or host in listed

    def _report_refusal(self, address: str, error: NetworkError) -> None:
        if isinstance(error, ExcludedNodeError | KeptOutError):  # the ban itself is told, once
            logger.info("%s: %s", address, error)
            return
        if isinstance(error, LateClaimError) and not self._copy_doubts.is_confirmed(error.node):
            logger.debug("%s: %s", address, error)
            return
        self._refusal_notices.report(address, str(error), once=isinstance(error, VersionRefused))

    def _on_refusal(self, address: str, reason: str) -> None:
        if not self._is_closing:
            self._listener.refused(address, reason)

    def _on_contact(self, what: DialFailure | str) -> None:
        if self._is_closing:
            return
        if isinstance(what, str):
            self._listener.reachable(what)
        else:
            self._listener.unreachable(
                what.address, what.reason, is_refused=what.is_refused, delay=what.delay
            )

    def _on_served(self, name: str, done: int, total: int) -> None:
        if not self._is_closing:
            self._listener.served(name, done, total)

    def _on_sleep(self, seconds: float) -> None:
        logger.info("the device slept: its clocks differ by %.1f s; all links are renewed", seconds)
        self.drop_all("the device slept")
