"""Before the run: each address with its state, whose options hold, the data that do not fit, how to join."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from p2pfl import events
from p2pfl.core.founding import held_start
from p2pfl.events import AddressState, Published
from p2pfl.observe.state import State
from tests.support import recordings
from tests.support.recordings import state_of
from tests.support.screens import Node, greeting, settle, shown, text_of
from tui import views
from tui.session import Session
from tui.symbols import glyphs

GLYPHS = glyphs(ascii_only=False)


def lines(state: State, width: int = 76, height: int = 30, *, may_start: bool = True) -> str:
    made = views.waiting_lines(
        state, state.time, GLYPHS, own="10.0.0.1:9000", may_start=may_start, width=width, height=height
    )
    return "\n".join(line.plain for line in made)


def waiting(reason: str, **more: Any) -> State:
    state = state_of(recordings.waiting())
    state.apply(Published(0, state.time, events.Waiting(2, 3, reason, **more)))
    return state


def test_each_address_has_its_state_reason_and_next_try_with_problems_first() -> None:
    text = lines(state_of(recordings.checklist()))
    order = [
        text.index(word) for word in ("⊘ 192.168.1.33", "✗ 192.168.1.77", "◌ shelf-pi5", "✓ 192.168.1.30")
    ]
    assert order == sorted(order)
    assert "certificate is of another federation, lab-2 · next try in 1m" not in text
    assert "lab-2 · next try in 60s" in text
    soon = state_of(recordings.checklist())
    soon.addresses = tuple(
        replace(one, next_try=soon.time + 0.2) for one in soon.addresses if one.next_try is not None
    )
    assert lines(soon).count("next try in 1s") == len(soon.addresses)
    assert "no answer within 3 s" in text
    assert "linked       macbook-1" in text
    assert "--rounds 200 --lr 0.1, of lab-desktop" in text


def test_only_some_of_many_addresses_are_listed_and_the_rest_counted() -> None:
    state = state_of(recordings.waiting())
    state.addresses = tuple(
        AddressState(f"10.0.0.{number}:9000", "known", "", "", "unreached", "no answer", 0.0)
        for number in range(20)
    )
    text = lines(state)
    assert text.count("no answer") == 7
    assert "and 14 more" in text, "the node that dialled this one is one of them"
    assert "no answer · trying again now" in text


def test_what_g_does_is_said_only_where_it_helps_and_is_permitted() -> None:
    options = "--lr is 0.1 on a and 0.2 on b; run `p2pfl start` on the device whose options are to hold"
    assert "g: this device's options hold" in lines(waiting(options, is_mismatch=True))
    assert "g: " not in lines(waiting(options, is_mismatch=True), may_start=False)
    held = held_start("lab-desktop")
    assert held in lines(waiting(held, held_by="lab-desktop"), width=200)
    assert "g starts the run" in lines(waiting(held, held_by="lab-desktop"))
    assert "g starts" not in lines(waiting(held, held_by="lab-desktop"), may_start=False)
    assert "g starts" not in lines(waiting(held_start("ann"), held_by="ann")), "that is for ann to do"
    assert "g starts" not in lines(waiting("2 of 3 nodes are here"))


def test_data_that_do_not_fit_are_marked_and_differing_options_do_not_mark_data() -> None:
    state = state_of(recordings.mismatch())
    assert "9, no 9 ✗" in lines(state)
    assert "✗ shelf-pi5 has no class" in lines(state)
    state.apply(Published(0, state.time, events.Waiting(3, 3, "run `p2pfl start`", is_mismatch=True)))
    assert "no 9 ✗" not in lines(state)


def test_a_table_has_rows_and_columns_and_a_device_that_tells_nothing_says_so() -> None:
    from p2pfl.cards import ColumnCard, DataCard

    state = state_of(recordings.mismatch())
    age, dose = ColumnCard("age", "number"), ColumnCard("dose", "number")
    cards = (
        DataCard("table", 120, (), columns=(age, dose)),
        DataCard("table", 80, (), columns=(age,)),
        DataCard("table", 1, (), share="none"),
    )
    for name, card in zip(("lab-desktop", "macbook-1", "shelf-pi5"), cards, strict=True):
        info = events.PeerDeviceInfo(f"id-{name}", name, "0.1", "Linux", 4, 2**33, "", card)
        state.apply(Published(0, state.time, info))
    text = lines(state)
    assert "trains on starting" in text
    assert "rows      120            80             not told" in text
    assert "columns   2" in text


def test_what_does_not_fit_is_left_out_from_the_end_and_the_line_to_join_stays() -> None:
    state = state_of(recordings.checklist())
    for height in (20, 16, 12):
        text = lines(state, height=height)
        assert "p2pfl node --certs FOLDER --peers 10.0.0.1:9000" in text
        assert "⊘ 192.168.1.33" in text
    assert "trains on" not in lines(state, height=12)
    assert "doctor" in lines(state, height=30)


@pytest.mark.parametrize("state", ["starting", "waiting", "checklist", "mismatch"])
async def test_y_copies_the_line_to_join(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    async with shown(getattr(recordings, state)()) as (app, pilot, _):
        monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
        await pilot.press("y")
        await settle(app, pilot)
        assert copied == ["p2pfl node --certs FOLDER --peers 192.168.1.20:9000"]
        assert "y copy" in text_of(app)


async def test_y_copies_nothing_during_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    async with shown(recordings.running()) as (app, pilot, _):
        monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
        await pilot.press("y")
        assert copied == []


@pytest.mark.parametrize(
    ("told", "role", "expected"),
    [
        ("0.0.0.0:9000, 10.1.2.3:9001", "local", "10.1.2.3:9001"),
        ("127.0.0.1:9000, 10.1.2.3:9001", "local", "10.1.2.3:9001"),
        ("127.0.0.1:9000", "local", "127.0.0.1:9000"),
        ("0.0.0.0:9007, [::]:9007", "local", "192.168.7.7:9007"),
        ("0.0.0.0:9007, [::]:9007", "observer", "192.0.2.20:9007"),
        ("", "local", "192.168.7.7:9000"),
    ],
)
def test_the_address_to_join_is_a_real_one(
    told: str, role: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.enrolment.own_address.own_address", lambda: "192.168.7.7")
    session = Session(Node(), GLYPHS, lambda: 0.0)
    session._greeting = greeting(role)
    session.state.address = told
    assert session.own_address == expected


async def test_the_addresses_without_an_answer_are_in_the_picture() -> None:
    async with shown(recordings.checklist(), (200, 50)) as (app, _, _):
        text = text_of(app)
        assert "Federation" in text
        assert "○ 192.168.1.77" in text
