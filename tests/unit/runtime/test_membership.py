from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import Credentials, load_credentials
from p2pfl.identity.exclusions import STATEMENTS_FILE, Exclusions
from p2pfl.identity.peer import PeerIdentity
from p2pfl.identity.revocation import REVOCATIONS_FILE, Revocations, revoke
from p2pfl.identity.signatories import load_signing
from p2pfl.messages import Member
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.runtime.membership import Membership, check_not_revoked
from p2pfl.statements import REVOKED, Statement, What
from p2pfl.wire.links import Refusal, RevocationList, Statements

BANNED = "is banned by desk (operator): why"


class Mesh:
    """The links of a node, and what it was asked to send and to close."""

    def __init__(self) -> None:
        self.peers: dict[str, LinkedPeer] = {}
        self.spread_frames: list[Any] = []
        self.dismissed: list[tuple[str, str]] = []

    def links(self) -> dict[str, LinkedPeer]:
        return self.peers

    def spread(self, frame: Any) -> None:
        self.spread_frames.append(frame)

    def dismiss(self, node: str, reason: str) -> None:
        self.dismissed.append((node, reason))


class Bench:
    """Node "ada" in a federation with "ben" and "cas", the operator "desk" and the observer "eye"."""

    def __init__(self, folder: Path) -> None:
        create_authority(folder, "lab")
        for name in ("ada", "ben", "cas"):
            issue(folder, name)
        issue(folder, "desk", "operator")
        self.folder = folder
        self.ada = load_credentials(folder, "ada")
        self.needed: set[str] = set()
        self.told: list[Any] = []
        self.fed: list[Any] = []
        self.rechecks = 0
        self.mesh = Mesh()
        self.evidence: dict[Member, Any] = {}
        self.roster: tuple[Any, ...] = ()
        self.it = self.restart()

    def restart(self, incarnation: int = 4) -> Membership:
        """Start the node with what is in its folder."""
        node = SimpleNamespace(
            needs=self.needed.__contains__,
            name_of=lambda node: node[:7],
            ledger=SimpleNamespace(roster=self.roster) if self.roster else None,
        )
        driver = SimpleNamespace(publish=self.told.append, feed=self.fed.append)
        self.exclusions = Exclusions(self.ada)
        self.it = Membership(self.ada, self.exclusions, cast("Any", node), cast("Any", driver), incarnation)
        memory = SimpleNamespace(seen=self.evidence.get)
        self.it.start(cast("Any", self.mesh), cast("Any", memory), self._recheck)
        return self.it

    def _recheck(self) -> None:
        self.rechecks += 1

    def credentials(self, name: str) -> Credentials:
        return load_credentials(self.folder, name)

    def id(self, name: str) -> str:
        return self.credentials(name).node_id

    def link(self, name: str, incarnation: int = 3, serial: int = 0) -> LinkedPeer:
        peer = LinkedPeer(
            Member(self.id(name), "1" * 32), name, "node", "host:1", incarnation, "2" * 32, serial
        )
        self.mesh.peers[peer.member.node] = peer
        return peer

    def say(self, what: What, name: str, *, incarnation: int = 0, by: str | None = "desk") -> Statement:
        after = self.exclusions.book.number_of(self.id(name))
        return load_signing(self.folder, by).sign(
            what, self.id(name), name, after=after, incarnation=incarnation, reason="why"
        )

    def identity(self, name: str) -> PeerIdentity:
        return PeerIdentity(self.id(name), name, "node", "lab")

    @property
    def excluded(self) -> dict[str, str]:
        """What the protocol was told last."""
        return next(dict(one.nodes) for one in reversed(self.fed) if isinstance(one, inputs.Ban))

    def news(self, kind: Any) -> list[Any]:
        return [one for one in self.told if isinstance(one, kind)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_ban_is_stored_told_published_and_obeyed(bench: Bench) -> None:
    source, statement = bench.link("cas"), bench.say("ban", "ben")
    bench.it.heard(source, Statements((statement,)))
    assert bench.excluded == {bench.id("ben"): BANNED}
    assert bench.mesh.spread_frames == [Statements((statement,))]
    assert bench.news(events.MemberExcluded) == [
        events.MemberExcluded(bench.id("ben"), "ben", BANNED, is_held=True)
    ]
    assert Exclusions(bench.ada).reason(bench.id("ben")) == BANNED
    assert bench.rechecks == 2
    bench.it.heard(source, Statements((statement,)))
    assert len(bench.mesh.spread_frames) == 1, "it is no news the second time"


def test_a_banned_node_gets_no_link_with_the_proof_unless_it_is_needed(bench: Bench) -> None:
    statement, ben = bench.say("ban", "ben"), bench.identity("ben")
    assert bench.it.refusal(ben, 3) is None
    bench.it.give(statement, "eve")
    assert bench.it.refusal(ben, 3) == Refusal("excluded", f"ben {BANNED}", statement=statement)
    assert (bench.it.reason(ben), bench.it.is_banned(bench.id("ben"))) == (BANNED, True)
    bench.needed.add(bench.id("ben"))
    assert (bench.it.refusal(ben, 3), bench.it.reason(ben)) == (None, "")
    assert not bench.it.is_banned(bench.id("ben"))


def test_a_new_link_is_told_all(bench: Bench) -> None:
    assert bench.it.frames() == []
    statement = bench.say("ban", "ben")
    bench.it.give(statement, "eve")
    listed = revoke(bench.folder, "cas")[1]
    bench.it.look()
    assert bench.it.frames() == [RevocationList(listed.der), Statements((statement,))]


def test_a_restarted_node_begins_with_what_its_folder_holds(bench: Bench) -> None:
    bench.it.give(bench.say("ban", "ben"), "eve")
    bench.told.clear()
    bench.restart()
    assert bench.excluded == {bench.id("ben"): BANNED}
    assert len(bench.news(events.MemberExcluded)) == 1


async def test_a_forged_statement_names_its_source_once(bench: Bench) -> None:
    forged = Statement("ban", bench.id("ben"), "ben", 5, 0, "", b"x", b"y")
    for _ in range(2):
        bench.it.heard(bench.link("cas"), Statements((forged, bench.say("ban", "cas"))))
    (notice,) = bench.news(events.Notice)
    assert notice.text.startswith(
        "cas passed on a statement about members that is ignored: neither an operator"
    )
    assert bench.excluded == {}, "the rest of the frame is ignored too"
    bench.it.heard(bench.link("ben"), RevocationList(b"nonsense"))
    assert "no revocation list" in bench.news(events.Notice)[1].text


def test_a_ban_of_this_node_counts_only_if_somebody_shows_it(bench: Bench) -> None:
    ban = bench.say("ban", "ada")
    bench.exclusions.take(ban)
    bench.exclusions.save()
    bench.restart()
    assert bench.excluded == {}
    assert bench.it.refused(Refusal("excluded", "it is banned", statement=ban)) is None
    assert bench.excluded == {bench.id("ada"): BANNED}


def test_a_forged_refusal_does_not_stop_this_node(bench: Bench) -> None:
    forged = Statement("ban", bench.id("ada"), "ada", 5, 0, "", b"x", b"y")
    assert bench.it.refused(Refusal("excluded", "", statement=forged, revocations=b"nonsense")) is None
    assert bench.it.refused(Refusal("excluded", "nothing is shown")) is None
    assert bench.excluded == {}


def test_a_lifted_ban_is_answered_with_the_statement_that_lifts_it(bench: Bench) -> None:
    ban = bench.say("ban", "ada")
    bench.it.give(ban, "eve")
    lift = bench.say("unban", "ada")
    bench.it.give(lift, "eve")
    answer = bench.it.refused(Refusal("excluded", "it is banned", statement=ban))
    assert answer is not None
    assert (answer.kind, answer.statement) == ("excluded", lift)
    assert bench.excluded == {}


def test_a_kick_ends_the_present_start_only(bench: Bench) -> None:
    bench.link("ben", incarnation=3)
    statement = bench.say("kick", "ben", incarnation=3)
    assert bench.it.give(statement, "eve")[1].startswith("ben is out with the next commit")
    assert bench.fed[-1] == inputs.Kick(bench.id("ben"), "was kicked by desk (operator): why")
    assert bench.it.refusal(bench.identity("ben"), 3) is not None
    assert bench.it.refusal(bench.identity("ben"), 4) is None
    assert bench.excluded == {}
    bench.link("ben", incarnation=4)
    bench.fed.clear()
    bench.restart()
    assert not [one for one in bench.fed if isinstance(one, inputs.Kick)], "ben was started again"


def test_a_kick_of_this_node_ends_it_unless_it_was_started_again(bench: Bench) -> None:
    statement = bench.say("kick", "ada", incarnation=4)
    bench.it.refused(Refusal("excluded", "it was kicked", statement=statement))
    assert isinstance(bench.fed[-1], inputs.Kick)
    bench.fed.clear()
    bench.restart(incarnation=5)
    assert not [one for one in bench.fed if isinstance(one, inputs.Kick)]


def test_a_member_that_is_away_is_known_by_its_last_claim(bench: Bench) -> None:
    entry = SimpleNamespace(node=bench.id("ben"), member=Member(bench.id("ben"), "1" * 32), name="ben")
    bench.roster = (entry,)
    bench.evidence[entry.member] = SimpleNamespace(claim=SimpleNamespace(incarnation=7))
    bench.restart()
    (known,) = bench.it.report(9).nodes
    assert (known.name, known.incarnation, known.is_member) == ("ben", 7, True)
    bench.it.give(bench.say("kick", "ben", incarnation=6), "eve")
    assert not [one for one in bench.fed if isinstance(one, inputs.Kick)]
    bench.it.give(bench.say("kick", "ben", incarnation=7), "eve")
    assert isinstance(bench.fed[-1], inputs.Kick)


def test_a_revocation_list_in_the_folder_is_noticed_and_spread(bench: Bench) -> None:
    key, listed = revoke(bench.folder, "ben")
    bench.it.look()
    assert bench.mesh.spread_frames == [RevocationList(listed.der)]
    assert bench.excluded == {key: REVOKED}
    assert bench.it.refusal(bench.identity("ben"), 3) == Refusal(
        "excluded", f"ben {REVOKED}", revocations=listed.der
    )
    bench.it.look()
    assert len(bench.mesh.spread_frames) == 1


async def test_a_list_that_is_heard_is_stored(bench: Bench) -> None:
    key, listed = revoke(bench.folder, "ben")
    (bench.ada.directory / REVOCATIONS_FILE).unlink()
    bench.it.heard(bench.link("cas"), RevocationList(listed.der))
    assert Exclusions(bench.ada).reason(key) == REVOKED


def test_a_link_with_an_old_certificate_that_is_revoked_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.exclusions, "save", lambda: None)
    peer = bench.link("ben", serial=77)
    bench.exclusions.revocations = Revocations(1, frozenset({77}), frozenset(), b"x")
    bench.it.give(bench.say("ban", "cas"), "eve")
    assert bench.mesh.dismissed == [(peer.member.node, f"ben {REVOKED}")]


