"""What is asked before something is done that cannot be undone, and what it says of the consequence."""

from __future__ import annotations

from typing import NamedTuple

from p2pfl.observe.state import State
from tui import views


class Question(NamedTuple):
    """A question with its choices: what a button says, and what it stands for."""

    title: str
    text: str
    choices: tuple[tuple[str, str], ...]


def stopping(state: State) -> Question:
    """Ask how the run is to be stopped."""
    _, members = views.reachable(state)
    return Question(
        "Stop the run?",
        f"After this round: the open round is finished, then the run ends on all {members} members, with "
        f"{state.trained + 1} rounds of {state.target_rounds}. Now: the open round closes with the updates "
        "there are. A higher --rounds goes on later.",
        (("After this round", "stop"), ("Now", "stop-now")),
    )


def stopping_now(state: State) -> Question:
    """Ask whether the run is to be stopped at once."""
    _, members = views.reachable(state)
    return Question(
        "Stop the run now?",
        "Members hand in no update they have not trained yet: the open round closes with the updates there "
        f"are, and the run ends on all {members} members.",
        (("Stop now", "stop-now"),),
    )


def leaving(state: State) -> Question:
    """Ask whether the observed node is to leave."""
    here, members = views.reachable(state)
    name = views.plain(state.name)
    rest = max(0, members - 1)
    return Question(
        f"Let {name} leave?",
        f"{name} votes and serves until a commit drops it, then it ends. {rest} members remain; "
        f"{max(0, here - 1)} of them are here, {rest // 2 + 1} are needed.",
        (("Leave", "leave"),),
    )


def killing(state: State, name: str) -> Question:
    """Ask whether a node of the demo is to be killed."""
    here, members = views.reachable(state)
    needed = members // 2 + 1
    goes_on = "the round goes on" if here - 1 >= needed else "the run pauses until one is back"
    attached = " It is the node this screen is attached to." if name == state.name else ""
    return Question(
        f"Kill {views.plain(name)}?",
        f"Its process ends at once, as if its plug were pulled: {goes_on} with {max(0, here - 1)} of "
        f"{members}, quorum {needed}.{attached}",
        (("Kill", name),),
    )
