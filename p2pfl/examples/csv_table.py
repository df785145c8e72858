"""A private table, trained on from Python: the node runs inside this program.

On each device: `python csv_table.py people.csv income --certs certs/ada --peers ben.local:9000`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

import p2pfl


async def train(words: Sequence[str] | None = None) -> p2pfl.RoundHistory:
    """Train with the other devices; return the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="a .csv or .parquet file")
    parser.add_argument("target", help="the column to predict")
    parser.add_argument("--certs", default="certs", help="the folder that p2pfl.Certificates.issue made")
    parser.add_argument("--peers", default="", help="addresses of other devices")
    parser.add_argument("--listen", default="9000")
    parser.add_argument("--data-dir", default="run")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args(words)

    node = p2pfl.Node(
        certs=given.certs,
        peers=given.peers,
        listen=given.listen,
        data_dir=given.data_dir,
        data=given.table,
        target=given.target,
        rounds=given.rounds,
    )
    async with node:
        async for event in node.events():
            if isinstance(event, p2pfl.events.EvaluationFinished) and event.committed:
                print(f"record {event.round}:", {name: round(x, 4) for name, x in event.metrics.items()})
        code = await node.wait()
    print(f"The node has ended: {code.meaning}.")
    return node.history()


if __name__ == "__main__":
    rounds = asyncio.run(train())
    print(f"{len(rounds)} rounds; the last one: {rounds[-1].metrics}")
