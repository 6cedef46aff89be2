"""A command of stateview in a process of its own, without the start of an interpreter for each.

A server has imported what commands need, and forks a process for each command. The process gets its own words,
environment, folder and standard streams. What only a start decides needs `python -m stateview`: imports, closed
streams, signals and terminals.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import lru_cache

_PIPE_BYTES = 1 << 16
_NUMBER_BYTES = 8
_WITHOUT = (
    "__main__",
    "aio",
    "dashboard",
    "keyvalue",
    "langgraph",
    "testing",
)  # packages that no command of a test needs


def _of_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an interpreter reads at its start."""
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LC_", "LANG"))}


_OF_SERVER = _of_start(os.environ)


def forked(*words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `stateview WORDS…`; its exit code and both outputs.

    Args:
        words: the words of the command line.
        stdin: what it reads from a pipe.
        environment: the variables that it has besides those of the tests.

    """
    every = {**os.environ, **environment}
    given = stdin.encode()
    if len(given) > _PIPE_BYTES or _of_start(every) != _OF_SERVER:
        line = [sys.executable, "-m", "stateview", *words]
        return subprocess.run(line, input=stdin, capture_output=True, encoding="utf-8", env=every, check=False)
    server = _server()
    reader, writer = os.pipe()
    os.write(writer, given)
    os.close(writer)
    asked = json.dumps({"words": words, "environment": every, "folder": os.getcwd()}).encode()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        socket.send_fds(server, [len(asked).to_bytes(_NUMBER_BYTES)], [reader, out.fileno(), err.fileno()])
        server.sendall(asked)
        answer = server.recv(_NUMBER_BYTES, socket.MSG_WAITALL)
        os.close(reader)
        assert len(answer) == _NUMBER_BYTES, "the server of commands has ended"
        outputs = []
        for file in (out, err):
            file.seek(0)
            outputs.append(file.read().decode())
    return subprocess.CompletedProcess(words, int.from_bytes(answer, signed=True), *outputs)


@lru_cache(1)
def _server() -> socket.socket:
    """Start the server of this worker. It ends with the connection."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, __file__], stdin=theirs)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(client: socket.socket) -> None:
    while True:
        size, streams, _, _ = socket.recv_fds(client, _NUMBER_BYTES, 3)
        if not size:
            return
        asked = json.loads(client.recv(int.from_bytes(size), socket.MSG_WAITALL))
        child = os.fork()
        if not child:
            client.close()
            _become(asked["words"], asked["environment"], asked["folder"], streams)
        for number in streams:
            os.close(number)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        client.sendall(code.to_bytes(_NUMBER_BYTES, signed=True))


def _become(words: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> None:
    """Be the process of a command; it does not return."""
    from stateview.cli.program import entry

    try:
        for number, given in enumerate(streams):
            os.dup2(given, number)
            os.close(given)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # it is looked up in the environment
        sys.argv = ["stateview", *words]
        sys.stdin = open(0, encoding="utf-8", errors=sys.stdin.errors, closefd=False)  # noqa: SIM115 - for all its life
        entry()
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stderr.flush()
        os._exit(1)


def _import_all() -> None:
    import stateview

    for module in pkgutil.walk_packages(stateview.__path__, "stateview."):
        if module.name.split(".")[1] not in _WITHOUT:
            importlib.import_module(module.name)
    gc.freeze()


if __name__ == "__main__":
    del sys.path[0]  # the helpers of the tests
    connection = socket.socket(fileno=os.dup(0))
    _import_all()
    _serve(connection)
