"""Each command to a node is carried out, or refused with the reason, and told to everybody who watches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.runtime.observing.command_executor import CommandExecutor
from p2pfl.schema import file_bytes, header
from p2pfl.store.blobs import BlobStore
from p2pfl.wire.observing import CommandName, CommandResult
from tests.support.core import chain_of
from tests.support.records import LAYOUT, SCHEMA

MODEL = header(SCHEMA) + bytes(file_bytes(SCHEMA) - len(header(SCHEMA)))
DIGEST = blake3(MODEL).hexdigest()
WHO = "eve (operator)"


class Stage:
    """A node as far as commands see it, which has committed round 3 of a run."""

    def __init__(self, path: Path) -> None:
        self.objections: dict[str, str] = {}
        self.fed: list[inputs.AnyInput] = []
        self.told: list[events.AnyEvent] = []
        self.leaves = 0
        self.store = BlobStore(path / "blobs")
        self.data_dir = path
        chain = chain_of("ada", rounds=3)
        self.ledger = SimpleNamespace(
            trained=3,
            model=DIGEST,
            holds=True,
            last=chain.commits[-1],
            genesis=msgspec.structs.replace(chain.genesis, layout=LAYOUT),
        )
        node: Any = SimpleNamespace(
            ledger=self.ledger, waits_because="", objection=lambda what: self.objections.get(what, "")
        )
        driver: Any = SimpleNamespace(feed=self.fed.append, publish=self.told.append)
        self.node = node
        self.executor = CommandExecutor(node, driver, self.store, path / "saved", self.leave)

    def leave(self) -> bool:
        self.leaves += 1
        return self.leaves == 1

    def put(self, data: bytes = MODEL) -> None:
        """Have the committed model in the store, or what became of it."""
        path = self.store.new_path()
        path.write_bytes(data)
        self.store.adopt(path, DIGEST)

    @property
    def saved(self) -> list[Path]:
        return sorted((self.data_dir / "saved").glob("*"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("what", "control_request"),
    [("pause", "pause"), ("resume", "resume"), ("stop", "end"), ("stop-now", "end-now")],
)
async def test_a_control_request_is_handed_to_the_protocol_with_its_author(
    stage: Stage, what: CommandName, control_request: str
) -> None:
    answer = await stage.executor.execute(what, WHO)
    assert answer.refused == ""
    assert answer.text
    assert stage.fed == [inputs.OperatorRequest(control_request, WHO)]  # type: ignore[arg-type]
    assert stage.told == [events.Commanded(WHO, what, "")]


@pytest.mark.parametrize(
    ("what", "control_request"),
    [("pause", "pause"), ("resume", "resume"), ("stop", "end"), ("stop-now", "end-now")],
)
async def test_a_control_request_that_would_change_nothing_is_refused_with_the_reason(
    stage: Stage, what: CommandName, control_request: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stage.objections[control_request] = "the run is over"
    assert await stage.executor.execute(what, WHO) == CommandResult(0, "the run is over", "")
    assert stage.fed == []
    assert stage.told == [events.Commanded(WHO, what, "the run is over")]
    assert f"{WHO} commands {what}: refused: the run is over" in caplog.text


async def test_a_start_is_given_at_any_waiting_node_which_says_what_is_missing(stage: Stage) -> None:
    done = "the start is given, and the options of this device hold"
    assert await stage.executor.execute("start", WHO) == CommandResult(0, "", done)
    stage.node.waits_because = "1 of 3 nodes are here"
    missing = f"{done}; still waiting: 1 of 3 nodes are here"
    assert await stage.executor.execute("start", WHO) == CommandResult(0, "", missing)
    assert stage.fed == [inputs.Go()] * 2


async def test_a_start_is_refused_in_a_run(stage: Stage) -> None:
    stage.node.waits_because = None
    assert "in a run already" in (await stage.executor.execute("start", WHO)).refused
    assert stage.fed == []


async def test_leaving_is_begun(stage: Stage) -> None:
    assert await stage.executor.execute("leave", "the local user") == CommandResult(0, "", "this node leaves")
    assert stage.leaves == 1


async def test_a_second_command_to_leave_is_refused_and_stops_nothing(stage: Stage) -> None:
    await stage.executor.execute("leave", "the local user")
    answer = await stage.executor.execute("leave", "the local user")
    assert "is leaving already" in answer.refused
    assert stage.fed == []


async def test_the_last_committed_model_is_saved_byte_for_byte_and_can_be_saved_again(stage: Stage) -> None:
    stage.put()
    path = stage.data_dir / "saved" / f"round-3-{DIGEST[:7]}.safetensors"
    for _ in range(2):
        assert await stage.executor.execute("save", WHO) == CommandResult(0, "", f"saved as {path}")
        assert stage.saved == [path]
        assert path.read_bytes() == MODEL
    assert not stage.store.is_pinned(DIGEST)


async def test_before_the_first_commit_there_is_nothing_to_save(stage: Stage) -> None:
    stage.ledger.last = None
    assert (await stage.executor.execute("save", WHO)).refused == "no round is committed yet"
    stage.node.ledger = None
    assert (await stage.executor.execute("save", WHO)).refused == "no round is committed yet"
    assert stage.saved == []


async def test_a_model_that_is_still_on_its_way_cannot_be_saved(stage: Stage) -> None:
    stage.ledger.holds = False
    assert "is not here yet" in (await stage.executor.execute("save", WHO)).refused


async def test_a_damaged_model_is_not_saved_and_the_node_goes_on(stage: Stage) -> None:
    stage.put(MODEL[:-1])
    answer = await stage.executor.execute("save", WHO)
    assert "is damaged" in answer.refused
    assert answer.text == ""
    assert stage.saved == []
    assert not stage.store.is_pinned(DIGEST)


async def test_a_disk_that_refuses_is_an_answer_too(stage: Stage) -> None:
    stage.put()
    (stage.data_dir / "saved").write_text("a file is in the way")
    assert (await stage.executor.execute("save", WHO)).refused
    assert isinstance(stage.told[-1], events.Commanded)


async def test_a_model_being_saved_is_not_collected(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.put()
    held: list[bool] = []
    copy = CommandExecutor._copy

    def watched(*arguments: Any) -> None:
        held.append(stage.store.is_pinned(DIGEST))
        copy(*arguments)

    monkeypatch.setattr(CommandExecutor, "_copy", watched)
    await stage.executor.execute("save", WHO)
    assert held == [True]