def test_what_a_revoked_operator_banned_is_free_again(bench: Bench) -> None:
    bench.it.give(bench.say("ban", "ben"), "eve")
    key, _ = revoke(bench.folder, "desk")
    bench.it.look()
    assert bench.excluded == {key: REVOKED}
    assert bench.news(events.MemberExcluded)[-1].text == "is not banned any more"


def test_a_damaged_file_is_told(bench: Bench) -> None:
    (bench.ada.directory / REVOCATIONS_FILE).write_text("nonsense")
    bench.it.look()
    assert "cannot be used" in bench.news(events.Notice)[-1].text
    (bench.ada.directory / REVOCATIONS_FILE).unlink()
    (bench.ada.directory / STATEMENTS_FILE).write_text("nonsense")
    bench.it.look()
    assert "cannot be read and are ignored" in bench.news(events.Notice)[-1].text
    bench.restart()
    assert "cannot be read and are ignored" in bench.news(events.Notice)[-1].text


def test_a_folder_that_cannot_be_written_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise CredentialsError("the folder is read-only.")

    monkeypatch.setattr(bench.exclusions, "save", fail)
    bench.it.give(bench.say("ban", "ben"), "eve")
    assert bench.news(events.Notice)[-1].text.endswith("only while this node runs: the folder is read-only.")
    assert bench.excluded == {bench.id("ben"): BANNED}


