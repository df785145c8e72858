"""Each event that matters becomes one printable line; the others none."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl import events
from p2pfl.cards import DataCard
from p2pfl.events import AnyEvent, Measured, Notice, PeerLost, Published, SteppedDown, UpdateRefused
from p2pfl.observe.render import MAX_LINE, line_of, row_of
from p2pfl.spec import with_options
from tests.support.recordings import part_of
from tests.support.records import SPEC, digest

COMMITTED = events.Committed(
    run=digest("run"),
    round=3,
    kind="train",
    attempt=1,
    aggregator="ada",
    digest=digest("model"),
    record=digest("record"),
    members=("ada", "ben", "cleo"),
    updates=(events.CountedUpdate("ada", 100, 7, 0.5, 0.25), events.CountedUpdate("ben", 80, 7, 0.5, 0.25)),
    left_out=(("cleo", "it was not reachable"),),
    trained=3,
    rounds=10,
    then="go",
    note="",
    seconds=1.25,
)
EVALUATED = events.EvaluationFinished(
    3, {"accuracy": 0.9125, "loss": 0.25}, examples=360, reports=3, members=3
)
OWN = DataCard("mine", 1, ())
JOINED = events.RunJoined(digest("run"), "founded", 0, SPEC, ("ada", "ben"))


@pytest.mark.parametrize(
    ("event", "mark", "part"),
    [
        (
            events.Started("ada", "a" * 52, "lab", "[::]:9000", "/data", 0.4),
            "·",
            "ada (aaaaaaa) of federation lab listens on [::]:9000, ready for peers after 0.40 s",
        ),
        (
            events.WorkerReady("digits", "cpu", 1437, 55210, 2.04),
            "·",
            "ready after 2.0 s: task digits on cpu",
        ),
        (events.WorkerReady("mine", "cpu", 1, 6, 1.0), "·", "cpu, 1 training example in all, 6 parameters"),
        (events.WorkerReady("train", "cpu", 0, 6, 1.0), "·", "task train on cpu, 6 parameters"),
        (events.DataShown(0, 1, OWN), "·", "own data: 1 example"),
        (
            events.DataShown(0, 1, msgspec.structs.replace(OWN, share="none")),
            "·",
            "own data: the number of examples is not told (--share none)",
        ),
        (
            events.CertificateChanged(1893456000.0, "renewed by ada"),
            "·",
            "certificate renewed by ada, until 2030-01-01 00:00:00 UTC",
        ),
        (events.CertificateChanged(1e300, "renewed by ada"), "·", "until a time out of range"),
        (events.WorkerFailed("it was killed"), "!", "worker restarts: it was killed"),
        (
            events.PeerLinked("b" * 52, "ben", "192.0.2.7:9000"),
            "+",
            "ben (bbbbbbb) linked, at 192.0.2.7:9000",
        ),
        (events.PeerLost("b" * 52, "ben", "it fell silent"), "-", "ben (bbbbbbb) lost: it fell silent"),
        (
            events.AddressFailed("pi:9", "nothing listens there", is_refused=False),
            "!",
            "pi:9 is not reached: nothing listens there",
        ),
        (events.AddressFailed("pi:9", "", is_refused=False), "+", "pi:9 is reached now"),
        (
            events.PeerRefused("192.0.2.9:1", "another CA"),
            "!",
            "connection with 192.0.2.9:1 refused: another CA",
        ),
        (events.PeerLeaving("b" * 52, "ben"), "-", "ben is leaving with the next commit"),
        (
            events.MemberExcluded("b" * 52, "ben", "is banned by desk", True),
            "!",
            "ben (bbbbbbb) is banned by desk",
        ),
        (events.MemberExcluded("b" * 52, "ben", "is free", False), "-", "ben (bbbbbbb) is free"),
        (events.Waiting(1, 3, "1 of 3 nodes are here"), "·", "waiting: 1 of 3 nodes are here"),
        (events.Waiting(3, 3, "ben lacks x", is_mismatch=True), "!", "the run cannot begin: ben lacks x"),
        (events.Notice("warning", "mind the gap"), "!", "mind the gap"),
        (events.Notice("error", "it broke"), "✗", "it broke"),
        (
            events.OptionsIgnored(("epochs 7 (the run has 1)",)),
            "!",
            "options ignored, the run has the founder's: epochs 7 (the run has 1)",
        ),
        (
            events.DataShown(0, 4, part_of((3, 0, 1))),
            "·",
            "data part 1 of 4: 4 examples, by class 0:3 1:0 2:1",
        ),
        (
            events.QuorumLost(2, 2, 5, 3),
            "!",
            "round 2 pauses: 2 of 5 members reachable, 3 needed",
        ),
        (events.QuorumBack(2, 3, 5), "·", "round 2 goes on: 3 of 5 members reachable"),
        (
            events.TrainingFinished(2, digest("update"), 300, 7, 0.5, 1.04),
            "·",
            "round 2: trained on 300 samples in 1.0 s, loss 0.5000",
        ),
        (
            events.TrainingFinished(2, digest("update"), 300, 37, 0.5, 10.04, 120),
            "·",
            "in 10.0 s, loss 0.5000, cut at 37 of 120 batches by the deadline",
        ),
        (
            msgspec.structs.replace(
                COMMITTED,
                updates=(events.CountedUpdate("ada", 100, 37, 0.5, 10.0, 120), *COMMITTED.updates[1:]),
            ),
            "✓",
            "; cut by the deadline: ada at 37 of 120 batches",
        ),
        (events.UpdateReused(2, digest("update")), "·", "trained before the restart is offered again"),
        (events.Elected(2, 1, "ada", "a" * 52, 3), "★", "round 2: ada is the aggregator"),
        (events.Elected(2, 3, "ada", "a" * 52, 3), "★", "round 2: ada is the aggregator, attempt 3"),
        (
            msgspec.structs.replace(
                COMMITTED,
                left_out=(("ben", "it is banned by desk: gone"), ("cleo", "late")),
                note="ben is banned by desk: gone",
            ),
            "✓",
            f"round 3 committed by ada: 2 updates, model {digest('model')[:12]}, 1.2 s; without cleo (late); "
            "ben is banned by desk: gone",
        ),
        (events.UpdateRefused(2, "ben", "NaN in it"), "!", "round 2: update of ben not counted: NaN in it"),
        (
            events.SteppedDown(2, 1, "ada", "its disk is full"),
            "!",
            "ada gives attempt 1 up: its disk is full",
        ),
        (
            COMMITTED,
            "✓",
            f"round 3 committed by ada: 2 updates, model {digest('model')[:12]}, 1.2 s; "
            "without cleo (it was not reachable)",
        ),
        (msgspec.structs.replace(COMMITTED, kind="evaluate"), "✓", "final evaluation committed by ada"),
        (
            events.RosterChanged(3, ("dan",), ("ben",), 3, 1),
            "·",
            "3 members after round 3 (joined: dan; left: ben); with all of them here the loss of 1 is tolerated",
        ),
        (
            events.Elected(11, 1, "ada", "a" * 52, 3, "evaluate"),
            "★",
            "final evaluation: ada is the aggregator",
        ),
        (
            events.QuorumLost(11, 1, 3, 2, "evaluate"),
            "!",
            "final evaluation pauses: 1 of 3 members reachable",
        ),
        (
            EVALUATED,
            "◎",
            "round 3: accuracy 0.9125, loss 0.2500 on 360 samples, reported by 3 of 3 members",
        ),
        (
            msgspec.structs.replace(EVALUATED, reports=2, committed=True, reported=0.95),
            "◎",
            "committed for 2 of 3 members; 0.9500 was reported",
        ),
        (
            msgspec.structs.replace(EVALUATED, reports=2, committed=True),
            "◎",
            "accuracy 0.9125, loss 0.2500 on 360 samples, committed for 2 of 3 members",
        ),
        (
            events.RunEnded(digest("run"), 10, digest("model"), {"accuracy": 0.975, "loss": 0.1}),
            "✓",
            f"run complete after 10 rounds, accuracy 0.9750; model {digest('model')[:12]}",
        ),
        (
            events.RunEnded(
                digest("run"),
                4,
                digest("model"),
                {"loss": 0.1, "r2": 0.95},
                10,
                primary="r2",
                why="r2 0.9500 reached 0.9",
            ),
            "✓",
            "run stopped after 4 of 10 rounds (r2 0.9500 reached 0.9), r2 0.9500; model",
        ),
        (
            msgspec.structs.replace(COMMITTED, kind="evaluate", note="r2 0.9500 reached 0.9"),
            "✓",
            "final evaluation committed by ada; r2 0.9500 reached 0.9",
        ),
        (
            msgspec.structs.replace(
                EVALUATED, metrics={"loss": 0.05, "mse": 123456.0, "r2": -0.5}, primary="r2"
            ),
            "◎",
            "round 3: r2 -0.5000, loss 0.0500, mse 1.235e+05 on 360 samples",
        ),
        (
            events.RunEnded(digest("run"), 4, digest("model"), {}, 10),
            "✓",
            "run stopped after 4 of 10 rounds, not evaluated; model",
        ),
        (
            events.RunEnded(
                digest("run"), 4, digest("model"), {"accuracy": 0.1, "loss": 2.3}, 4, is_trained=False
            ),
            "✗",
            "the run ended after 4 rounds without training: no update was ever counted",
        ),
        (events.RunExtended(100, "ben"), "·", "the run goes on to 100 rounds, as ben wants"),
        (events.CaughtUp(1, 30, 60, "ben"), "·", "caught up with rounds 1 to 30 of 60, from ben"),
        (events.CaughtUp(7, 7, 60, "ben"), "·", "caught up with round 7 of 60, from ben"),
        (events.CaughtUp(61, 60, 60, "ben"), "·", "caught up with the final evaluation, from ben"),
        (
            msgspec.structs.replace(COMMITTED, updates=()),
            "✓",
            "round 3 committed by ada: no update, so the model of the round before, model",
        ),
        (
            msgspec.structs.replace(
                COMMITTED, left_out=(("ben", "late"), ("cleo", "gone"), ("dora", "late"))
            ),
            "✓",
            "; without ben, dora (late); without cleo (gone)",
        ),
        (events.Ended(0, "the run is complete"), "·", "ended: the run is complete"),
        (events.Ended(3, "left"), "✗", "ended: left"),
    ],
)
def test_an_event_that_matters_becomes_a_line(event: events.AnyEvent, mark: str, part: str) -> None:
    rendered = line_of(event)
    assert rendered is not None
    assert rendered[0] == mark
    assert part in rendered[1]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("founded", "founded run"),
        ("joined", "joined run"),
        ("resumed", "after round 4"),
        ("continued", "goes on as run"),
        ("learner", "is a member with the next round"),
        ("finished", "has ended in this data directory, after round 4"),
    ],
)
def test_joining_a_run_says_how_and_what_it_trains(how: str, words: str) -> None:
    rendered = line_of(msgspec.structs.replace(JOINED, how=how, round=4))
    assert rendered is not None
    assert words in rendered[1]
    assert rendered[1].endswith(
        "digits, model cnn, partition iid; 10 rounds of 1 local epochs; members ada, ben"
    )


@pytest.mark.parametrize(
    "event",
    [
        events.ProgressMade(1, "train", 1, 2),
        events.TrainingStarted(1, 0),
        events.ElectionStarted(1, 1, "first in rank"),
        events.UpdateCounted(1, "ben", 10),
        events.Proposed(1, 1, digest("model"), 3, False),
        events.RecordAccepted(1, 1, "ada", digest("model")),
        msgspec.structs.replace(EVALUATED, reports=2),
    ],
)
def test_other_events_are_not_told(event: events.AnyEvent) -> None:
    assert line_of(event) is None


@pytest.mark.parametrize("text", ["it is banned by desk: gone", "it was kicked by desk"])
def test_what_a_ban_entails_has_no_line_beside_the_ban_s(text: str) -> None:
    assert line_of(UpdateRefused(3, "ben", text)) is None
    assert line_of(SteppedDown(3, 1, "ben", text)) is None


def test_what_a_peer_says_reaches_the_terminal_as_plain_text_of_bounded_length() -> None:
    rendered = line_of(events.PeerLost("b" * 52, "\x1b[31mben", "bye\r\n" + "x" * 1000))
    assert rendered is not None
    assert rendered[1].isprintable()
    assert len(rendered[1]) == MAX_LINE


@pytest.mark.parametrize(
    ("event", "level", "peer", "kind"),
    [
        (Notice("info", "so it is"), "info", "", "notice"),
        (Notice("error", "it is bad"), "error", "", "notice"),
        (UpdateRefused(3, "ada", "not finite"), "warning", "ada", "update_refused"),
        (PeerLost("id", "ada", "silent"), "info", "ada", "peer_lost"),
        (SteppedDown(3, 1, "ben", "disk full"), "warning", "ben", "stepped_down"),
    ],
)
def test_a_row_says_how_bad_it_is_and_whom_it_is_about(
    event: AnyEvent, level: str, peer: str, kind: str
) -> None:
    row = row_of(Published(7, 12.5, event))
    assert row is not None
    assert (row.seq, row.time, row.level, row.peer, row.kind) == (7, 12.5, level, peer, kind)


def test_measurements_are_not_worth_a_row() -> None:
    assert row_of(Published(1, 0.0, Measured(0.1, 1, ()))) is None


def test_a_row_is_one_harmless_line() -> None:
    row = row_of(Published(1, 0.0, Notice("info", "a\x1b[2J\nb")))
    assert row is not None
    assert row.text.isprintable()


def test_another_strategy_than_fedavg_is_told_where_a_run_is_entered() -> None:
    joined = msgspec.structs.replace(JOINED, spec=with_options(SPEC, strategy="median"))
    line = line_of(joined, 0)
    assert line is not None
    assert ", strategy median; " in line[1]
    assert "strategy" not in str(line_of(JOINED, 0))


def test_a_change_of_the_options_alone_repeats_no_line_about_what_is_waited_for() -> None:
    waiting = events.Waiting(1, 3, "1 of 3 nodes are here", options="--rounds 5", options_of="ben")
    assert line_of(waiting) == ("·", "waiting: 1 of 3 nodes are here")
    assert line_of(msgspec.structs.replace(waiting, is_known=True)) is None
