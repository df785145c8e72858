"""Links, and the log, line by line."""

from __future__ import annotations

import time

from rich.text import Text

from p2pfl.observe.log import LogRow
from p2pfl.observe.state import State
from tui.symbols import Glyphs, ago, clip, duration, fit, rate, size
from tui.views.summary import NONE


def network_lines(
    state: State, now: float, glyphs: Glyphs, *, count: int = 50, is_narrow: bool = False
) -> list[Text]:
    """Return the links of this node, and what went over them."""
    others = sorted((p for p in state.peers.values() if not p.is_me), key=lambda p: (not p.linked, p.name))
    lines = []
    for peer in others[:count]:
        if peer.linked:
            mark, style = glyphs.link, "good"
            rtt = duration(peer.rtt) if peer.rtt is not None else NONE
            what = f"{rtt:>6} {glyphs.up}{rate(peer.up):>7} {glyphs.down}{rate(peer.down):>7}"
            if not is_narrow:
                what += f"   sent {size(peer.sent):>6}   received {size(peer.received):>6}"
        else:
            mark, style = glyphs.broken, "bad"
            since = f"gone for {ago(now - peer.since)}" if peer.since is not None else "never linked"
            what = f"{since}: {clip(peer.lost_reason, 60)}" if peer.lost_reason else since
        width = 11 if is_narrow else 16
        lines.append(Text(f"{fit(peer.name, width)} ").append(mark, style=style).append(f" {what}"))
    sent, received = sum(p.sent for p in others), sum(p.received for p in others)
    lines += [
        Text(f"sent {size(sent)}   received {size(received)}"),
        Text(f"this node: {state.cpu:.2f} cores busy, {size(state.memory)}"),
    ]
    return lines


def log_line(row: LogRow, width: int, glyphs: Glyphs) -> Text:
    """Return one line of the log."""
    mark = row.mark if not glyphs.is_ascii else glyphs.ascii_of(row.mark)
    line = Text().append(time.strftime("%H:%M:%S ", time.localtime(row.time)), style="quiet")
    line.append(mark, style=row.level)
    line.append(f" {row.text}")
    line.truncate(max(1, width), overflow="ellipsis")
    return line
