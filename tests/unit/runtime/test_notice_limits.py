from __future__ import annotations

from p2pfl import events
from p2pfl.core.effects import AnyEffect, Exit, SendRecords, Tell
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime.notice_limits import ANSWERS, LINES, MAX_PEERS, REMIND_SECONDS, PeerNoticeLimiter
from tests.support.records import node

BEN = node("ben")
LINE = Tell(events.Notice("warning", "ben says something"))
DECIDED = Tell(events.RunEnded("0" * 64, 1, "1" * 64, {}))
RECORDS = SendRecords(BEN, "0" * 64, 0)


def kept(limiter: PeerNoticeLimiter, effects: list[AnyEffect], now: float = 0.0) -> list[AnyEffect]:
    return limiter.filter(BEN, "ben", effects, now)


def test_lines_beyond_the_budget_are_not_shown_and_the_peer_is_named_once() -> None:
    effects = kept(PeerNoticeLimiter(), [LINE] * (int(LINES.burst) + 50))
    assert effects[: int(LINES.burst)] == [LINE] * int(LINES.burst)
    [reminder] = effects[int(LINES.burst) :]
    assert isinstance(reminder, Tell)
    assert isinstance(reminder.event, events.Notice)
    assert reminder.event.text.startswith(f"ben ({BEN[:7]}) causes more events")


def test_what_a_run_decides_is_always_shown() -> None:
    assert kept(PeerNoticeLimiter(), [DECIDED] * 1000) == [DECIDED] * 1000


def test_why_a_node_ends_is_always_shown() -> None:
    limiter = PeerNoticeLimiter()
    kept(limiter, [LINE] * 1000)
    ending: list[AnyEffect] = [LINE, Exit(ExitCode.CONFLICT, "two records")]
    assert kept(limiter, ending) == ending


def test_lines_are_shown_again_after_a_while_and_the_reminder_once_a_minute() -> None:
    limiter = PeerNoticeLimiter()
    kept(limiter, [LINE] * 1000)
    assert kept(limiter, [LINE] * 1000, 1.0).count(LINE) <= LINES.rate
    later = kept(limiter, [LINE] * 1000, REMIND_SECONDS + 1.0)
    assert later.count(LINE) > LINES.rate
    assert len(later) == later.count(LINE) + 1


def test_one_peer_does_not_silence_another() -> None:
    limiter = PeerNoticeLimiter()
    kept(limiter, [LINE] * 1000)
    assert limiter.filter(node("cleo"), "cleo", [LINE], 0.0) == [LINE]


def test_quick_rounds_do_not_hide_why_one_waits() -> None:
    limiter = PeerNoticeLimiter()
    kept(limiter, [Tell(events.Elected(2, 1, "ben", BEN, 0))] * 1000)
    assert kept(limiter, [LINE]) == [LINE]


def test_answers_from_the_journal_are_bounded() -> None:
    assert kept(PeerNoticeLimiter(), [RECORDS] * 10_000) == [RECORDS] * int(ANSWERS.burst)


def test_peers_without_end_take_no_memory_without_end() -> None:
    limiter = PeerNoticeLimiter()
    for number in range(3 * MAX_PEERS):
        limiter.filter(f"{number}", "x", [LINE] * 2, 0.0)
    assert len(limiter._lines) <= MAX_PEERS
