"""Shows the terminal UI in a browser, by textual-serve, to those who have the link.

textual-serve itself lets everybody in: here a random token in the link is required. The first page puts it
into a cookie, which the page's files and its WebSocket bring along. Each browser window runs a terminal UI of
its own, with the rights of the certificate it was started with; it writes no files on this device.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from p2pfl.errors import UserError
from p2pfl.programs import PYTHON

if TYPE_CHECKING:
    from aiohttp import web

LOOPBACK = "127.0.0.1"
"""Where it is served, unless a host is given."""

MAX_WINDOWS = 8
"""Browser windows at a time: each is a process on this device."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data:; "
    "connect-src 'self' ws://{host}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Nothing is loaded from elsewhere, and nobody is told the link."""

_FOCUS = """<script>
  new MutationObserver((_, classes) => {
    if (!document.body.classList.contains("-loaded")) return;
    classes.disconnect();
    document.querySelector("#terminal textarea").focus();
  }).observe(document.body, {attributeFilter: ["class"]});
</script>"""
"""Gives the keyboard to the terminal once it is connected; textual-serve waits for a click."""


class Place(NamedTuple):
    """Where the terminal UI is served."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this device reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def text(self) -> str:
        """The place, as links write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place_of(text: str) -> Place:
    """Return the place of *text*: PORT, HOST:PORT or [IPv6]:PORT.

    Raises:
        UserError: it is none.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_clear = not colon or (bool(bare) and (":" not in bare or host == f"[{bare}]"))
    if is_clear and port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535:
        return Place(bare or LOOPBACK, int(port))
    raise UserError(f"--serve is a port or HOST:PORT such as 8000 or 127.0.0.1:8000, not {text!r}")


def serve(place: Place, words: Sequence[str], say: Callable[[str], None]) -> None:
    """Serve `python -m tui` with *words* at *place* until it is interrupted; *say* gets the link.

    Raises:
        UserError: textual-serve is missing, or the place cannot be used.
    """
    try:
        import textual_serve.server  # noqa: F401 - its absence is said here
    except ImportError as error:
        raise UserError("--serve needs textual-serve: pip install 'p2pfl-lan[serve]'") from error
    token = secrets.token_urlsafe(24)
    link = f"http://{place.text}/?token={token}"
    if not place.is_loopback:
        say(
            f"warning: {place.text} is reached from other devices, and whoever sees the traffic can read the "
            "link, which is all that is asked for; better serve on loopback and forward the port: "
            f"ssh -L {place.port}:127.0.0.1:{place.port} DEVICE"
        )
    try:
        guarded(place, words, token, lambda: say(f"open {link}\nCtrl-C ends it; the node goes on")).serve()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"the terminal UI cannot be served at {place.text}: {reason}") from error


def guarded(place: Place, words: Sequence[str], token: str, on_start: Callable[[], None]) -> Any:
    """Return the server of textual-serve with the *token* in front; *on_start* is called when it listens."""
    from aiohttp import web
    from textual_serve.server import Server

    # Without `exec` a shell stays between the server and the terminal UI, which would not see the server die.
    lead = "" if sys.platform == "win32" else "exec "
    command = lead + shlex.join([*PYTHON, "tui", *words, "--no-files"])
    check = _check(place, token)

    class Guarded(Server):
        """Asks for the token, and tells nobody but the user the link."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.windows: set[asyncio.Task[Any]] = set()
            """Handlers of the open windows."""

        def initialize_logging(self) -> None:
            """Leave the logging as it is: textual-serve would log each request, with its token."""

        async def on_startup(self, app: web.Application) -> None:
            """Say nothing yet: it does not listen here."""

        async def on_shutdown(self, app: web.Application) -> None:
            """End the windows: otherwise aiohttp waits a minute for them to be closed."""
            del app
            for window in self.windows:
                window.cancel()

        def serve(self, debug: bool = False) -> None:
            """Serve until SIGINT or SIGTERM."""
            del debug
            made, host, port = self._make_app(), self.host, self.port
            # It prints once it listens. The log of requests would have the token.
            web.run_app(made, host=host, port=port, access_log=None, print=lambda *_: on_start())

        async def _make_app(self) -> web.Application:
            app: web.Application = await super()._make_app()
            app.middlewares.append(check)
            return app

        async def handle_index(self, request: web.Request) -> Any:
            """Send the page, with links to the host under which the browser knows this one."""
            self.public_url = f"http://{request.host}"
            page: Any = await super().handle_index(request)
            page.text = page.text.replace("</body>", f"{_FOCUS}</body>")
            return page

        async def handle_websocket(self, request: web.Request) -> Any:
            """Run a terminal UI for a window, up to some at a time."""
            if len(self.windows) >= MAX_WINDOWS:
                raise web.HTTPServiceUnavailable(text=f"{MAX_WINDOWS} windows are open: close one of them.")
            window = asyncio.current_task()
            assert window is not None
            self.windows.add(window)
            try:
                return await super().handle_websocket(request)
            finally:
                self.windows.discard(window)

    return Guarded(
        command, host=place.host, port=place.port, title="p2pfl", public_url=f"http://{place.text}"
    )


def _check(place: Place, token: str) -> Any:
    """Return the middleware that lets only requests with the *token* pass."""
    from aiohttp import web

    cookie = f"p2pfl-{place.port}"  # cookies do not tell ports of a host apart

    def is_known(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), token.encode())

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        in_link = request.path == "/" and is_known(request.query.get("token"))
        if not in_link and not is_known(request.cookies.get(cookie)):
            raise web.HTTPForbidden(text="Open the link that p2pfl tui --serve printed: it has the token.\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            raise web.HTTPForbidden(text="Another site's page asks for this one.\n")
        response = await handler(request)
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers[name] = value.replace("{host}", request.host)
            if in_link:
                response.set_cookie(cookie, token, httponly=True, samesite="Strict", path="/")
        return response

    return check
