"""Redis as it is met in earnest: logins, TLS, clusters, failovers, lost replies, stale caches, servers that refuse."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import redis_servers
from conftest import REDIS

from stateview import StateManager
from stateview.backends import open_backend
from stateview.backends.base import Backend, Batch, Write
from stateview.errors import (
    BackendError,
    BackendUnavailable,
    CommitUnknown,
    Damaged,
    InvalidName,
    KeyNotFound,
    ReadOnly,
    StateException,
)

PASSWORD = "p@ss:w/rd?"
QUOTED = "p%40ss%3Aw%2Frd%3F"
START_SECONDS = 20.0
each_server = pytest.mark.parametrize("path", REDIS.values() or [""], ids=REDIS)


def until(true: Callable[[], Any], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of the test's own, that can be killed, frozen and started again where it was."""

    def __init__(self, path: str, folder: Path, *options: str, port: str = "--port") -> None:
        self.path, self.folder, self.options, self.port_option = path, folder, options, port
        self.start(free_port())

    def start(self, port: int, *more: str, wait: bool = True) -> None:
        self.port = port
        command = [self.path, "--bind", "127.0.0.1", "--port", "0", self.port_option, str(port), "--dir", str(self.folder)]
        log = self.folder / "log"
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [*command, "--save", "", *self.options, *more], stdout=file, stderr=file,
                preexec_fn=redis_servers._end_with_parent,
            )  # fmt: skip
        until(lambda: self.process.poll() is not None or not wait or b"eady to accept connections" in log.read_bytes())
        assert self.process.poll() is None, log.read_text()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Proxy:
    """Stands between a client and a server. `judge` sees each request and says what becomes of it:

    `pass`; `refuse`: the connection is closed and the server never sees it; `drop`: the server answers, and the
    connection is closed instead of handing the answer on; `hold`: nothing more goes through, in either direction.
    """

    def __init__(self, server: str) -> None:
        self.target = redis.connection.parse_url(server)
        self.judge: Callable[[bytes], str] = lambda request: "pass"
        self.answered: Callable[[], None] = lambda: None
        self.held = self.closed = False
        self.requests = self.drops = 0
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client = self.listener.accept()[0]
                server = socket.create_connection((self.target["host"], self.target["port"]))
            except OSError:
                return
            self.pairs.append((client, server))
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()
            if self.closed:
                self.close()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        dropping = threading.Event()
        threading.Thread(target=self._answer, args=(client, server, dropping), daemon=True).start()
        try:
            while request := client.recv(1 << 20):
                self.requests += 1
                verdict = self.judge(request)
                if verdict == "refuse":
                    break
                if verdict == "drop":
                    dropping.set()
                if verdict == "hold":
                    self.held = True
                if not self.held:
                    server.sendall(request)
        except OSError:
            pass  # closed by the other direction
        if not dropping.is_set():
            _shut(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, dropping: threading.Event) -> None:
        try:
            while answer := server.recv(1 << 20):
                if dropping.is_set():
                    self.drops += 1
                    self.answered()
                    break
                if not self.held:
                    client.sendall(answer)
        except OSError:
            pass  # closed by the other direction
        _shut(client, server)

    def close(self) -> None:
        """Refuse new connections, and end those there are."""
        self.closed = True
        _shut(self.listener, *(one for pair in self.pairs for one in pair))


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was not connected any more
        one.close()


def is_commit(request: bytes) -> bool:
    return b'"token"' in request


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends them with the test."""
    with ExitStack() as stack:

        def one(path: str = next(iter(REDIS.values()), ""), *options: str, port: str = "--port") -> Server:
            server = Server(path, tmp_path_factory.mktemp("redis"), *options, port=port)
            stack.callback(server.end)
            return server

        yield one


@pytest.fixture
def manage() -> Iterator[Callable[..., StateManager]]:
    """Opens managers, and closes them with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StateManager(*args, **options))


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    """An empty store on a server that others use too."""
    return new_store(next(iter(REDIS), "redis"))


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """Before the same server as `url`, and so before the same store where `url` is database 0."""
    one = Proxy(url)
    one.url += "/" + url.rpartition("/")[2]
    yield one
    one.close()


def tracking(client: redis.Redis) -> list[dict[str, str]]:
    return [one for one in client.client_list() if "t" in one["flags"]]


