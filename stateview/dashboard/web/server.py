"""The web server: a page, its few files, and a WebSocket for each page that is open."""

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

MAX_PAGES = 16  # pages at once: each is a process of some 50 MB
MAX_MESSAGE_BYTES = 1024 * 1024  # bytes; the page sends a long paste in pieces
REQUEST_SECONDS = 30.0  # seconds within which a request comes and its answer is taken
_KINDS = {".html": "text/html", ".mjs": "text/javascript", ".css": "text/css"}

logger = logging.getLogger("stateview.serve")
# What is no HTTP is dropped; older releases of websockets print a traceback for each.
logger.addFilter(lambda record: record.msg != "opening handshake failed")


class ServedProgram(NamedTuple):
    """What is shown: a program, what it finds in its environment besides ours, and the title of the page."""

    command: Sequence[str]
    environment: Mapping[str, str]
    title: str


class PageServer:
    """Answers on one listening socket until it is told to stop.

    Args:
        gate: lets requests in.
        served: what is shown.
        entered: called when the token has been used.

    """

    def __init__(self, gate: Authenticator, served: ServedProgram, entered: Callable[[], None] = lambda: None) -> None:
        self._gate = gate
        self._served = served
        self._entered = entered
        self._files = _files()
        self._open: dict[ServerConnection, asyncio.Task[None]] = {}

    async def run(self, listener: Socket) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP; then end every program, within `session.GRACE` seconds or so.

        Args:
            listener: bound, and not listening yet.

        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        server = await serve_sockets(
            self._show,
            sock=listener,
            process_request=self._answer,
            compression=None,  # of no use on the loopback
            server_header=None,
            open_timeout=REQUEST_SECONDS,
            close_timeout=session.GRACE_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
            logger=logger,
        )
        await stop.wait()
        # Not wait_closed(): it waits for connections that browsers open ahead and say nothing on.
        server.close(close_connections=False)
        ends = [loop.create_task(_close(socket)) for socket in self._open]
        if ends:
            await asyncio.wait([*ends, *self._open.values()])

    async def _show(self, socket: ServerConnection) -> None:
        """One page, from its WebSocket's first message to its end."""
        if len(self._open) >= MAX_PAGES:
            await socket.close(1013, f"{MAX_PAGES} pages are open already, which is the most: close one first")
            return
        page = asyncio.create_task(session.run(socket, self._served.command, self._served.environment))
        self._open[socket] = page
        try:
            await page
        finally:
            del self._open[socket]

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to a request; None lets a WebSocket be opened."""
        try:
            return self._route(request, _bracketed(str(connection.local_address[0])))
        except AccessDenied as refused:
            return _response(refused.status, refused.text.encode() + b"\n", "text/plain")

    def _route(self, request: Request, address: str) -> Response | None:
        if getattr(request, "method", "GET") != "GET":  # older releases of websockets take no other method
            raise AccessDenied(405, "Refused: only GET is answered.")
        url = urlsplit(request.path)
        socket = url.path == "/socket"
        tokens = parse_qs(url.query).get("token") if url.path == "/" else None
        entry = self._gate.authorize(request.headers, address, tokens[0] if tokens else None, socket)
        if entry.cookie:
            self._entered()
        if tokens:
            return _enter(entry, request.headers.get_all("Sec-Fetch-Site"))
        if socket:
            return None
        if url.path == "/":
            return self._page(entry)
        if url.path not in self._files:
            raise AccessDenied(404, "There is nothing here. The dashboard is at /")
        kind, content = self._files[url.path]
        return _response(200, content, kind)

    def _page(self, entry: Entry) -> Response:
        kind, content = self._files["/page.html"]
        title = html.escape(self._served.title).encode(errors="replace")
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
    """End a WebSocket, also one whose page takes nothing any more."""
    try:
        async with asyncio.timeout(session.GRACE_SECONDS):  # its own is counted from when all before has been taken
            await socket.close(1001, "stateview serve has ended")
    except TimeoutError:
        socket.transport.abort()


def _enter(entry: Entry, site: Sequence[str]) -> Response:
    """To the page without the token, so that it is not in the history; with the cookie, if it is to be set."""
    if "cross-site" in site:
        # A link in another page, or the file of `--open`: what a redirect leads to would get no SameSite=Strict cookie.
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
    """Return the path of every file that is served, its media type and its content.

    No path of a request is ever opened.
    """
    found = {}
    for file in files(__package__).joinpath("static").iterdir():
        kind = _KINDS.get(file.name[file.name.rfind(".") :])
        if kind:
            found[f"/{file.name}"] = kind, file.read_bytes()
    return found


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
