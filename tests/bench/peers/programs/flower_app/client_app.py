"""The ClientApp for Flower's deployment engine; a SuperNode starts it for every message."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from .marks import mark
from .weights import perturb

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the perturbed parent; mark begin and end."""
    settings = json.loads(Path(str(context.run_config["settings"])).read_text(encoding="utf-8"))
    parent = message.content["arrays"].to_numpy_ndarrays()
    mark(settings["marks"], "begin")
    update = perturb(parent, context.node_id)
    mark(settings["marks"], "end")
    content = RecordDict(
        {"arrays": ArrayRecord(update), "metrics": MetricRecord({"num-examples": settings["samples"]})}
    )
    return Message(content=content, reply_to=message)
