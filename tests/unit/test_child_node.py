"""A node beside this program: started once for a folder, found again, ended with it."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from p2pfl.child_node import REFUSED, ChildNode, node
from p2pfl.cli.node import node as node_command
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.learning.scripts.node_link import NodeLink
from p2pfl.runtime.configure import NodeOptions

pytestmark = pytest.mark.processes


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    create_authority(tmp_path / "certs")
    return issue(tmp_path / "certs", "ada")


@pytest.fixture
def started(certs: Path, tmp_path: Path) -> Iterator[ChildNode]:
    with start(certs, tmp_path / "ada") as opened:
        yield opened


def start(certs: Path, folder: Path, **changes: object) -> ChildNode:
    settings: dict[str, object] = {"listen": "127.0.0.1:0", "min_nodes": 2, "task": "mine", **changes}
    return node(certs=certs, data_dir=folder, **settings)  # type: ignore[arg-type]


def test_a_node_is_found_again_and_a_loop_can_connect(
    started: ChildNode, certs: Path, tmp_path: Path
) -> None:
    assert started.trainer() is not None
    assert started.address.startswith("127.0.0.1:")
    assert started.data_dir == tmp_path / "ada"
    assert start(certs, tmp_path / "ada") is started
    with pytest.raises(UserError, match=r"A node with other options runs on .*ada: close it first"):
        start(certs, tmp_path / "ada", task="other")
    endpoint = started.trainer()
    assert endpoint is not None
    link = NodeLink(endpoint)
    assert link.task == "mine"
    link.close()
    interrupts = signal.getsignal(signal.SIGINT)
    started.close()
    assert not psutil.pid_exists(started._process.pid)
    assert signal.getsignal(signal.SIGINT) is interrupts
    assert "has ended" in repr(started)
    with pytest.raises(UserError, match="The node has ended"):
        started.trainer()
    again = start(certs, tmp_path / "ada", task="other")
    assert again is not started
    again.close()


def test_a_node_ends_when_its_program_is_gone(started: ChildNode) -> None:
    process = psutil.Process(started._process.pid)
    workers = process.children(recursive=True)
    started._input.close()
    _, alive = psutil.wait_procs([process, *workers], 60)
    assert not alive


def test_a_node_that_cannot_start_says_why(certs: Path, tmp_path: Path) -> None:
    with pytest.raises(CredentialsError):
        start(tmp_path / "none", tmp_path / "ada")
    with pytest.raises(UserError, match=r"The node has ended: --rounds is out of range"):
        start(certs, tmp_path / "ada", rounds=0)


def test_every_option_of_the_command_is_a_typed_keyword(certs: Path, tmp_path: Path) -> None:
    track = [f"csv:{tmp_path}/a.csv", f"csv:{tmp_path}/b.csv"]
    with start(certs, tmp_path / "ada", threads=1, stay=True, wait=False, track=track) as made:
        assert {"--threads=1", "--stay", *(f"--track={one}" for one in track)} <= set(made.words)
        assert not [word for word in made.words if word.startswith("--wait")]
    assert NodeOptions.__annotations__.keys() <= inspect.signature(node_command).parameters.keys()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colour": "red"}, r"A node has no option 'colour'; `p2pfl node --help` lists all of them\."),
        ({"threads": "many"}, r"The option threads is 'many': expected `int`, got `str`\."),
        ({"script": "train.py"}, r"p2pfl\.node takes no script: this program itself trains, with .*\."),
        ({"arguments": ["a"]}, r"p2pfl\.node takes no arguments: only a script .* has arguments\."),
    ],
)
def test_an_option_that_has_no_meaning_is_refused_in_one_sentence(
    certs: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        start(certs, tmp_path / "ada", **changes)
    assert not (tmp_path / "ada").exists()
    assert REFUSED.keys() <= NodeOptions.__annotations__.keys()
