"""Synthetic recordings of a node's events, for tests of everything that shows events.

Each function returns the same events at every call, as an events file holds them, with the times, sizes and
accuracies of a plausible run. `state_of` folds a recording into a state, `rows_of` into rows of a journal.
"""

from __future__ import annotations

import base64
import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from p2pfl import events
from p2pfl.cards import REGRESSION, DataCard, LabelCount
from p2pfl.events import AddressState, AnyEvent, CountedUpdate, LinkMeasure, MemberScore, Published, RoundRow
from p2pfl.messages import NOT_REACHABLE, ClassCount
from p2pfl.observe.state import State
from p2pfl.spec import from_options

BEGAN = datetime(2026, 3, 14, 11, 50, tzinfo=UTC).timestamp()
"""Start time of the observed node."""

ME = "lab-desktop"
"""The observed node."""

NAMES = ("macbook-1", ME, "shelf-pi5", "west-thinkpad", "roof-jetson", "attic-nuc")
SAMPLES = (6000, 6000, 2500, 6000, 4000, 6000)
SECONDS = (8.2, 7.1, 11.4, 6.6, 9.3, 7.4)
"""Seconds that each node takes to train a round."""

DEVICES = ("mps", "cuda", "cpu", "cpu", "cuda", "cpu")
SYSTEMS = (
    "Darwin arm64",
    "Linux x86_64",
    "Linux aarch64",
    "Windows AMD64",
    "Linux aarch64",
    "Linux x86_64",
)
RTTS = (0.002, 0.0, 0.014, 0.004, 0.009, 0.006)

HOSTILE = "[red]x\x1b[2J"
"""A name with markup and an escape sequence that clears the screen, if it is printed unchanged."""

Phase = Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]
"""Phases of `events.PeerStatus`."""

MODEL_BYTES = 3_200_000
BATCHES = 282


def waiting() -> list[Published]:
    """Two of the three required nodes are present."""
    recording = _Recording(NAMES[:3])
    recording.start()
    recording.tell(events.Waiting(1, 3, "1 of 3 nodes is here"))
    recording.link(NAMES[0])
    recording.tell(events.Waiting(2, 3, "2 of 3 nodes are here"), after=13)
    for name in (ME, NAMES[0]):
        recording.status(name, "idle", run="")
    return recording.told


def checklist() -> list[Published]:
    """Before the run: of four listed addresses one is linked, one is dialled, and two fail."""
    recording = _Recording(NAMES[:3])
    recording.start()
    recording.device_info(ME)
    recording.link(NAMES[0])
    recording.tell(
        events.Waiting(2, 3, "2 of 3 nodes are here", options="--rounds 200 --lr 0.1", options_of=ME)
    )
    recording.addresses()
    return recording.told


def mismatch() -> list[Published]:
    """All are here, and the data of one do not fit."""
    recording = _Recording(NAMES[:3])
    recording.start()
    recording.device_info(ME)
    for name in (NAMES[0], NAMES[2]):
        recording.link(name)
    odd = events.PeerDeviceInfo(
        node_id_of(NAMES[2]), NAMES[2], "0.1.0", SYSTEMS[2], 8, 2**33, "cpu", part_of([250] * 9)
    )
    recording.tell(odd)
    reason = 'shelf-pi5 has no class "9", which lab-desktop and macbook-1 have'
    recording.tell(events.Waiting(3, 3, reason, is_mismatch=True))
    return recording.told


def starting() -> list[Published]:
    """The node listens, and its worker is still starting."""
    recording = _Recording(NAMES)
    recording.tell(recording.started())
    recording.status(ME, "starting", run="")
    return recording.told


