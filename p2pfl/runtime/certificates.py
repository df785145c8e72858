"""The certificate of a running node: renewed over links, reloaded on request, its end announced.

A node that may read the CA's key renews the certificates of its peers, and its own. All others ask such a
node (`p2pfl.identity.renewal_plan` decides when). A new certificate is written to the device's folder and
shown in all later handshakes; nothing is restarted, and links live on, also past the end of the certificate
that they began with.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl import events
from p2pfl.errors import CredentialsError, PassphraseNeededError
from p2pfl.identity.credentials import Credentials, check_dates, read_certificate, read_credentials
from p2pfl.identity.keys import node_id_of
from p2pfl.identity.lifetime import Lifetime, in_words
from p2pfl.identity.passphrases import read_passphrase
from p2pfl.identity.renewal import (
    RenewalDeniedError,
    Renewer,
    accept_renewed,
    authority_folder,
    is_authority_of,
)
from p2pfl.identity.renewal_plan import Announce, Ask, RenewalPlan
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.net.mesh import Mesh
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.text import one_line
from p2pfl.times import show_time
from p2pfl.wire.links import CanRenew, Renew, RenewalFrame, RenewalRefused, Renewed

logger = logging.getLogger(__name__)

LONGEST_SLEEP = 60.0
"""Seconds between two looks at the clock: it may be set, and a device may sleep."""


def find_renewer(
    credentials: Credentials,
    folder: Path | None,
    passphrase_file: Path | None,
    exclusion: Callable[[str, int], str] = lambda _node, _serial: "",
) -> tuple[Renewer | None, str]:
    """Return what renews certificates on this device, or None; and a remark for the user, or nothing.

    *folder* is where the user says that the CA is; None: it is looked for beside the certificate. *exclusion*
    returns why the key of a node id, with a serial number, is kept out; empty if it is not.

    Raises:
        CredentialsError: the user named a CA that cannot be used.
    """
    found = folder or authority_folder(credentials)
    if found is None:
        return None, ""
    if not is_authority_of(found, credentials):
        raise CredentialsError(
            f"The CA in {found} is not the one of this device's certificate in {credentials.directory}: give "
            "the folder with its ca.key and ca.crt."
        )
    passphrase = read_passphrase(passphrase_file) if passphrase_file is not None else None
    renewer = Renewer(
        found,
        passphrase,
        lambda certificate: exclusion(node_id_of(certificate.public_key()), certificate.serial_number),
    )
    try:
        renewer.check()
    except CredentialsError as error:
        if folder is not None or passphrase_file is not None:
            raise
        needs_passphrase = isinstance(error, PassphraseNeededError)
        why = "it has a passphrase, and --passphrase-file is not given" if needs_passphrase else str(error)
        return None, f"this device renews no certificates, although the CA's key is in {found}: {why}"
    return renewer, ""


class CertificateKeeper:
    """Keeps the certificate of one node valid. It is the mesh's listener for renewals."""

    def __init__(
        self,
        credentials: Credentials,
        publish: Callable[[events.AnyEvent], None],
        renewer: Renewer | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Keep the certificate in *credentials*; *renewer* is there if this device may read the CA's key."""
        self.credentials = credentials
        """Those in use."""
        self._publish = publish
        self._renewer = renewer
        self._clock = clock
        self._draw = draw
        self._mesh: Mesh | None = None
        self._names: dict[str, str] = {}
        """Of linked nodes, by node id."""
        self._last_refusal = ""
        self._serving: set[str] = set()
        """Nodes whose certificates are being renewed here."""
        self._signing = asyncio.Lock()
        """Certificates are signed one after the other: a passphrase takes a processor a second or two."""
        self._tasks = BackgroundTasks()
        self._changed = asyncio.Event()
        own = [credentials.node_id] if renewer is not None else []
        self._plan = RenewalPlan(_lifetime(credentials), clock(), draw, own)

    def start(self, mesh: Mesh) -> None:
        """Begin to watch the dates; *mesh* was made with this object."""
        self._mesh = mesh
        self._tell_current("")
        self._tasks.start_restarting("renewing certificates", self._run)

    async def close(self) -> None:
        """Stop watching and signing."""
        await self._tasks.close()

    def reload(self) -> None:
        """Take the certificate that is in the folder now; report to the user what happened."""
        try:
            found = read_credentials(self.credentials.directory)
            check_dates(found, self._clock())
            if found.node_id != self.credentials.node_id or found.name != self.credentials.name:
                raise CredentialsError(
                    f"{found.certificate_path} has another key or name now: only a restart can change those."
                )
            is_new = found.not_after != self.credentials.not_after
            self._take(found)
        except CredentialsError as error:
            self._notice("error", f"the certificate was not reloaded, the one in use stays: {error}")
            return
        if is_new:
            self._tell_current("reloaded from its folder")
        else:
            self._notice(
                "info", f"the certificate was reloaded; it ends on {show_time(found.not_after)} as before"
            )

    # --- the mesh's listener --------------------------------------------------------------------------------

    def linked(self, peer: LinkedPeer) -> None:
        """Tell a new peer that its certificate can be renewed here."""
        self._names[peer.member.node] = peer.name
        if self._renewer is not None:
            self._send(peer.member.node, CanRenew())

    def unlinked(self, node: str) -> None:
        """Note that *node* can neither ask nor answer any more."""
        self._names.pop(node, None)
        self._plan.holder_went(node, self._clock())
        self._changed.set()

    def received(self, peer: LinkedPeer, frame: RenewalFrame) -> None:
        """Handle a frame about certificates."""
        node = peer.member.node
        match frame:
            case CanRenew():
                self._plan.holder_came(node, self._clock())
                self._changed.set()
            case Renew():
                if node not in self._serving:
                    self._serving.add(node)
                    self._tasks.start(self._serve(peer, frame.certificate))
            case Renewed():
                if self._plan.is_awaited_from(node):
                    self._accept(frame.certificate, peer.name)
            case RenewalRefused():
                if self._plan.is_awaited_from(node):
                    self._refused(f"{peer.name} refused: {one_line(frame.reason)}")

    # --- this device's certificate --------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            for step in self._plan.tick(self._clock()):
                match step:
                    case Ask():
                        await self._ask(step.holder)
                    case Announce():
                        self._announce(has_ended=step.has_ended)
            wake_at = self._plan.wake_at()
            seconds = (
                (wake_at - self._clock()) / timedelta(seconds=1) if wake_at is not None else LONGEST_SLEEP
            )
            try:
                async with asyncio.timeout(min(max(seconds, 0.0), LONGEST_SLEEP)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _ask(self, holder: str) -> None:
        """Ask *holder*, which may be this device itself, unless the folder has a newer certificate."""
        own = self.credentials
        if self._renewed_by_hand():
            return
        shown = await asyncio.to_thread(_der, own)
        if holder != own.node_id or self._renewer is None:
            if not self._send(holder, Renew(shown)):
                self._refused("the request could not be sent")
            return
        try:
            fresh = await asyncio.to_thread(self._renewer.renew, shown, own.node_id, own.name, self._clock())
        except RenewalDeniedError as error:
            self._refused(f"the CA on this device refused: {error}")
        else:
            self._accept(fresh, "the CA on this device")

    def _renewed_by_hand(self) -> bool:
        """Take the certificate in the folder if it ends later than the one in use; return whether it does."""
        try:
            found = read_credentials(self.credentials.directory)
        except CredentialsError:
            return False
        if found.not_after <= self.credentials.not_after:
            return False
        self.reload()
        return self.credentials.not_after == found.not_after

    def _accept(self, data: bytes, by: str) -> None:
        try:
            accept_renewed(data, self.credentials, self._clock())
            self._take(read_credentials(self.credentials.directory))
        except CredentialsError as error:
            self._refused(f"the answer of {by} could not be used: {error}")
            return
        self._tell_current(f"renewed by {by}")

    def _take(self, credentials: Credentials) -> None:
        """Show *credentials* in later handshakes, and plan their renewal."""
        if self._mesh is not None:
            self._mesh.use(credentials)
        self.credentials = credentials
        self._last_refusal = ""
        self._plan = RenewalPlan(_lifetime(credentials), self._clock(), self._draw, self._plan.holders)
        self._changed.set()

    def _refused(self, why: str) -> None:
        logger.info("the certificate of this device was not renewed: %s", why)
        self._last_refusal = why
        self._plan.failed(self._clock())
        self._changed.set()

    def _announce(self, *, has_ended: bool) -> None:
        own = self.credentials
        advice = (
            f"Renew it with `p2pfl certs issue {own.name} --renew` where the CA's key is, and copy node.crt "
            f"to {own.directory}."
        )
        if has_ended:
            self._notice(
                "error",
                f"the certificate of {own.name} has expired on {show_time(own.not_after)}: links that are up "
                f"live on, but no new one can be made. {advice}",
            )
            return
        why = self._last_refusal or (
            "it is due and will be asked for"
            if self._plan.holders
            else "no member that holds the CA's key is in reach"
        )
        self._notice(
            "warning",
            f"the certificate of {own.name} ends in {in_words(own.not_after - self._clock())}, on "
            f"{show_time(own.not_after)}, and was not renewed: {why}. {advice}",
        )

    # --- other devices' certificates ------------------------------------------------------------------------

    async def _serve(self, peer: LinkedPeer, shown: bytes) -> None:
        """Renew the certificate *shown* by *peer*, and answer."""
        node = peer.member.node
        try:
            if self._renewer is None:
                raise RenewalDeniedError("it does not hold the CA's key")
            async with self._signing:
                fresh = await asyncio.to_thread(self._renewer.renew, shown, node, peer.name, self._clock())
        except RenewalDeniedError as error:
            logger.info("the certificate of %s was not renewed: %s", peer.name, error)
            self._send(node, RenewalRefused(one_line(str(error))))
        else:
            logger.info("renewed the certificate of %s", peer.name)
            self._send(node, Renewed(fresh))
        finally:
            self._serving.discard(node)

    def _send(self, node: str, frame: RenewalFrame) -> bool:
        return self._mesh is not None and self._mesh.send(node, frame)

    def _tell_current(self, how: str) -> None:
        self._publish(events.CertificateChanged(self.credentials.not_after.timestamp(), how))

    def _notice(self, level: events.NoticeLevel, text: str) -> None:
        logger.log(logging.INFO if level == "info" else logging.WARNING, text)
        self._publish(events.Notice(level, text))


def _lifetime(credentials: Credentials) -> Lifetime:
    return Lifetime(credentials.not_before, credentials.not_after)


def _der(credentials: Credentials) -> bytes:
    return read_certificate(credentials.certificate_path).public_bytes(Encoding.DER)
