"""A page in headless Chromium, driven over its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/.

The WebSocket client is that of aiohttp, which textual-serve brings along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

BROWSER = next(
    filter(
        None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))
    ),
    None,
)
"""The first Chromium that is installed."""

needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: see tests/README.md")

PATIENCE_SECONDS = 60.0
"""Time limit for what a page will show; only a failing test reaches it."""

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1000,700",
)  # fmt: skip
"""No window, nothing asked of other hosts; root cannot start it with its sandbox."""

KEEP_TERMINAL = """
Object.defineProperty(Object.prototype, "terminal", {configurable: true, set(made) {
    Object.defineProperty(this, "terminal", {value: made, writable: true});
    globalThis.keptTerminal = made;
}});
"""
"""Runs before the page: keeps the terminal of xterm.js, which draws on a canvas and has no text in the page."""

READ = """(() => {
    if (!globalThis.keptTerminal) return document.body ? document.body.innerText : "";
    const line = (_, row) => keptTerminal.buffer.active.getLine(row).translateToString();
    return Array.from({length: keptTerminal.rows}, line).join("\\n");
})()"""


class Page:
    """One page, and what it shows."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self.faults: list[str] = []
        """Exceptions that scripts of the page did not catch."""

    async def call(self, method: str, **parameters: Any) -> Any:
        """Run *method* of the protocol and return its result."""
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != self._calls:
            if answer.get("method") == "Runtime.exceptionThrown":
                self.faults.append(str(answer["params"]["exceptionDetails"]))
        assert "error" not in answer, answer
        return answer["result"]

    async def open(self, url: str) -> None:
        """Go to *url*."""
        await self.call("Page.navigate", url=url)

    async def press(self, key: str) -> None:
        """Press and release a *key* that is a character."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def text(self) -> str:
        """Return what its terminal shows, or what the page says if it has none."""
        shown = await self.call("Runtime.evaluate", expression=READ)
        return str(shown["result"]["value"])

    async def until(self, word: str) -> str:
        """Poll until *word* is shown, and return all that is."""
        shown = ""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while word not in (shown := await self.text()):  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.02)
                return shown
        except TimeoutError:
            raise AssertionError(f"the page did not show {word!r}:\n{shown}\n{self.faults}") from None


@contextlib.asynccontextmanager
async def page_in_browser(folder: Path) -> AsyncIterator[Page]:
    """Start a browser that keeps its files in *folder*; yield its page, which is empty."""
    from aiohttp import ClientSession

    assert BROWSER is not None
    said = folder / "browser.err"
    with said.open("wb") as errors:
        browser = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [
                BROWSER,
                *QUIET,
                f"--user-data-dir={folder / 'profile'}",
                "--remote-debugging-port=0",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := re.search(r"DevTools listening on ws://([\w.:]+)/", said.read_text())):
                assert browser.poll() is None, said.read_text()
                await asyncio.sleep(0.02)
        async with ClientSession() as client:
            async with client.get(f"http://{found[1]}/json/list") as answer:
                pages = [target for target in await answer.json() if target["type"] == "page"]
            async with client.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.call("Page.enable")
                await page.call("Runtime.enable")
                await page.call("Page.addScriptToEvaluateOnNewDocument", source=KEEP_TERMINAL)
                yield page
    finally:
        os.killpg(browser.pid, signal.SIGKILL)  # Debian's command is a script that starts it
        browser.wait()
