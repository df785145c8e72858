"""The terminal UI in a browser: who is let in, and what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime.observing.publish import as_json
from tests.support import recordings
from tests.support.browser import needs_browser, page_in_browser
from tests.support.screens import shown, text_of
from tests.support.source import ROOT
from tui import serve as module
from tui.__main__ import main
from tui.serve import Place, place_of


@pytest.mark.parametrize(
    ("text", "place", "is_loopback"),
    [
        ("8000", Place("127.0.0.1", 8000), True),
        ("localhost:1", Place("localhost", 1), True),
        ("0.0.0.0:65535", Place("0.0.0.0", 65535), False),
        ("[::1]:80", Place("::1", 80), True),
        ("pi.local:8000", Place("pi.local", 8000), False),
    ],
)
def test_a_place_is_a_port_on_loopback_or_what_is_named(text: str, place: Place, is_loopback: bool) -> None:
    assert place_of(text) == place
    assert place.is_loopback is is_loopback
    assert place_of(place.text) == place


@pytest.mark.parametrize(
    "text", ["", "x", "0", "65536", ":80", "::1:80", "a:b", "1.5", "-1", "[]:80", "9" * 5000]
)
def test_what_is_no_place_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError, match="--serve is a port or HOST:PORT"):
        place_of(text)


def test_without_textual_serve_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    assert main(["--serve", "8000", "--replay", "x"]) == ExitCode.UNFIT
    assert "pip install 'p2pfl-lan[serve]'" in capsys.readouterr().err


def test_beyond_loopback_one_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textual_serve")

    class Nothing:
        def serve(self) -> None:
            raise OSError(98, "Address already in use")

    monkeypatch.setattr(module, "guarded", lambda *_: Nothing())
    said: list[str] = []
    with pytest.raises(UserError, match=r"cannot be served at 0\.0\.0\.0:8000: Address already in use"):
        module.serve(Place("0.0.0.0", 8000), [], said.append)
    assert ["warning: 0.0.0.0:8000 is reached from other devices" in line for line in said] == [True]
    with pytest.raises(UserError):
        module.serve(Place("127.0.0.1", 8000), [], said.append)
    assert len(said) == 1


async def test_from_a_browser_no_file_is_written() -> None:
    async with shown(recordings.running(), (120, 40)) as (app, pilot, _):
        app.session.writes_files = False
        await pilot.press("e")
        await pilot.pause()
        assert "Export the rounds" not in text_of(app)
        assert "Export rounds" not in [command.title for command in app.get_system_commands(app.screen)]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a recording, and yield the link; in the end interrupt the server, which must end soon."""
    path = folder / "events.jsonl"
    path.write_bytes(b"".join(as_json(one) + b"\n" for one in recordings.running(rounds=5)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    extra = os.environ.get("PYTHONPATH", "")
    server = subprocess.Popen(
        [sys.executable, "-m", "tui", f"--serve={port}", f"--replay={path}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), extra])},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    try:
        told = server.stderr.readline()
        found = re.fullmatch(rf"open (http://127\.0\.0\.1:{port}/\?token=[\w-]{{32}})\n", told)
        assert found, told
        yield found[1]
    finally:
        server.send_signal(signal.SIGINT)
        try:
            rest = server.communicate(timeout=30)[1]
        finally:
            server.kill()
    assert server.returncode == 0, rest
    assert "token" not in rest, "the log does not tell the link"


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("textual_serve")
    with served(tmp_path_factory.mktemp("serve")) as found:
        yield found


def get(url: str, **headers: str) -> tuple[int, dict[str, str], str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, dict(answer.headers), answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


@pytest.mark.xdist_group("serve")
def test_only_the_link_with_the_token_gets_the_page(link: str) -> None:
    base, _, token = link.partition("?token=")
    for url in (
        base,
        f"{base}?token=",
        f"{base}?token={token[:-1]}",
        f"{base}ws?token={token}",
        f"{base}static/js/textual.js",
    ):
        code, headers, text = get(url)
        assert (code, "Set-Cookie" in headers) == (403, False)
        assert "Open the link that p2pfl tui --serve printed" in text
    code, headers, text = get(link)
    assert code == 200
    assert "textual-terminal" in text
    assert f'data-session-websocket-url="ws:{base.removeprefix("http:")}ws"' in text
    assert token not in text
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "connect-src 'self' ws://127.0.0.1" in headers["Content-Security-Policy"]
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    sent = cookie.partition(";")[0]
    assert get(f"{base}static/js/textual.js", Cookie=sent)[0] == 200
    assert get(base, Cookie=sent)[0] == 200
    assert get(base, Cookie=sent, Origin="http://127.0.0.1:1")[0] == 403
    assert get(base, Cookie=sent.replace("=", "=x"))[0] == 403


@pytest.mark.xdist_group("serve")
async def test_the_socket_of_the_page_runs_a_terminal_ui(link: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    base, _, token = link.partition("?token=")
    port = base.rstrip("/").rpartition(":")[2]
    async with aiohttp.ClientSession() as client:
        url = f"{base}ws?width=100&height=30"
        async with client.get(url) as refused:
            assert refused.status == 403
        cookie = {"Cookie": f"p2pfl-{port}={token}"}
        async with client.get(url, headers={**cookie, "Origin": "http://evil.example"}) as refused:
            assert refused.status == 403
        async with client.ws_connect(url, headers=cookie) as browser, asyncio.timeout(30):
            drawn = ""
            while "lab-desktop" not in drawn:
                message = await browser.receive()
                assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
                drawn += message.data.decode(errors="replace") if isinstance(message.data, bytes) else ""
            assert "export" not in drawn
            await browser.send_str(json.dumps(["stdin", "q"]))
            while not browser.closed:
                await browser.receive()


@needs_browser
@pytest.mark.processes
async def test_a_browser_shows_the_screen_and_takes_keys_without_a_click(tmp_path: Path) -> None:
    pytest.importorskip("textual_serve")
    async with page_in_browser(tmp_path) as page:
        with served(tmp_path) as link:  # it ends though a window is open
            await page.open(link.partition("?")[0])
            refused = await page.until("Open the link that p2pfl tui --serve printed")
            assert "lab-desktop" not in refused
            await page.open(link)
            assert "TREND" not in await page.until("lab-desktop")
            await page.press("2")
            await page.until("TREND")  # a column that only the screen of peers has
        assert page.faults == []
