"""Watches a node from Python: it runs inside this program, and its events drive what the program does.

`python watch.py --certs certs/ada --peers ben.local:9000` trains the built-in task `digits`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

import p2pfl
from p2pfl import events


def sentence(event: events.AnyEvent) -> str:
    """Return a line about *event*; empty for one that does not matter here."""
    match event:
        case events.PeerLinked():
            return f"connected with {event.name}"
        case events.TrainingFinished():
            return f"trained on {event.examples} examples in {event.seconds:.1f} s"
        case events.Committed(kind="train"):
            return f"round {event.trained} of {event.rounds}: {', '.join(event.contributors)}"
        case events.EvaluationFinished(committed=True):
            scores = {score.name: score.mean(event.primary) for score in event.scores}
            return f"{event.primary} {event.primary_value}, of each node {scores}"
        case events.RunEnded():
            return f"the run is over, its model is {event.model[:7]}"
        case _:
            return ""


async def watch(words: Sequence[str] | None = None) -> p2pfl.ExitCode:
    """Run a node and print what happens; return why it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certs", default="certs")
    parser.add_argument("--peers", default="")
    parser.add_argument("--listen", default="9000")
    parser.add_argument("--data-dir", default="run")
    parser.add_argument("--rounds", type=int, default=10)
    async with p2pfl.Node(**vars(parser.parse_args(words))) as node:
        print(f"{node.name} listens on {', '.join(node.addresses)}")
        async for event in node.events():
            if text := sentence(event):
                print(text)
        return await node.wait()


if __name__ == "__main__":
    print(asyncio.run(watch()).meaning)