def use_all(state: StateManager) -> None:
    """Each act once, and a fork into a namespace of another slot."""
    slots = {redis.cluster.key_slot(name.encode()) for name in (state.namespace, "other")}
    assert len(slots) == 2
    assert state.save("a", {"n": 1}) == 1
    state.save("b", [1, 2])
    state.save("brief", 1, ttl=100)
    assert state.checkpoint("first") == "first"
    state.save("a", {"n": 2})
    assert state.delete("b")
    assert state.load("a") == {"n": 2}
    assert state.load("a", at="first") == {"n": 1}
    assert state.list_keys() == ["a", "brief"]
    assert [(change.key, change.kind) for change in state.diff("first")] == [("a", "changed"), ("b", "removed")]
    assert len(state.restore_checkpoint("first")) == 2
    assert state.load("b") == [1, 2]
    state.undo()
    assert state.load("b", None) is None
    state.redo()
    assert state.update("count", lambda n: n + 1, default=0) == 1
    with state.transaction() as tx:
        tx.save("c", 1)
        tx.save("d", 2)
    assert state.blame("c").revision == state.revision
    assert [entry.value for entry in state.history("a")][:2] == [{"n": 1}, {"n": 2}]
    with state.fork("other", at="first") as fork:
        assert fork.list_keys() == ["a", "b", "brief"]
        fork.save("a", "forked")
        assert fork.load("a") == "forked"
        assert fork.namespaces() == state.namespaces() == sorted([state.namespace, "other"])
    assert state.load("a") == {"n": 1}
    assert state.recover().ok
    assert state.compact() > 0
    assert state.load("a", at="first") == {"n": 1}
    threading.Timer(0.1, state.save, ("late", 1)).start()
    revision, started = state.revision, time.monotonic()
    assert state.backend.wait(revision, 5.0) == revision + 1
    assert time.monotonic() - started < 0.6


# --- the store URL -------------------------------------------------------------------------------------------------


@each_server
def test_database_login_and_options_of_the_url(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path, "--requirepass", PASSWORD)
    root = server.client(password=PASSWORD)
    root.acl_setuser("worker", enabled=True, passwords=["+" + PASSWORD], keys=["stateview:*"], commands=["+@all"])
    for login, database in (("", 3), ("default", 4), ("worker", 5)):
        state = manage(f"redis://{login}:{QUOTED}@127.0.0.1:{server.port}/{database}?protocol=3&client_name=it", "main")
        assert state.save("k", 1) == 1
        assert "it" in [one["name"] for one in root.client_list()]
        assert {name for name in root.info("keyspace") if f"db{database}" in name}
        assert QUOTED not in state.url + repr(state)
    assert server.client(password=PASSWORD, db=0).dbsize() == 0
    use_all(manage(f"redis://:{QUOTED}@127.0.0.1:{server.port}/6", "main"))


def test_a_timeout_of_the_url_is_honoured(start: Callable[..., Server], manage: Any) -> None:
    server = start()
    state = manage(server.url + "?socket_timeout=0.1", timeout=0.3)
    state.save("k", 1)
    server.signal(signal.SIGSTOP)
    for act in (state.head, lambda: state.save("k", 2)):
        started = time.monotonic()
        with pytest.raises(BackendUnavailable):
            act()
        assert time.monotonic() - started < 2.0
    server.signal(signal.SIGCONT)


@pytest.mark.parametrize("option", ["socket_timeout=soon", "decode_responses=true", "no_such_option=1"])
def test_an_option_that_cannot_be_is_said(url: str, manage: Any, option: str) -> None:
    with pytest.raises(BackendError, match=option.partition("=")[0]):
        manage(f"{url}?{option}").save("k", 1)


def test_tls(start: Callable[..., Server], manage: Any, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=a test")
    openssl("req", *new_key, "-keyout", "key", "-out", "request", "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "pem",
            "-days", "2", "-extfile", "names")  # fmt: skip
    files = ("--tls-cert-file", f"{tmp_path}/pem", "--tls-key-file", f"{tmp_path}/key", "--tls-ca-cert-file")
    server = start(REDIS["redis-7.0"], *files, f"{tmp_path}/ca.pem", "--tls-auth-clients", "no", port="--tls-port")
    trusted = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={tmp_path}/ca.pem"
    use_all(manage(trusted, "main"))
    state, other = manage(trusted, "cached"), manage(trusted, "cached")
    for number in range(50):
        state.save("k", number)
        assert other.load("k") == other.load("k") == number
    started = time.monotonic()
    with pytest.raises(BackendError, match="ssl_ca_certs") as caught:
        manage(f"rediss://127.0.0.1:{server.port}/0").load("k")
    assert not isinstance(caught.value, BackendUnavailable)
    with pytest.raises(BackendError):
        manage(f"redis://127.0.0.1:{server.port}/0", timeout=0.2).load("k")
    assert time.monotonic() - started < 3.0


@each_server
def test_unix_socket(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path, "--unixsocket", "redis.sock", "--requirepass", PASSWORD)
    place = server.folder / "redis.sock"
    state = manage(f"unix://:{QUOTED}@{place}?db=2", "main")
    use_all(state)
    assert QUOTED not in state.url
    assert server.client(db=2, password=PASSWORD).exists("stateview:{main}:head")
    with pytest.raises(BackendUnavailable):
        manage(f"unix://{place}-other", timeout=0.1).load("k")


# --- clusters and sentinels ----------------------------------------------------------------------------------------


def cluster(start: Callable[..., Server], path: str, size: int, *options: str, **login: str) -> list[Server]:
    nodes = [
        start(path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "2000", *options)
        for _ in range(size)
    ]
    for number, node in enumerate(nodes):
        client = node.client(**login)
        low, high = 16384 * number // size, 16384 * (number + 1) // size - 1
        client.execute_command("CLUSTER ADDSLOTSRANGE", low, high)
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        bus = nodes[0].options[3]
        client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus)
    for node in nodes:
        until(lambda client=node.client(**login): client.cluster("info")["cluster_state"] == "ok")
        until(lambda client=node.client(**login): len(client.cluster("nodes")) == size)
    return nodes


