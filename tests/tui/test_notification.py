from __future__ import annotations

from tests.support import recordings
from tests.support.screens import settle, shown
from tui.notification import notification


def test_a_notification_is_two_sequences_that_a_text_cannot_end() -> None:
    assert notification("p2pfl", "complete") == "\x1b]777;notify;p2pfl;complete\x07\x1b]9;p2pfl: complete\x07"
    made = notification("a;b", "c;d\x07\x1b[2J\n" + "e" * 900)
    assert made.count("\x07") == made.count("\x1b") == 2
    assert "notify;a,b;c,d" in made
    assert "\n" not in made
    assert len(made) < 500


async def test_the_end_of_the_run_is_told_once() -> None:
    told: list[str] = []
    recording = recordings.finished()
    async with shown(recording[:-20], (80, 24)) as (app, pilot, _):
        app.on_over = told.append
        await settle(app, pilot)
        for item in recording[-20:]:
            app.session.deliver(item)
        await settle(app, pilot)
        await settle(app, pilot)
        app.write_to_terminal("nothing is drawn")
    assert len(told) == 1
    assert "complete" in told[0] or "accuracy" in told[0]
