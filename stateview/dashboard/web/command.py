"""Handler: serve. The dashboard as a web page, for the one browser that opens the URL that is printed."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from threading import Thread
from typing import Any

from ...backends import mask
from ...cli.context import Context
from ...cli.exit_codes import UsageError
from ...cli.results import ActionResult, Text
from ...errors import BackendError
from ...settings import resolve_target

PORT = 8642


def serve(context: Context, given: dict[str, Any]) -> ActionResult:
    """`serve [STORE] [--host HOST] [--port PORT] [--write] [--open]`, until Ctrl-C, SIGTERM or SIGHUP.

    Raises:
        UsageError: options that do not go together, a host that has no address, a port that is none.
        BackendError: the host or port cannot be listened on.

    """
    read_only = bool(context.options.get("read_only"))
    if read_only and given.get("write"):
        raise UsageError("--write and --read-only were both given", "Leave one out")
    words = ["dashboard"] if given.get("write") else ["--read-only", "dashboard"]
    return serve_command(context, given, [sys.executable, "-P", "-m", "stateview", *words])


def serve_command(context: Context, given: dict[str, Any], command: list[str]) -> ActionResult:
    """`serve`, of any Textual program: one process of `command` for each page that is open.

    Raises:
        UsageError, BackendError: as `serve`.

    """
    options = dict(context.options)
    if "store" in given:
        options["store"] = given["store"]
    chosen = resolve_target(
        options.get("store"), options.get("namespace")
    )  # so that a wrong name is said here, not in a page
    from .auth import Authenticator
    from .server import PageServer, ServedProgram

    host = given.get("host", "127.0.0.1")
    with _listen(host, given.get("port", PORT)) as listener:
        address, port = listener.getsockname()[:2]
        every_address = ipaddress.ip_address(address).is_unspecified
        name = socket.gethostname() if every_address else f"[{host}]" if ":" in host else host
        gate = Authenticator(port, (name,), every_address)
        url = f"http://{name}:{port}/?token={gate.token}"
        context.show(Text(text=f"{url}\n", summary=_narration(address, port, bool(given.get("write")))))
        # In the environment, where other users of the machine do not see the password that a store's URL may hold.
        environment = {
            f"STATEVIEW_{option.upper()}": str(options[option])
            for option in ("store", "namespace", "author")
            if options.get(option)
        }
        served = ServedProgram(command, environment, f"{chosen.namespace} · {mask(chosen.store)} · stateview")
        forget = _open_browser(url) if given.get("open") else _nothing
        try:
            asyncio.run(PageServer(gate, served, forget).run(listener))
        finally:
            forget()
    return ActionResult()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to the first address of a host, an IPv4 one if there is one."""
    if not 0 <= port <= 65535:
        raise UsageError(f"{port} is not a port", "Give --port a number up to 65535, or 0 for any that is free")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"{host!r} has no address", "Give --host a name or address of this machine") from error
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise BackendError(
            f"cannot listen on port {port} of {host}: {error.strerror}",
            "Give another by --port (0: any that is free), or another --host",
        ) from error
    return listener


def _narration(address: str, port: int, write: bool) -> str:
    lines = ["writes are allowed" if write else "read-only; --write allows writes"]
    if not ipaddress.ip_address(address).is_loopback:
        lines.append(
            "warning: other machines can connect, and the traffic is not encrypted: whoever sees it can do what this "
            f"page can. Without --host, `ssh -L {port}:127.0.0.1:{port} HERE` from the other machine is encrypted"
        )
    lines.append("Open the URL in a browser: it works once. Ctrl-C ends this and every page")
    return "\n".join(lines)


def _open_browser(url: str) -> Callable[[], None]:
    """Open a URL by a file that only this user can read; returns what removes it.

    The browser's command line, which every user of the machine sees, then holds the name of the file, not the token.
    """
    import webbrowser

    handle, path = tempfile.mkstemp(prefix="stateview-", suffix=".html")
    with os.fdopen(handle, "w") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><title>stateview</title>')
    # Some browsers stay in the foreground: a thread of its own, which does not hold up the end.
    Thread(target=webbrowser.open, args=(f"file://{path}",), daemon=True).start()

    def forget() -> None:
        if os.path.exists(path):
            os.unlink(path)

    return forget


def _nothing() -> None:
    """Nothing was opened."""
