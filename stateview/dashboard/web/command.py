"""Handler: serve. Shows the dashboard in the browser that opens the printed URL."""

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
from ...cli.guessed_store import with_store
from ...cli.program import print_message
from ...cli.results import ActionResult, Text
from ...errors import BackendError
from ...settings import resolve_target

PORT = 8642


def serve(context: Context, args: dict[str, Any]) -> ActionResult:
    """Run `serve [STORE] [--host HOST] [--port PORT] [--write] [--open]` until Ctrl-C, SIGTERM or SIGHUP.

    The key u, and SIGUSR1, print a new URL.

    Raises:
        UsageError: options exclude each other, the host has no address, or the port is invalid.
        BackendError: the server cannot listen on the host and port.

    """
    if context.options.get("read_only") and args.get("write"):
        raise UsageError("--write and --read-only were both given", "Leave one out")
    words = ["dashboard"] if args.get("write") else ["--read-only", "dashboard"]
    return serve_command(context, args, [sys.executable, "-P", "-m", "stateview", *words])


def serve_command(context: Context, args: dict[str, Any], command: list[str]) -> ActionResult:
    """Serve any Textual program. Each open page has its own process of `command`.

    Raises:
        UsageError, BackendError: as `serve`.

    """
    options, guessed = with_store(context.options, args.get("store"))
    if guessed:
        print_message(f"stateview: {guessed}")
    target = resolve_target(options.get("store"), options.get("namespace"))  # reports a wrong name here, not in a page
    from .auth import Authenticator
    from .console import Console
    from .server import PageServer, ServedProgram

    host = args.get("host", "127.0.0.1")
    with _listen(host, args.get("port", PORT)) as listener:
        address, port = listener.getsockname()[:2]
        every_address = ipaddress.ip_address(address).is_unspecified
        name = socket.gethostname() if every_address else f"[{host}]" if ":" in host else host
        authenticator = Authenticator(port, (name,), every_address)
        page = f"http://{name}:{port}/?token="
        url = page + authenticator.token
        # A store's URL may hold a password. Other users see the arguments of a process, but not its environment.
        environment = {
            f"STATEVIEW_{option.upper()}": str(options[option])
            for option in ("store", "namespace", "author")
            if options.get(option)
        }
        program = ServedProgram(command, environment, f"{target.namespace} · {mask(target.store)} · stateview")

        def show_new_url() -> None:
            new = f"{page}{authenticator.renew()}\n"
            context.show(Text(text=new, summary="It works once. The URL before it lets no other browser in"))

        console = Console("writes are allowed" if args.get("write") else "read-only", show_new_url)
        summary = _summary(address, port, bool(args.get("write")), console.how_to_renew)
        context.show(Text(text=f"{url}\n", summary=summary))
        remove_file = _open_browser(url) if args.get("open") else _do_nothing
        try:
            asyncio.run(PageServer(authenticator, program, console, remove_file).run(listener))
        finally:
            remove_file()
    return ActionResult()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the first IPv4 address of a host, or else on its first address."""
    if not 0 <= port <= 65535:
        raise UsageError(f"{port} is not a port", "Give --port a number up to 65535, or 0 for any free port")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"{host!r} has no address", "Give --host a name or address of this machine") from error
    family, _, _, _, address = min(addresses, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise BackendError(
            f"cannot listen on port {port} of {host}: {error.strerror}",
            "Choose another --port (0: any free port), or another --host",
        ) from error
    return listener


def _summary(address: str, port: int, write: bool, how_to_renew: str) -> str:
    lines = ["writes are allowed" if write else "read-only; --write allows writes"]
    if not ipaddress.ip_address(address).is_loopback:
        lines.append(
            "warning: other machines can connect, and the traffic is not encrypted. Anyone who can read the traffic "
            "can use the page. For an encrypted connection, leave out --host, and run "
            f"`ssh -L {port}:127.0.0.1:{port} HOST` on the other machine"
        )
    lines.append(
        f"Open the URL in a browser: it works once; {how_to_renew} prints a new one. "
        "Ctrl-C ends the server and every page"
    )
    return "\n".join(lines)


def _open_browser(url: str) -> Callable[[], None]:
    """Open a URL by means of a file that only this user can read, and return a function that removes the file.

    Every user of the machine can see the command line of the browser. It holds the name of the file, not the token.
    """
    import webbrowser

    handle, path = tempfile.mkstemp(prefix="stateview-", suffix=".html")
    with os.fdopen(handle, "w") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><title>stateview</title>')
    # Some browsers stay in the foreground, so they must not block the server or its end.
    Thread(target=webbrowser.open, args=(f"file://{path}",), daemon=True).start()

    def remove_file() -> None:
        if os.path.exists(path):
            os.unlink(path)

    return remove_file


def _do_nothing() -> None:
    """Stand in for the function that removes the file."""