def running(peers: int = 6, rounds: int = 42, me: str = ME) -> list[Published]:
    """The middle of round *rounds*: the first node collects, the third trains, the last is lost.

    The observed node sends its update; if it is the aggregator (*me* is the first), it counts the updates of
    others.
    """
    recording = _Recording(names_of(peers), me, target=max(100, rounds + rounds // 5))
    recording.found()
    recording.rounds(rounds - 1)
    recording.middle()
    return recording.told


def sampled(state: State, *chosen: str) -> None:
    """Let only the members *chosen* be selected to train in the open round of *state*; the others are idle."""
    opened = state.open
    assert opened is not None
    for name in set(state.members) - set(chosen):
        opened.trained.discard(name)
        peer = state.peers[name]
        assert peer.status is not None
        peer.status = msgspec.structs.replace(peer.status, phase="idle", progress=0.0)
    state.apply(Published(0, state.time, events.MembersSelected(opened.index, chosen)))


def no_quorum() -> list[Published]:
    """Three of five members are unreachable: nothing commits."""
    recording = _Recording(NAMES[:5])
    recording.found()
    recording.rounds(7)
    recording.open_round()
    for name in (NAMES[0], NAMES[2], NAMES[4]):
        recording.lose(name, "nothing was heard from it for 6 s")
    recording.tell(events.QuorumLost(8, 2, 5, 3), after=0.1)
    return recording.told


def eventful() -> list[Published]:
    """A run of which charts have something to tell: a member was lost and came back, a second aggregator was
    elected in round 21, and the run was paused after round 26. It is in its round 33, and the member is lost
    again."""
    recording = _Recording(NAMES, target=60)
    recording.found()
    recording.rounds(8)
    recording.open_round()
    recording.lose(NAMES[5], "nothing was heard from it for 6 s")
    recording.close_round()
    recording.rounds(5)
    recording.back(NAMES[5])
    recording.rounds(6)
    recording.open_round()
    recording.elect_again(NAMES[4])
    recording.close_round()
    recording.rounds(4)
    recording.open_round()
    recording.tell(events.ControlRequested("pause", "ada (operator)"), after=1)
    recording.close_round(then="pause")
    recording.evaluated()
    recording.tell(events.Resumed(26, "ada (operator)"), after=20)
    recording.rounds(6)
    recording.middle()
    return recording.told


def paused() -> list[Published]:
    """An operator paused the run after its round 12."""
    recording = _Recording(NAMES)
    recording.found()
    recording.rounds(11)
    recording.open_round()
    recording.tell(events.ControlRequested("pause", "ada (operator)"), after=1)
    recording.close_round(then="pause")
    recording.evaluated()
    recording.statuses("idle")
    return recording.told


def finished() -> list[Published]:
    """A run of 20 rounds is complete."""
    recording = _Recording(NAMES, target=20)
    recording.found()
    recording.rounds(20)
    recording.finish()
    return recording.told


def ended() -> list[Published]:
    """The node has exited after the end of its run."""
    recording = _Recording(NAMES, target=20)
    recording.found()
    recording.rounds(20)
    recording.finish()
    recording.tell(events.Ended(0, "the run is complete and every member has its model"), after=1)
    return recording.told


def hostile() -> list[Published]:
    """A peer's name and reasons contain markup and escape sequences."""
    recording = _Recording((*NAMES[:3], HOSTILE))
    recording.found()
    recording.rounds(4)
    recording.open_round()
    recording.tell(events.UpdateRefused(5, HOSTILE, "[/red]not finite\r\n\x1b]0;owned\x07" + "z" * 300))
    recording.tell(events.Notice("warning", "\x1b[31m[b]boo[/b]\u202e"))
    recording.lose(HOSTILE, "[link=file:///]click[/link]")
    return recording.told


def big(peers: int = 50, rounds: int = 500) -> list[Published]:
    """A large federation late in a long run."""
    return running(peers, rounds)


def regression(peers: int = 4, rounds: int = 12) -> list[Published]:
    """A running regression: its models are compared by R2, and it measures no accuracy."""
    return [msgspec.structs.replace(one, event=_of_regression(one.event)) for one in running(peers, rounds)]


def _of_regression(event: AnyEvent) -> AnyEvent:
    """Return *event* as of a run that predicts a number: its R2 is twice the accuracy minus one."""
    if isinstance(event, events.RunJoined):
        return msgspec.structs.replace(event, measures=REGRESSION, notes=(NOTE,))
    if not isinstance(event, events.EvaluationFinished):
        return event
    scores = tuple(
        MemberScore(
            one.name,
            one.examples,
            {"loss": one.sums["loss"], "mae": 3.0 * one.examples, "mse": 12.0 * one.examples},
            {"r2": 2 * one.sums["accuracy"] / one.examples - 1},
        )
        for one in event.scores
    )
    metrics = {
        "loss": event.metrics["loss"],
        "mae": 3.0,
        "mse": 12.0,
        "r2": 2 * event.metrics["accuracy"] - 1,
    }
    return msgspec.structs.replace(event, metrics=metrics, scores=scores, primary="r2")


NOTE = "node-2: its column age has a mean a thousand times the others'"


def state_of(recording: Iterable[Published | RoundRow]) -> State:
    """Return the state of an observer after *recording*."""
    state = State()
    for item in recording:
        state.apply(item)
    return state


def rows_of(recording: Iterable[Published]) -> list[RoundRow]:
    """Return the rounds of *recording* as the node's journal returns them."""
    rows: dict[int, RoundRow] = {}
    parent, members = digest_of("model 0"), tuple[str, ...]()
    for item in recording:
        match event := item.event:
            case events.RunJoined():
                members = event.members
            case events.Committed():
                rows[event.round] = RoundRow(
                    event.run, event.round, event.kind, event.attempt, event.aggregator, event.digest, parent,
                    event.record, members, event.updates, event.left_out, {}, 0, (), event.seconds,
                    event.note, event.then, event.trained,
                )  # fmt: skip
                parent, members = event.digest, event.members
            case events.EvaluationFinished() if event.round in rows:
                rows[event.round] = _scored(rows[event.round], event)
            case _:
                pass
    return list(rows.values())


def _scored(row: RoundRow, event: events.EvaluationFinished) -> RoundRow:
    return RoundRow(
        row.run, row.round, row.kind, row.attempt, row.aggregator, row.digest, row.parent, row.record,
        row.members, row.updates, row.left_out, event.metrics, event.examples, event.scores,
        row.seconds, row.note, row.then, row.trained, event.committed,
    )  # fmt: skip


def names_of(peers: int) -> tuple[str, ...]:
    """Return the names of a federation of *peers* nodes."""
    return NAMES[:peers] + tuple(f"rack-{number:02}" for number in range(len(NAMES) + 1, peers + 1))


def node_id_of(name: str) -> str:
    """Return a node id for *name*, of the usual form."""
    return base64.b32encode(hashlib.sha256(name.encode()).digest()).decode().rstrip("=").lower()


def digest_of(text: str) -> str:
    """Return a digest for *text*, of the usual form."""
    return hashlib.sha256(text.encode()).hexdigest()


def part_of(labels: Sequence[int]) -> DataCard:
    """The card of data with so many examples of each label."""
    counts = tuple(LabelCount(str(label), count) for label, count in enumerate(labels))
    return DataCard("mnist", sum(labels), counts)


def score_of(name: str, correct: int, total: int, loss: float) -> MemberScore:
    """How a classifier did with *name*; *loss* is the sum."""
    return MemberScore(name, total, {"accuracy": float(correct), "loss": loss})


class _Recording:
    """Builds the events of a run as one node publishes them, on a virtual clock."""

    def __init__(self, names: tuple[str, ...], me: str = ME, target: int = 100) -> None:
        self.names = names
        self.me = me
        self.told: list[Published] = []
        self._target = target
        self._now = BEGAN
        self._round = 0
        """The last committed round."""
        self._chance = random.Random(7)
        self._committed_at = BEGAN
        self._run = digest_of(f"run of {names}")
        self._lost: set[str] = set()
        self._sent = 0
        self._confirmed = 0
        """Number of events that only confirm others, and no message was sent for."""
        self._elected = 0, 1, ""
        """Of a repeated election: the round, the attempt, and who won it."""
        self._reported: events.EvaluationFinished | None = None
        """Evaluation of the last model, which the next record will commit."""
        self._evaluated: events.EvaluationFinished | None = None
        """The last committed evaluation."""

    def tell(self, event: AnyEvent, after: float = 0.02) -> None:
        """Add *event*, *after* seconds later."""
        self._now += after
        self.told.append(Published(len(self.told) + 1, round(self._now, 3), event))

    # --- before the run -------------------------------------------------------------------------------------

    def started(self) -> AnyEvent:
        """Return the node's first event."""
        return events.Started(
            self.me,
            node_id_of(self.me),
            "digits",
            "192.168.1.20:9000",
            "/home/op/.local/share/p2pfl/lab",
            0.21,
        )

    def start(self) -> None:
        """Start the node and its worker."""
        self.tell(self.started())
        self.tell(events.WorkerReady("mnist", "cuda", 60000, 199210, 3.1), after=3)

    def link(self, name: str) -> None:
        """Link *name*, which sends its device info."""
        index = self.names.index(name)
        self.tell(events.PeerLinked(node_id_of(name), name, f"192.168.1.{30 + index}:9000"), after=0.1)
        self._device_info(index)

    def device_info(self, name: str) -> None:
        """Add what *name* tells of its device."""
        self._device_info(self.names.index(name))

    def addresses(self) -> None:
        """Add the state of the listed addresses."""
        linked, dialled, wrong = (node_id_of(name) for name in (NAMES[0], NAMES[2], NAMES[3]))
        later = self._now + 4.0
        states = (
            AddressState("192.168.1.30:9000", "listed", linked, NAMES[0], "linked", "", None),
            AddressState("shelf-pi5.local:9000", "found", dialled, "", "dialling", "", None),
            AddressState(
                "192.168.1.77:9000", "listed", "", "", "unreached",
                "no answer within 3 s: is the device on, and is the address right?", later,
            ),
            AddressState(
                "192.168.1.33:9000", "listed", wrong, "", "refused",
                "its certificate is of another federation, lab-2", later + 56,
            ),
        )  # fmt: skip
        self.tell(events.AddressStates(states))

    def _device_info(self, index: int) -> None:
        name, kind = self.names[index], index % len(NAMES)
        examples = SAMPLES[kind]
        shares = [1 + (label * 7 + index * 3) % 11 for label in range(10)]
        labels = [examples * share // sum(shares) for share in shares]
        labels[0] += examples - sum(labels)
        self.tell(
            events.PeerDeviceInfo(
                node_id_of(name), name, "0.1.0", SYSTEMS[kind], 4 + 2 * (kind % 3), (8 + 8 * (kind % 2)) * 2**30,
                DEVICES[kind], part_of(labels),
            )
        )  # fmt: skip

    def found(self) -> None:
        """Start the node, link all others and found the run."""
        self.start()
        self._device_info(self.names.index(self.me))
        for name in self.names:
            if name != self.me:
                self.link(name)
        spec = from_options(
            task="mnist", model="2nn", partition="dirichlet:0.5", partitions=len(self.names),
            rounds=self._target, epochs=3, batch_size=64, learning_rate=0.05, momentum=0.9, weight_decay=0.0,
            seed=1, sample=0, min_updates=2, round_cap=900.0, drop_after=60.0,
        )  # fmt: skip
        self.tell(events.RunJoined(self._run, "founded", 0, spec, self.names), after=2)
        self._committed_at = self._now
        self.tell(events.DataShown(self.names.index(self.me), len(self.names), part_of([600] * 10)))

    # --- rounds ---------------------------------------------------------------------------------------------

    def rounds(self, number: int) -> None:
        """Commit *number* rounds; the last few have status events of all nodes."""
        for left in range(number, 0, -1):
            self.open_round()
            if left <= 4:
                self.statuses("training", 0.4)
                self.statuses("trained", 1.0)
            self.close_round()

    def open_round(self) -> None:
        """Begin the next round: all nodes train, and an aggregator is elected."""
        number = self._round + 1
        self.tell(events.TrainingStarted(number, self.names.index(self.me)))
        self.evaluated()
        aggregator = self._aggregator(number)
        if aggregator == self.me:
            self.tell(events.ElectionStarted(number, 1, "first in rank"))
        self.tell(
            events.Elected(number, 1, aggregator, node_id_of(aggregator), len(self.names) // 2 + 1), after=0.2
        )

    def close_round(self, then: Literal["go", "pause"] = "go") -> None:
        """Train, average and commit the round."""
        number = self._round + 1
        self._train(number)
        attempt, aggregator = 1, self._aggregator(number)
        if self._elected[0] == number:
            _, attempt, aggregator = self._elected
        updates = []
        for index, name in enumerate(self.names):
            if name in self._lost:
                continue
            seconds = round(SECONDS[index % len(SECONDS)] * self._chance.uniform(0.95, 1.15), 2)
            loss = round(_loss(number) * self._chance.uniform(0.9, 1.1), 4)
            updates.append(CountedUpdate(name, SAMPLES[index % len(SAMPLES)], 30, loss, seconds))
            if aggregator == self.me:
                self.tell(events.UpdateCounted(number, name, SAMPLES[index % len(SAMPLES)]), after=0.3)
        digest = digest_of(f"model {number}")
        self.tell(
            events.RecordAccepted(number, attempt, aggregator, digest),
            after=max(u.seconds for u in updates) - 4,
        )
        left_out = tuple((name, NOT_REACHABLE) for name in self.names if name in self._lost)
        self._now += 0.2
        self._commit_evaluated()
        seconds = round(self._now - self._committed_at, 3)
        self.tell(
            events.Committed(
                self._run, number, "train", attempt, aggregator, digest, digest_of(f"record {number}"), self.names,
                tuple(updates), left_out, number, self._target, then, "", seconds,
            )
        )  # fmt: skip
        self._round, self._committed_at = number, self._now

    def _train(self, number: int) -> None:
        for done in range(BATCHES // 3, BATCHES + 1, BATCHES // 3):
            self.tell(events.ProgressMade(number, "train", done, BATCHES), after=1.6)
        index = self.names.index(self.me)
        self.tell(
            events.TrainingFinished(
                number,
                digest_of(f"update {number}"),
                SAMPLES[index % len(SAMPLES)],
                30,
                round(_loss(number), 4),
                4.9,
            )
        )

    def evaluated(self) -> None:
        """Add the evaluation of the last model on the members' data."""
        if self._round == 0:
            return
        scores: list[MemberScore] = []
        for index, name in enumerate(self.names):
            total = 10_000 // len(self.names)
            share = _accuracy(self._round) - 0.006 * (index % 6) + self._chance.uniform(-0.003, 0.003)
            correct = max(0, min(total, round(total * share)))
            loss = _loss(self._round) * (1 + 0.04 * (index % 6))
            scores.append(score_of(name, correct, total, round(total * loss, 3)))
        examples = sum(score.examples for score in scores)
        means = {what: sum(score.sums[what] for score in scores) / examples for what in ("accuracy", "loss")}
        self._reported = events.EvaluationFinished(
            self._round, means, examples, len(scores), len(scores), tuple(scores),
            classes=_counts(means["accuracy"], examples),
        )  # fmt: skip
        self.tell(self._reported, after=0.1)

    def _commit_evaluated(self) -> None:
        """Add the event that the last evaluation is committed unchanged."""
        if self._reported is not None:
            self.tell(msgspec.structs.replace(self._reported, committed=True, is_news=False), after=0)
            self._evaluated, self._reported = self._reported, None
            self._confirmed += 1

    def _aggregator(self, number: int) -> str:
        here = [name for name in self.names if name not in self._lost]
        return here[(number * 5) % len(here)]

    def statuses(self, phase: Phase, progress: float = 0.0, *, ended: bool = False) -> None:
        """Add status events of all nodes, and the traffic of their links."""
        for index, name in enumerate(self.names):
            if name not in self._lost:
                share = min(1.0, progress * (0.8 + 0.1 * (index % 4)))
                self.status(name, phase, share, ended=ended)
        self._measured(0)

    def status(
        self, name: str, phase: Phase, progress: float = 0.0, *, run: str | None = None, ended: bool = False
    ) -> None:
        """Add a status event of *name*; *run* if it is not in the run of this recording."""
        predicted = SECONDS[self.names.index(name) % len(SECONDS)]
        links = len(self.names) - 1 - len(self._lost)
        run = self._run if run is None else run
        self.tell(
            events.PeerStatus(
                node_id_of(name), name, run, self._round, bool(run), phase, round(progress, 3), predicted, links,
                bool(run), ended,
            )
        )  # fmt: skip

    def _measured(self, sent: int) -> None:
        self._sent += sent
        count = len(self.told) - self._confirmed
        links = tuple(
            LinkMeasure(
                node_id_of(name),
                RTTS[index % len(RTTS)],
                23_000_000 + 1000 * count + (self._sent if index == 0 else 0),
                21_000_000 + 900 * count,
            )
            for index, name in enumerate(self.names)
            if name not in self._lost and name != self.me
        )
        self.tell(events.Measured(0.74, 812 * 2**20, links), after=1)

    def lose(self, name: str, reason: str) -> None:
        """Lose the link to *name*."""
        self._lost.add(name)
        self.tell(events.PeerLost(node_id_of(name), name, reason), after=0.4)

    def back(self, name: str) -> None:
        """Make the link to *name* again."""
        self._lost.discard(name)
        self.link(name)

    def elect_again(self, name: str) -> None:
        """Let the elected aggregator fail, and *name* win the second election of the open round."""
        number = self._round + 1
        self.tell(events.SteppedDown(number, 1, self._aggregator(number), "it was lost"), after=1)
        self._elected = number, 2, name
        self.tell(events.Elected(number, 2, name, node_id_of(name), len(self.names) // 2 + 1), after=0.2)

    # --- special moments ------------------------------------------------------------------------------------

    def middle(self) -> None:
        """Stop in the middle of a round, with every node in a different phase."""
        number = self._round + 1
        first, last = self.names[0], self.names[-1]
        self.tell(events.TrainingStarted(number, self.names.index(self.me)))
        self.evaluated()
        if first == self.me:
            self.tell(events.ElectionStarted(number, 1, "first in rank"))
        self.tell(events.Elected(number, 1, first, node_id_of(first), len(self.names) // 2 + 1), after=0.2)
        self.statuses("training", 0.1)
        self._train(number)
        self.lose(last, "nothing was heard from it for 6 s")
        for index, name in enumerate(self.names[:-1]):
            if name == first:
                self.status(name, "aggregating", 1.0)
            elif index % 6 == 2:
                self.status(name, "training", 0.71)
            else:
                self.status(name, "trained", 1.0)
        self._measured(0)
        if first == self.me:
            for name in self.names[3:5]:
                self.tell(events.UpdateCounted(number, name, SAMPLES[self.names.index(name)]), after=0.3)
                self.tell(
                    events.ProgressMade(number, "pull", int(MODEL_BYTES * 0.62), MODEL_BYTES, self.names[1])
                )
        else:
            for done in (0.2, 0.41, 0.62):
                self.tell(
                    events.ProgressMade(number, "push", int(MODEL_BYTES * done), MODEL_BYTES, first),
                    after=0.2,
                )
        self._measured(int(MODEL_BYTES * 0.62))

    def finish(self) -> None:
        """Close the run with its evaluation record."""
        aggregator = self._aggregator(self._round)
        self.evaluated()
        self.tell(
            events.Elected(self._round + 1, 1, aggregator, node_id_of(aggregator), 4, "evaluate"), after=0.2
        )
        digest = digest_of(f"model {self._round}")
        self._commit_evaluated()
        self.tell(
            events.Committed(
                self._run, self._round + 1, "evaluate", 1, aggregator, digest, digest_of("last record"),
                self.names, (), (), self._round, self._target, "end", "", 0.6,
            ),
            after=0.4,
        )  # fmt: skip
        assert self._evaluated is not None
        metrics = self._evaluated.metrics
        self.tell(events.RunEnded(self._run, self._round, digest, metrics, self._target))
        self.statuses("idle", 1.0, ended=True)


def _counts(accuracy: float, examples: int) -> tuple[ClassCount, ...]:
    """Return how ten equally frequent classes are classified: the later, the worse."""
    part = examples // 10
    rights = [round(part * accuracy ** (0.1 + 0.2 * label)) for label in range(10)]
    return tuple(ClassCount(right, part, part) for right in rights)


def _accuracy(number: int) -> float:
    """Return the accuracy after *number* rounds, from 0 to 1."""
    return 0.975 - 0.87 * math.exp(-number / 6)


def _loss(number: int) -> float:
    """Return the mean cross-entropy after *number* rounds."""
    return 0.1 + 2.2 * math.exp(-number / 6)