@each_server
def test_a_cluster_of_one_node_with_a_password(path: str, start: Callable[..., Server], manage: Any) -> None:
    [node] = cluster(start, path, 1, "--requirepass", PASSWORD, password=PASSWORD)
    address = f"127.0.0.1:{node.port}"
    use_all(manage(f"redis+cluster://:{QUOTED}@{address}", "main"))
    started = time.monotonic()
    for wrong in (f"redis+cluster://{address}", f"redis+cluster://:secret@{address}"):
        with pytest.raises(BackendError, match="user and password") as caught:
            manage(wrong).load("k")
        assert not isinstance(caught.value, BackendUnavailable)
        assert "secret" not in str(caught.value)
    with pytest.raises(BackendError):
        manage(f"redis+cluster://:{QUOTED}@{address}/1").load("k")
    assert time.monotonic() - started < 3.0
    state = manage(f"redis+cluster://:{QUOTED}@{address}", "main", timeout=0.5)
    revision = state.revision
    node.end()
    with pytest.raises(BackendUnavailable):
        state.save("k", 1)
    with pytest.raises(BackendUnavailable):
        manage(f"redis+cluster://:{QUOTED}@{address}", "main", timeout=0.5).revision
    assert revision > 0


def test_a_cluster_of_three_nodes(start: Callable[..., Server], manage: Any) -> None:
    nodes = cluster(start, REDIS["redis-7.0"], 3)
    addresses = [f"redis+cluster://127.0.0.1:{node.port}" for node in nodes]
    with redis.RedisCluster("127.0.0.1", nodes[0].port) as client:
        client.set("state:old:a", "1")
        client.set("state:old:b", "[2]")
        client.set("checkpoint:old:before", '{"a": 0}')
    old = manage(addresses[1], "old")
    assert (old.load("a"), old.load("b"), old.load("a", at="before")) == (1, [2], 0)
    old.backend.drop()
    use_all(manage(addresses[0], "main"))
    for number in range(20):
        with StateManager(addresses[number % 3], f"ns-{number}") as state:
            state.save("k", number)
    for number in range(20):
        assert manage(addresses[(number + 1) % 3], f"ns-{number}").load("k") == number
    assert all(node.client().dbsize() for node in nodes)
    with pytest.raises(BackendError, match="redis"):
        manage(f"redis://127.0.0.1:{nodes[0].port}", "nowhere", timeout=0.2).save("k", 1)


def test_a_failover_by_a_sentinel(start: Callable[..., Server], manage: Any, tmp_path: Path) -> None:
    path = REDIS["redis-7.0"]
    login = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
    primary = start(path, *login)
    replica = start(path, *login, "--replicaof", "127.0.0.1", str(primary.port))
    until(lambda: primary.client(password=PASSWORD).info("replication")["connected_slaves"] == 1)
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor store 127.0.0.1 {primary.port} 1\nsentinel auth-pass store {PASSWORD}\nrequirepass watcher\n"
        "sentinel down-after-milliseconds store 300\nsentinel failover-timeout store 3000\n"
    )
    sentinel = free_port()
    watcher = subprocess.Popen(
        [path, str(configuration), "--sentinel", "--bind", "127.0.0.1", "--port", str(sentinel)],
        stdout=subprocess.DEVNULL, preexec_fn=redis_servers._end_with_parent,
    )  # fmt: skip
    try:
        asked = redis.Redis(port=sentinel, password="watcher", retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 99))
        until(lambda: asked.sentinel_slaves("store") and "slave" in str(asked.sentinel_slaves("store")[0]["flags"]))
        url = f"redis+sentinel://:{QUOTED}@127.0.0.1:{free_port()},127.0.0.1:{sentinel}/store/2?sentinel_password=watcher"
        state = manage(url, "main", timeout=20.0)
        assert "watcher" not in state.url
        use_all(state)
        assert primary.client(password=PASSWORD, db=2).dbsize() > 0
        before = {key: state.load(key) for key in state.list_keys()}
        assert primary.client(password=PASSWORD).wait(1, 5000) == 1
        primary.end()
        revision = state.revision
        assert state.save("after", 1) == revision + 1
        assert {key: state.load(key) for key in state.list_keys()} == {**before, "after": 1}
        assert replica.client(password=PASSWORD).info("replication")["role"] == "master"
        assert state.recover().ok
        unknown = manage(url.replace("/store/", "/nothing/"), timeout=0.2)
        with pytest.raises(BackendUnavailable, match="nothing"):
            unknown.load("k")
    finally:
        watcher.kill()
        watcher.wait()
