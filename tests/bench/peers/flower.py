"""Bench of Flower's deployment engine: a SuperLink, four SuperNodes, an app submitted with `flwr run`.

Set up as in its documentation for TLS (members verify the server's certificate), with these choices:

- the SuperLink's state is in memory, as by default;
- `fraction_evaluate=0`: no evaluation by members; the server's `evaluate_fn` only marks the time;
- every round waits for all four nodes, and all of them train;
- dependencies of the app are not installed at run time, there is no telemetry and no check for updates.

Its rounds are long by design: the server polls for answers every 3 s, and each message starts a process at
the member. (Polling for work ten times as often, `FLWR_SUPEREXEC_TASK_POLL_INTERVAL=0.1`, made no
difference.) The traffic between a SuperNode and its app's process, and between SuperLink and ServerApp, is on
loopback too and counted; with several devices it would stay within one device.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.bench.peers.certificates import HOST
from tests.bench.peers.figures import NODES, Outcome
from tests.bench.peers.measuring import Peer, run_peer
from tests.bench.peers.world import World, free_port, is_listening
from tests.bench.synthetic import shapes

PROGRAMS = Path(__file__).with_name("programs")

SUBMIT_SECONDS = 60.0

SAMPLES = 40
"""Number of examples that each member states: the same for all, as in our bench."""

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "synthetic"
version = "1.0.0"
description = "Moves models and learns nothing"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "synthetic.server_app:app"
clientapp = "synthetic.client_app:app"

[tool.flwr.app.config]
settings = {settings}
"""

CONNECTION = """[superlink]
default = "bench"

[superlink.bench]
address = "{address}"
root-certificates = {ca}
"""


def run(world: World, model: str, rounds: int) -> Outcome:
    """Start a SuperLink and its nodes, submit the app, and wait until it has done *rounds*."""
    port = free_port()
    address = f"{HOST}:{port}"
    app = _write_app(world, model, rounds, address)
    tools = world.python.parent
    home = {"FLWR_HOME": str(world.folder / "flwr")}
    world.start("superlink", [tools / "flower-superlink", *_server_options(world, port)], home)
    world.until(lambda: is_listening(port), "a listening SuperLink")
    members = tuple(f"supernode-{number}" for number in range(NODES))
    for member in members:
        world.start(member, [tools / "flower-supernode", *_node_options(world, address)], home)
    subprocess.run(
        [tools / "flwr", "run", app, "bench"],
        env=world.environment() | home,
        cwd=world.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=SUBMIT_SECONDS,
    )
    world.until(lambda: world.count("round") > rounds, "the end of a round")
    marks, samples = world.seen()
    base = next(mark.at for mark in marks if mark.what == "base")
    return Outcome(
        model=model,
        began=world.began,
        idle_at=base,
        boundaries=tuple(mark.at for mark in marks if mark.what == "round"),
        marks=marks,
        samples=samples,
        members=members,
        aggregators={"superlink": base},
    )


def _server_options(world: World, port: int) -> list[str | Path]:
    return [
        *("--host", HOST, "--port", str(port)),
        *("--ssl-ca-certfile", world.certificates.ca),
        *("--ssl-certfile", world.certificates.certificate),
        *("--ssl-keyfile", world.certificates.key),
        "--disable-runtime-dependency-installation",
    ]


def _node_options(world: World, address: str) -> list[str | Path]:
    return [
        *("--superlink", address, "--root-certificates", world.certificates.ca),
        *("--host", HOST, "--port", str(free_port())),
        *("--ssl-ca-certfile", world.certificates.ca),
        *("--ssl-certfile", world.certificates.certificate),
        *("--ssl-keyfile", world.certificates.key),
    ]


def _write_app(world: World, model: str, rounds: int, address: str) -> Path:
    """Write the app's folder and Flower's configuration; return the folder."""
    settings = world.settings_file(shapes=shapes(model), rounds=rounds, nodes=NODES, samples=SAMPLES)
    app = world.folder / "app"
    package = app / "synthetic"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    sources = [*(PROGRAMS / "flower_app").glob("*.py"), PROGRAMS / "marks.py", PROGRAMS / "weights.py"]
    for source in sources:
        shutil.copy(source, package)
    quoted = json.dumps(str(settings))
    (app / "pyproject.toml").write_text(PROJECT.format(settings=quoted), encoding="utf-8")
    connection = CONNECTION.format(address=address, ca=json.dumps(str(world.certificates.ca)))
    (world.folder / "flwr").mkdir()
    (world.folder / "flwr" / "config.toml").write_text(connection, encoding="utf-8")
    return app


if __name__ == "__main__":
    run_peer(
        Peer(
            "peers.flower", "flower", run, {"0.4m": 2, "11m": 2, "100m": 2}, "flwr 1.42.0, deployment engine"
        )
    )
