"""One open page: a WebSocket and its own program. When one ends, the other is ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...cli.render import escape_control_characters

FIRST_SIZE_SECONDS = 10.0  # a page must send its size within this time
GRACE_SECONDS = 1.5  # a program that has not ended after this time is killed
_READY = b"__GANGLION__\n"  # Textual's driver writes this before its first packet
_STDERR_BYTES = 65536  # the end of standard error that is reported
_FAILED = "The error is in the terminal, or the log, of the server."


class Size(Struct, tag="size"):
    """The size of the page in columns and rows."""

    columns: Annotated[int, Meta(ge=1, le=1000)]
    rows: Annotated[int, Meta(ge=1, le=500)]


class FocusChange(Struct, tag="attention"):
    """The page has got or lost the focus."""

    what: Literal["focus", "blur"]


_decoder: msgspec.json.Decoder[Size | FocusChange] = msgspec.json.Decoder(Size | FocusChange)


class BadMessage(Exception):
    """A message that the page never sends."""


async def run(
    socket: ServerConnection, command: Sequence[str], environment: Mapping[str, str], report: Callable[[int, str], None]
) -> None:
    """Show a program in a page until the program or the page ends, then end the other.

    Args:
        socket: the WebSocket of the page. The page sends keys as bytes, and all else as JSON. It gets the output as
            bytes.
        command: the command of a Textual program.
        environment: the extra environment variables of the program.
        report: takes the exit code of a program that failed, and the end of its standard error. The page gets neither
            paths nor tracebacks.

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
        env={**os.environ, **environment, **_driver_environment(size)},
        start_new_session=True,  # Ctrl-C reaches only the server, which ends its programs itself
    )
    assert process.stderr is not None
    errors = asyncio.create_task(_read_errors(process.stderr))
    tasks = {asyncio.create_task(_send_output(process, socket)), asyncio.create_task(_forward_input(process, socket))}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _end(process)
    try:
        for task in done:
            task.result()
        if process.returncode:
            report(process.returncode, await errors)
        await socket.send(json.dumps({"type": "ended", "code": process.returncode, "text": _FAILED}))
        await socket.close()
    except BadMessage:
        await socket.close(1008, "not a message of this page")
    except ConnectionClosed:
        pass  # the user has closed the page


def _read(message: str | bytes) -> Size | FocusChange:
    if isinstance(message, bytes):
        raise BadMessage
    try:
        return _decoder.decode(message)
    except msgspec.DecodeError as error:
        raise BadMessage from error


def _driver_environment(size: Size) -> dict[str, str]:
    """Return the environment variables that make a Textual program use `PageDriver`."""
    return {
        "TEXTUAL_DRIVER": "stateview.dashboard.web.driver:PageDriver",
        "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "TERM_PROGRAM": "textual",
        "COLUMNS": str(size.columns),
        "ROWS": str(size.rows),
    }


async def _send_output(process: Process, socket: ServerConnection) -> None:
    """Send the output of the program to the page until the program ends. A slow page slows the program down."""
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
                message_type = json.loads(payload)["type"]
                if message_type == "exit":
                    return
                if message_type == "file":
                    await socket.send(payload.decode())
    except asyncio.IncompleteReadError:
        pass  # the program has ended


async def _forward_input(process: Process, socket: ServerConnection) -> None:
    """Pass the messages of the page to the program until the page is closed."""
    async for data in socket:
        if isinstance(data, bytes):
            await _write_packet(process, b"D", data)
            continue
        message = _read(data)
        if isinstance(message, Size):
            packet: dict[str, str | int] = {"type": "resize", "width": message.columns, "height": message.rows}
        else:
            packet = {"type": message.what}
        await _write_packet(process, b"M", json.dumps(packet).encode())


async def _write_packet(process: Process, kind: bytes, payload: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the program is ending, and `_send_output` ends, too


async def _read_errors(stream: asyncio.StreamReader) -> str:
    """Return the end of the program's standard error, escaped, because it may hold stored data."""
    kept = b""
    while data := await stream.read(_STDERR_BYTES):
        kept = (kept + data)[-_STDERR_BYTES:]
    return "\n".join(escape_control_characters(line) for line in kept.decode(errors="replace").splitlines())


async def _end(process: Process) -> None:
    """Ask a program to end, and kill it after `GRACE_SECONDS`. Commits are atomic, so killing damages no data."""
    assert process.stdin is not None and process.stdout is not None
    drained = asyncio.create_task(_drain(process.stdout))  # a full pipe would block the program
    ended = False
    try:
        process.stdin.close()  # makes `PageDriver` end the program
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
        ended = True
    except TimeoutError:
        pass
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also its children, which may hold its output open
    await process.wait()  # asyncio returns only after the output has been read to its end
    await drained


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass
