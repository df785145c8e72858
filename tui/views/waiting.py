"""Before the run: a checklist of the addresses, whose options will hold, the devices' data, how to join."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from p2pfl.events import AddressState, PeerDeviceInfo
from p2pfl.observe.peers import Peer
from p2pfl.observe.state import State
from tui.symbols import Glyphs, ago, clip, fit, samples
from tui.views.summary import NONE
from tui.widgets.paint import fit_lines

MOST_ADDRESSES = 8
"""Addresses in the checklist; `p2pfl status` shows all."""

ADDRESS_CELLS = 22
STATE_CELLS = 11

LEAST_NOTE = 50
"""Cells from which a long note goes on below its own beginning, not below the address."""

LEAST_BESIDE = 100
"""Width from which the way to join and the data are beside the checklist, where they have no room below."""

BETWEEN = 4
"""Cells between the two columns."""

HEADING_CELLS = 10
"""Of the names of rows in the table of data."""

DEVICE_CELLS = 15
"""Of a device in the table of data."""

ANY_HEIGHT = 10_000

UNDECIDED = "p2pfl start"
"""What the node's reason contains where a start at one device decides whose options hold."""

CHECK = "d checks certificate and network; `p2pfl doctor` with the same options checks more."

_ORDER = ("refused", "unreached", "dialling", "linked")
"""States of addresses, those with a problem first."""

_WORDS = {
    "linked": ("linked", "good"),
    "dialling": ("dialling", "quiet"),
    "unreached": ("not reached", "warning"),
    "refused": ("refused", "bad"),
}
"""The word and the style of each state."""


def waiting_lines(
    state: State, now: float, glyphs: Glyphs, *, own: str, may_start: bool, width: int, height: int
) -> list[Text]:
    """Return what the node waits for before the run, the most important first, for a panel of this size.

    *own* is this node's address for others; *may_start* whether the user may start the run here.
    """

    def first(room: int) -> list[list[Text]]:
        head = _head(state, glyphs, may_start=may_start)
        return [head, _addresses(state, now, glyphs, room), _options(state)]

    whole = first(width)
    data = _data(state, glyphs, width)
    join, check = _join(own), [Text(CHECK, style="quiet")]
    layouts = [_stacked([*whole, data, join, check])]
    if width >= LEAST_BESIDE:
        room = (width - BETWEEN) // 2
        half = _data(state, glyphs, room)
        layouts.append(_beside(_stacked(first(room)), _stacked([join, check, half]), width))
    layouts += [
        _stacked([*whole, data, join]),
        [line for block in (*whole, data, join) for line in block],
        _stacked([*whole, join]),
        [line for block in (*whole, join) for line in block],
    ]
    fitting = (lines for lines in layouts if len(fit_lines(lines, width, ANY_HEIGHT)) <= height)
    return next(fitting, layouts[-1])


def join_command(own: str) -> str:
    """Return the command line with which a device that has a certificate joins the node at address *own*."""
    return f"p2pfl node --certs FOLDER --peers {own}"


def _head(state: State, glyphs: Glyphs, *, may_start: bool) -> list[Text]:
    """Return how many nodes are here, what is missing, and what one can do."""
    waiting = state.waiting
    if waiting is None:
        return [Text(f"{clip(state.name, 40) or 'The node'} is starting.")]
    is_undecided = UNDECIDED in waiting.reason and not waiting.held_by
    if waiting.is_mismatch or is_undecided:
        lines = [Text(f"{glyphs.broken} {clip(waiting.reason, 300)}", style="bad")]
        if not is_undecided:
            lines.append(Text("The run starts by itself when a device is started again with what fits."))
        elif may_start:
            lines.append(Text("g: this device's options hold, and the run starts.", style="bold"))
        return lines
    dots = glyphs.full * waiting.present + glyphs.empty * max(0, waiting.needed - waiting.present)
    line = Text(f"{clip(waiting.reason, 300)}   ").append(dots[:40], style="good")
    if waiting.held_by:
        is_here = may_start and waiting.held_by == state.name
        return [line, Text("g starts the run.", style="bold")] if is_here else [line]
    return [line, Text("The run starts by itself when they are all here.")]


def _addresses(state: State, now: float, glyphs: Glyphs, width: int) -> list[Text]:
    """Return lines for each address that the node dials, and each node that has come by itself."""
    rows = sorted(state.addresses, key=lambda one: _ORDER.index(one.state))
    dialled = {one.name for one in rows if one.name}
    came = [
        peer for peer in state.peers.values() if peer.linked and not peer.is_me and peer.name not in dialled
    ]
    found = [_address(one, now, glyphs, width) for one in rows]
    found += [
        _row(glyphs.check, peer.address, "linked", "good", f"{clip(peer.name, 30)}, which dialled us", width)
        for peer in came
    ]
    if len(found) > MOST_ADDRESSES:
        more = len(found) - MOST_ADDRESSES + 1
        found[MOST_ADDRESSES - 1 :] = [[Text(f"and {more} more: `p2pfl status` shows all", style="quiet")]]
    return [line for lines in found for line in lines]


def _address(one: AddressState, now: float, glyphs: Glyphs, width: int) -> list[Text]:
    mark = {
        "linked": glyphs.check,
        "dialling": "." if glyphs.is_ascii else "◌",
        "unreached": glyphs.broken,
        "refused": "%" if glyphs.is_ascii else "⊘",
    }[one.state]
    word, style = _WORDS[one.state]
    who = clip(one.name, 30) or (f"node {clip(one.node[:7], 7)}" if one.node else "")
    notes = [who, _came(one), clip(one.reason, 200)]
    if one.next_try is not None and one.state != "linked":
        left = one.next_try - now
        notes.append(f"next try in {ago(math.ceil(left))}" if left > 0 else "trying again now")
    return _row(mark, one.address, word, style, f" {glyphs.dot} ".join(note for note in notes if note), width)


def _came(one: AddressState) -> str:
    return {"listed": "", "found": "found in this network", "known": "known from before"}[one.kind]


def _row(mark: str, address: str, word: str, style: str, note: str, width: int) -> list[Text]:
    line = Text(f"{mark} ", style="").append(f"{fit(clip(address, ADDRESS_CELLS), ADDRESS_CELLS)} ")
    line.stylize(style, 0, 1)
    line.append(f"{word:<{STATE_CELLS}}", style=style)
    if not note:
        return [line]
    line.append("  ")
    room = width - line.cell_len
    first, *others = fit_lines([Text(note)], room, ANY_HEIGHT) if room >= LEAST_NOTE else [Text(note)]
    return [line + first, *(Text(" " * line.cell_len) + other for other in others)]


def _options(state: State) -> list[Text]:
    """Return whose options the run will have."""
    waiting = state.waiting
    if waiting is None or not waiting.options_of:
        return []
    options = clip(waiting.options, 200) or "the default options"
    return [Text(f"The run will have {options}, of {clip(waiting.options_of, 30)}.")]


# --- the data of the devices, side by side ------------------------------------------------------------------


