"""The web server: the files of the page, and a WebSocket for each open page."""

from __future__ import annotations

import asyncio
import html
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from importlib.resources import files
from socket import socket as Socket  # noqa: N812 -- a WebSocket is `socket` here
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from . import session
from .auth import AccessDenied, Authenticator, Entry
from .console import Console

MAX_PAGES = 16  # each page is a process of about 50 MB
MAX_MESSAGE_BYTES = 1024 * 1024  # the page splits longer pastes
REQUEST_SECONDS = 30.0  # the limit for receiving a request and sending its response
_KINDS = {".html": "text/html", ".mjs": "text/javascript", ".css": "text/css"}

logger = logging.getLogger("stateview.serve")
# Older releases of websockets print a traceback for each request that is not HTTP.
logger.addFilter(lambda record: record.msg != "opening handshake failed")


class ServedProgram(NamedTuple):
    """The program of the pages: its command, its extra environment variables, and the title of the page."""

    command: Sequence[str]
    environment: Mapping[str, str]
    title: str


class PageServer:
    """Serves one listening socket until a signal.

    Args:
        authenticator: authorizes requests.
        program: the program of the pages.
        console: is told of each page.
        entered: called when the token has been used.

    """

    def __init__(
        self, authenticator: Authenticator, program: ServedProgram, console: Console,
        entered: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._authenticator = authenticator
        self._program = program
        self._console = console
        self._entered = entered
        self._files = _files()
        self._open: dict[ServerConnection, asyncio.Task[None]] = {}

    async def run(self, listener: Socket) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP, then end every program within about `session.GRACE_SECONDS`.

        Args:
            listener: the listening socket.

        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        server = await serve_sockets(
            self._show,
            sock=listener,
            process_request=self._answer,
            compression=None,  # useless on the loopback
            server_header=None,
            open_timeout=REQUEST_SECONDS,
            close_timeout=session.GRACE_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
            logger=logger,
        )
        with self._console.running():
            await stop.wait()
            # wait_closed() is not used: it waits for idle connections that browsers open in advance.
            server.close(close_connections=False)
            ends = [loop.create_task(_close(socket)) for socket in self._open]
            if ends:
                await asyncio.wait([*ends, *self._open.values()])

    async def _show(self, socket: ServerConnection) -> None:
        """Run the program of a page until the WebSocket is closed."""
        if len(self._open) >= MAX_PAGES:
            await socket.close(1013, f"{MAX_PAGES} pages are open already, the maximum: close one first")
            return
        page = asyncio.create_task(
            session.run(socket, self._program.command, self._program.environment, self._console.failed)
        )
        self._open[socket] = page
        self._console.opened(page, str((socket.remote_address or ("?",))[0]))
        try:
            await page
        finally:
            del self._open[socket]
            self._console.closed(page)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response to a request, or None to open a WebSocket."""
        try:
            return self._route(request, _bracketed(str(connection.local_address[0])))
        except AccessDenied as denial:
            return _response(denial.status, denial.text.encode() + b"\n", "text/plain")

    def _route(self, request: Request, address: str) -> Response | None:
        if getattr(request, "method", "GET") != "GET":  # websockets before 16 has no `method`, and accepts only GET
            raise AccessDenied(405, "Refused: only GET is answered.")
        url = urlsplit(request.path)
        socket = url.path == "/socket"
        tokens = parse_qs(url.query).get("token") if url.path == "/" else None
        entry = self._authenticator.authorize(request.headers, address, tokens[0] if tokens else None, socket)
        if entry.cookie:
            self._entered()
        if tokens:
            return _enter(entry, request.headers.get_all("Sec-Fetch-Site"))
        if socket:
            return None
        if url.path == "/":
            return self._page(entry)
        if url.path not in self._files:
            raise AccessDenied(404, "Not found. The dashboard is at /")
        kind, content = self._files[url.path]
        return _response(200, content, kind)

    def _page(self, entry: Entry) -> Response:
        kind, content = self._files["/page.html"]
        title = html.escape(self._program.title).encode(errors="replace")
        policy = (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",  # xterm.js writes style elements and attributes
            "img-src data:",
            f"connect-src 'self' ws://{entry.host}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
        return _response(200, content.replace(b"{title}", title), kind, "; ".join(policy))


async def _close(socket: ServerConnection) -> None:
    """Close a WebSocket, even if its page receives nothing any more."""
    try:
        async with asyncio.timeout(session.GRACE_SECONDS):  # close_timeout starts only after all data has been sent
            await socket.close(1001, "stateview serve has ended")
    except TimeoutError:
        socket.transport.abort()


def _enter(entry: Entry, site: Sequence[str]) -> Response:
    """Lead to the page without the token, to keep it out of the browser's history, and set the cookie."""
    if "cross-site" in site:
        # After a link in another page, or the file of `--open`, a redirect would not send a SameSite=Strict cookie.
        page = b'<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>stateview</title>'
        response = _response(200, page, "text/html")
    else:
        response = _response(303, b"", "text/plain")
        response.headers["Location"] = "/"
    if entry.cookie:
        response.headers["Set-Cookie"] = entry.cookie
    return response


def _response(
    status: int, content: bytes, kind: str, policy: str = "default-src 'none'; frame-ancestors 'none'"
) -> Response:
    fields = {
        "Date": formatdate(usegmt=True),
        "Connection": "close",
        "Content-Length": str(len(content)),
        "Content-Type": f"{kind}; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(status, HTTPStatus(status).phrase, Headers(fields), content)


def _files() -> dict[str, tuple[str, bytes]]:
    """Return the media type and content of each file of the page, by URL path.

    All files are read at the start, so that no path of a request is ever opened.
    """
    contents = {}
    for file in files(__package__).joinpath("static").iterdir():
        kind = _KINDS.get(file.name[file.name.rfind(".") :])
        if kind:
            contents[f"/{file.name}"] = kind, file.read_bytes()
    return contents


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