def test_what_is_done_or_refused_is_said_to_whoever_gave_the_command(bench: Bench) -> None:
    ban = bench.say("ban", "ben")
    assert bench.it.give(ban, "eve") == ("", "ben is banned, and out with the next commit")
    assert bench.it.give(ban, "eve") == ("", "it was known already")
    assert bench.it.give(bench.say("unban", "ben"), "eve") == (
        "",
        "ben is not banned any more; it may be started again",
    )
    bench.it.give(bench.say("ban", "ben", by=None), "eve")
    refused, _ = bench.it.give(bench.say("unban", "ben"), "eve")
    assert refused == "ben stays banned, for the CA decides over operators: it is banned by the CA: why"
    future = bench.exclusions.book.number_of(bench.id("ben")) + 10**9
    bench.it.give(load_signing(bench.folder).sign("unban", bench.id("ben"), "ben", after=future), "eve")
    late = load_signing(bench.folder, "desk").sign("ban", bench.id("ben"), "ben", after=0)
    early = Statement("ban", bench.id("ben"), "ben", 5, 0, "", b"x", b"y")
    assert bench.it.give(early, "eve")[0] == "neither an operator nor the CA of this federation has signed it"
    assert bench.it.give(late, "eve")[0] == "a later statement about that node holds: `p2pfl bans` shows it"
    assert bench.news(events.Commanded)[0] == events.Commanded("eve", "ban ben", "")


def test_the_report_has_bans_numbers_and_revoked_keys(bench: Bench) -> None:
    ban = bench.say("ban", "ben")
    bench.it.give(ban, "eve")
    key, listed = revoke(bench.folder, "cas")
    bench.it.look()
    bench.link("cas", incarnation=2)
    report = bench.it.report(9)
    assert (report.number, report.revocations, report.revoked) == (9, listed.number, (key,))
    assert report.numbers == {bench.id("ben"): ban.number}
    (held,) = report.bans
    assert (held.name, held.by, held.reason, held.at) == ("ben", "desk (operator)", "why", ban.at)
    assert [(one.name, one.incarnation, one.is_member) for one in report.nodes] == [("cas", 2, False)]


def test_a_node_with_a_revoked_certificate_does_not_start(bench: Bench) -> None:
    check_not_revoked(bench.ada, bench.exclusions)
    revoke(bench.folder, "ada")
    with pytest.raises(CredentialsError, match="was revoked by the CA: no node links with it"):
        check_not_revoked(bench.ada, Exclusions(bench.ada))