def _data(state: State, glyphs: Glyphs, width: int) -> list[Text]:
    """Return a table of what the devices that are here tell of themselves and of their data."""
    order = sorted(state.peers.values(), key=lambda peer: (not peer.is_me, peer.name))
    here = [peer for peer in order if peer.is_connected and peer.device_info is not None]
    shown = here[: max(1, (width - HEADING_CELLS) // DEVICE_CELLS)]
    if not shown:
        return []
    is_mismatch = _has_misfit(state)
    heads = Text(fit("", HEADING_CELLS))
    for peer in shown:
        heads.append(fit(clip(peer.name, DEVICE_CELLS - 1), DEVICE_CELLS), style="bold")
    if len(here) > len(shown):
        heads.append(f"+{len(here) - len(shown)}", style="quiet")
    lines = [heads]
    for heading, values, is_alike in _data_rows(shown):
        usual = Counter(values).most_common(1)[0][0]
        line = Text(fit(heading, HEADING_CELLS), style="")
        line.stylize("quiet")
        for value in values:
            is_odd = is_mismatch and is_alike and value != usual and value != NONE
            line.append(
                fit(f"{value}{' ' + glyphs.broken if is_odd else ''}", DEVICE_CELLS),
                style="bad" if is_odd else "",
            )
        lines.append(line)
    return lines


def _has_misfit(state: State) -> bool:
    """Whether the run cannot begin because data do not fit, and not since the options differ."""
    waiting = state.waiting
    return waiting is not None and waiting.is_mismatch and UNDECIDED not in waiting.reason


def _data_rows(peers: Sequence[Peer]) -> list[tuple[str, list[str], bool]]:
    """Return name and values of each row, and whether the devices must have the same."""
    infos = [peer.device_info for peer in peers if peer.device_info is not None]
    rows = [("trains on", [clip(info.device, DEVICE_CELLS - 1) or "starting" for info in infos], False)]
    parts = [info.part for info in infos]
    if any(part is not None for part in parts):
        is_table = any(part is not None and part.columns for part in parts)
        rows.append(("rows" if is_table else "examples", [_examples(info) for info in infos], False))
        if is_table:
            names = [{one.name for one in part.columns} if part is not None else None for part in parts]
            rows.append(("columns", _counted(names), True))
        if any(part is not None and part.labels for part in parts):
            classes = [set(part.classes) if part is not None else None for part in parts]
            rows.append(("classes", _counted(classes), True))
        if any(part is not None and part.input_shape for part in parts):
            shapes = ["x".join(map(str, part.input_shape)) if part is not None else NONE for part in parts]
            rows.append(("inputs", [shape or NONE for shape in shapes], True))
    return rows


def _examples(info: PeerDeviceInfo) -> str:
    if info.part is None:
        return NONE
    return samples(info.examples) if info.examples else "not told"


def _counted(sets: Sequence[set[str] | None]) -> list[str]:
    """Return the size of each set; of one that differs from the most frequent one what it has and lacks."""
    known = [frozenset(one) for one in sets if one is not None]
    usual = Counter(known).most_common(1)[0][0] if known else frozenset()
    texts = []
    for one in sets:
        if one is None:
            texts.append(NONE)
            continue
        missing, more = sorted(usual - one), sorted(one - usual)
        if len(missing) == 1 and not more:
            texts.append(clip(f"{len(one)}, no {missing[0]}", DEVICE_CELLS - 3))
        elif len(more) == 1 and not missing:
            texts.append(clip(f"{len(one)}, +{more[0]}", DEVICE_CELLS - 3))
        else:
            texts.append(str(len(one)) if not (missing or more) else f"{len(one)} other")
    return texts


# --- how to join --------------------------------------------------------------------------------------------


def _join(own: str) -> list[Text]:
    """Return how other devices join this one."""
    return [
        Text("A new device: `p2pfl invite` where the CA is, `p2pfl join` on the new one."),
        Text("A device with a certificate (y copies the line):"),
        Text(f"  {join_command(own)}", style="bold"),
    ]


# --- places -------------------------------------------------------------------------------------------------


def _stacked(blocks: Sequence[Sequence[Text]]) -> list[Text]:
    """Return the lines of *blocks* with an empty one between each two of them."""
    lines: list[Text] = []
    for block in blocks:
        if block:
            lines += [Text(""), *block] if lines else block
    return lines


def _beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    """Return *left* and *right* side by side, each wrapped in its half."""
    room = (width - BETWEEN) // 2
    rows = [fit_lines(lines, room, ANY_HEIGHT) for lines in (left, right)]
    made = []
    for number in range(max(map(len, rows))):
        line = rows[0][number].copy() if number < len(rows[0]) else Text("")
        if number < len(rows[1]):
            line.append(" " * (room + BETWEEN - line.cell_len)).append_text(rows[1][number])
        made.append(line)
    return made
