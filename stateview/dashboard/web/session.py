"""One page that is open: a program of its own behind a WebSocket, for as long as both are there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...cli.render import escape_control_characters

FIRST_SIZE_SECONDS = 10.0  # seconds within which a page says how large it is
GRACE_SECONDS = 1.5  # seconds that a program has to end by itself
_READY = b"__GANGLION__\n"  # what Textual's driver writes before its first packet
_STDERR_BYTES = 4096  # bytes of standard error that are kept


class Size(Struct, tag="size"):
    """The page shows so many columns and rows."""

    columns: Annotated[int, Meta(ge=1, le=1000)]
    rows: Annotated[int, Meta(ge=1, le=500)]


class Attention(Struct, tag="attention"):
    """The page is looked at now, or no longer."""

    what: Literal["focus", "blur"]


_decoder: msgspec.json.Decoder[Size | Attention] = msgspec.json.Decoder(Size | Attention)


class BadMessage(Exception):
    """What came is nothing that our page sends."""


async def run(socket: ServerConnection, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Show a program in a page until either ends; then end the other.

    Args:
        socket: of the page. It sends keys as bytes, the rest as JSON; the program's output goes to it as bytes.
        command: of a Textual program.
        environment: what it finds in its environment besides ours.

    """
    try:
        async with asyncio.timeout(FIRST_SIZE_SECONDS):
            size = _read(await socket.recv())
        if not isinstance(size, Size):
            raise BadMessage
    except ConnectionClosed:
        return
    except (TimeoutError, BadMessage):
        await socket.close(1008, "the page must say its size first")
        return
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, **environment, **_surroundings(size)},
        start_new_session=True,  # Ctrl-C at the server's terminal is for the server, which ends its programs itself
    )
    assert process.stderr is not None
    errors = asyncio.create_task(_last_words(process.stderr))
    ways = {asyncio.create_task(_show(process, socket)), asyncio.create_task(_listen(process, socket))}
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await _end(process)
    try:
        for way in done:
            way.result()
        await socket.send(json.dumps({"type": "ended", "code": process.returncode, "text": await errors}))
        await socket.close()
    except BadMessage:
        await socket.close(1008, "not a message of this page")
    except ConnectionClosed:
        pass  # the page is gone, as it may at any time


def _read(message: str | bytes) -> Size | Attention:
    if isinstance(message, bytes):
        raise BadMessage
    try:
        return _decoder.decode(message)
    except msgspec.DecodeError as error:
        raise BadMessage from error


def _surroundings(size: Size) -> dict[str, str]:
    """Return what makes a Textual program speak to a page."""
    return {
        "TEXTUAL_DRIVER": "stateview.dashboard.web.driver:PageDriver",
        "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "TERM_PROGRAM": "textual",
        "COLUMNS": str(size.columns),
        "ROWS": str(size.rows),
    }


async def _show(process: Process, socket: ServerConnection) -> None:
    """Send on what the program writes, until it ends. A page that does not keep up holds the program up."""
    assert process.stdout is not None
    read = process.stdout.readexactly
    try:
        await process.stdout.readuntil(_READY)
        while True:
            kind = await read(1)
            payload = await read(int.from_bytes(await read(4), "big"))
            if kind == b"D":
                await socket.send(payload)
            elif kind == b"M":
                what = json.loads(payload)["type"]
                if what == "exit":
                    return
                if what == "file":
                    await socket.send(payload.decode())
    except asyncio.IncompleteReadError:
        pass  # the program has ended


async def _listen(process: Process, socket: ServerConnection) -> None:
    """Send on what the page says, until it is gone."""
    async for message in socket:
        if isinstance(message, bytes):
            await _tell(process, b"D", message)
            continue
        said = _read(message)
        if isinstance(said, Size):
            about: dict[str, str | int] = {"type": "resize", "width": said.columns, "height": said.rows}
        else:
            about = {"type": said.what}
        await _tell(process, b"M", json.dumps(about).encode())


async def _tell(process: Process, kind: bytes, payload: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it is ending, as its output will say


async def _last_words(stream: asyncio.StreamReader) -> str:
    """Return the end of what the program wrote to standard error, which says why it ended. It may hold stored data."""
    kept = b""
    while data := await stream.read(_STDERR_BYTES):
        kept = (kept + data)[-_STDERR_BYTES:]
    return "\n".join(escape_control_characters(line) for line in kept.decode(errors="replace").splitlines())


async def _end(process: Process) -> None:
    """Ask a program to end, and kill it if it does not within its grace: commits are whole or not at all."""
    assert process.stdin is not None and process.stdout is not None
    drained = asyncio.create_task(_drain(process.stdout))  # else it could wait for us to read
    ended = False
    try:
        process.stdin.close()  # on which `PageDriver` ends its program
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
        ended = True
    except TimeoutError:
        pass
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it started, which may hold its output open
    await process.wait()  # which asyncio answers at the end of the output: it has to be read until then
    await drained


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass
