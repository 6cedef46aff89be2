"""Redis as it is met in earnest: logins, clusters, failovers, lost replies, stale caches, servers that refuse."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis_topologies
from conftest import REDIS
from redis_servers import Server, free_port, until

from stateview import StateManager
from stateview.backends import open_backend
from stateview.backends.protocol import CheckpointWrite, CommitRequest, Write
from stateview.backends.redis.connections.server import FIRST_CONTACT_SECONDS, MAX_IDLE_SESSIONS, script_hash
from stateview.backends.redis.scripts.commit import COMMIT as COMMIT_SCRIPT
from stateview.backends.redis.scripts.common import NAMES as PARTS
from stateview.errors import (
    BackendError,
    BackendUnavailable,
    CommitUnknown,
    Damaged,
    InvalidName,
    ReadOnly,
    StateException,
)

PASSWORD = "p@ss:w/rd?"
QUOTED = "p%40ss%3Aw%2Frd%3F"
COMMIT = script_hash(COMMIT_SCRIPT).encode()
FIRST = next(iter(REDIS.values()), "")  # where one server is enough
each_server = pytest.mark.parametrize("path", REDIS.values() or [""], ids=REDIS)


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
    return COMMIT in request


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends them with the test."""
    with ExitStack() as stack:

        def one(path: str = FIRST, *options: str, port: str = "--port") -> Server:
            server = Server(path, tmp_path_factory.mktemp("redis"), *options, port_option=port)
            stack.callback(server.end)
            return server

        yield one


@pytest.fixture
def enter() -> Iterator[Callable[..., Any]]:
    """Starts several servers that belong together, and ends them with the test."""
    with ExitStack() as stack:
        yield stack.enter_context


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
    assert [row.key for row in state.rows()] == ["a", "brief"]
    assert [row.key for row in state.rows(backwards=True, limit=2, skip=1, at="first")] == ["a", "b"]
    assert (state.count(), state.count("b"), state.count("b", at="first")) == (2, 1, 2)
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
    assert state.compact(state.revision) > 0
    assert state.load("a", at="first") == {"n": 1}
    timer = threading.Timer(0.1, state.save, ("late", 1))
    timer.start()
    revision, started = state.revision, time.monotonic()
    assert state.backend.wait(revision, 20.0) == revision + 1
    assert time.monotonic() - started < 15
    timer.join()  # it has its reply before the server ends


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
        assert time.monotonic() - started < 5
    server.signal(signal.SIGCONT)


@pytest.mark.parametrize("option", ["socket_timeout=soon", "decode_responses=true", "no_such_option=1"])
def test_an_option_that_cannot_be_is_said(url: str, manage: Any, option: str) -> None:
    with pytest.raises(BackendError, match=option.partition("=")[0]):
        manage(f"{url}?{option}").save("k", 1)


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


@each_server
def test_a_cluster_of_one_node_with_a_password(path: str, enter: Callable[..., Any], manage: Any) -> None:
    [node] = enter(redis_topologies.cluster(path, 1, 0, password=PASSWORD)).servers
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
    assert time.monotonic() - started < 9  # not tried again for 10 s
    state = manage(f"redis+cluster://:{QUOTED}@{address}", "main", timeout=0.5)
    revision = state.revision
    node.end()
    with pytest.raises(BackendUnavailable):
        state.save("k", 1)
    with pytest.raises(BackendUnavailable):
        manage(f"redis+cluster://:{QUOTED}@{address}", "main", timeout=0.5).revision
    assert revision > 0


def test_a_cluster_of_three_nodes(
    enter: Callable[..., Any], manage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("stateview.backends.redis.turns.LATE_SECONDS", 30.0)  # no waiter of a slow machine is late
    nodes = enter(redis_topologies.cluster(FIRST, 3, 0)).servers
    addresses = [f"redis+cluster://127.0.0.1:{node.port}" for node in nodes]
    with redis.RedisCluster("127.0.0.1", nodes[0].port) as client:
        client.set("state:old:a", "1")
        client.set("state:old:b", "[2]")
        client.set("checkpoint:old:before", '{"a": 0}')
    old = manage(addresses[1], "old")
    assert (old.load("a"), old.load("b"), old.load("a", at="before")) == (1, [2], 0)
    old.backend.drop()
    use_all(manage(addresses[0], "main"))
    turns = manage(addresses[0], "main").backend
    assert turns.wait_turn("n", "a", 0, 30.0)[0] and not turns.wait_turn("n", "b", 0, 30.0)[0]
    assert turns.end_turn("n", "a") == 1 and turns.wait_turn("n", "b", 0, 30.0)[0]  # its mail came from a script
    assert turns.end_turn("n", "b") == 0 and not turns.is_turn_wanted("n")
    for number in range(20):
        with StateManager(addresses[number % 3], f"ns-{number}") as state:
            state.save("k", number)
    for number in range(20):
        assert manage(addresses[(number + 1) % 3], f"ns-{number}").load("k") == number
    assert all(node.client().dbsize() for node in nodes)
    rows = manage(addresses[0], "main").backend.numbers([f"ns-{number}" for number in range(20)])
    assert [tuple(row) for row in rows] == [(f"ns-{number}", 1, 1, 0) for number in range(20)]
    seeds = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{nodes[2].port}"
    assert manage(seeds, "ns-3").load("k") == 3
    with pytest.raises(BackendError, match="redis"):
        manage(f"redis://127.0.0.1:{nodes[0].port}", "nowhere", timeout=0.2).save("k", 1)


def test_a_commit_waits_while_its_slot_is_moved_and_is_applied_once(enter: Callable[..., Any], manage: Any) -> None:
    source, target = enter(redis_topologies.cluster(FIRST, 2, 0)).servers
    slot = redis.cluster.key_slot(b"main")
    if slot >= 8192:
        source, target = target, source
    state = manage(f"redis+cluster://127.0.0.1:{source.port}", "main")
    state.revision
    to = target.client().execute_command("CLUSTER MYID").decode()
    source.client().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", to)  # the target sends all clients back
    done = threading.Timer(0.7, source.client().execute_command, ("CLUSTER SETSLOT", slot, "STABLE"))
    done.start()
    assert state.save("k", 1) == 1
    done.join()
    assert [commit.revision for commit in state.log()] == [1]


def test_an_open_manager_follows_one_address_to_the_new_primary(start: Callable[..., Server], manage: Any) -> None:
    former = start(FIRST, "--repl-diskless-sync-delay", "0")
    new = start(FIRST, "--replicaof", "127.0.0.1", str(former.port))
    until(lambda: former.client().info("replication")["connected_slaves"] == 1)
    proxy = Proxy(former.url)
    state = manage(proxy.url, "main")
    state.save("k", 1)
    until(lambda: new.client().exists("stateview:{main}:head"))  # WAIT tells only of what its own connection wrote
    new.client().replicaof("NO", "ONE")
    former.client().replicaof("127.0.0.1", new.port)
    proxy.target = redis.connection.parse_url(new.url)  # connections that are open still lead to the former
    assert state.save("k", 2) == 2
    assert manage(new.url, "main").load("k") == 2
    proxy.close()


def test_too_few_replicas_are_waited_for_and_then_named(start: Callable[..., Server], manage: Any) -> None:
    server = start(FIRST)
    state = manage(server.url, "main", timeout=0.5)
    state.save("k", 1)
    server.client().config_set("min-replicas-to-write", 1)
    with pytest.raises(BackendUnavailable, match="min-replicas-to-write"):
        state.save("k", 2)
    assert state.revision == 1
    threading.Timer(0.5, server.client().config_set, ("min-replicas-to-write", 0)).start()
    assert manage(server.url, "main").save("k", 2) == 2


def test_an_explicit_timeout_holds_for_the_first_contact_too(start: Callable[..., Server], manage: Any) -> None:
    server = start(FIRST)
    server.end()
    code = f"from stateview import StateManager; StateManager({server.url!r}, 'main', timeout=20).save('k', 1)"
    other = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(FIRST_CONTACT_SECONDS + 0.5)
    server.start(server.port)
    assert other.wait() == 0
    assert manage(server.url, "main").load("k") == 1


def test_a_fork_does_not_wait_for_a_server_that_does_not_answer(start: Callable[..., Server], manage: Any) -> None:
    server = start(FIRST)
    server.end()
    state = manage(server.url, "main", timeout=20)
    thread = threading.Thread(target=state.save, args=("k", 1))
    thread.start()
    until(lambda: not state.backend._contact_mutex.acquire(blocking=False) or state.backend._contact_mutex.release())
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert thread.is_alive()  # within its 20 s
    server.start(server.port)
    thread.join()
    assert state.load("k") == 1


def test_a_close_does_not_wait_for_the_first_contact(start: Callable[..., Server], manage: Any) -> None:
    server = start()
    state = manage(f"redis://127.0.0.1:{server.port}", "main", timeout=60)
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        contact = threading.Thread(target=lambda: state.load("k", None), daemon=True)
        contact.start()
        until(lambda: state.backend._link.client is not None)
        closing = threading.Thread(target=state.close, daemon=True)
        closing.start()
        until(lambda: not closing.is_alive())
        assert contact.is_alive()
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    contact.join()


def test_a_failover_by_a_sentinel(enter: Callable[..., Any], manage: Any) -> None:
    made = redis_topologies.sentinels(
        FIRST, 1, 1, patience=redis_topologies.HASTE, password=PASSWORD, sentinel_password="watcher"
    )
    servers = enter(made)
    primary, replica = servers.servers
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{servers.sentinels[0].port}"
    url = f"redis+sentinel://:{QUOTED}@{hosts}/store/2?sentinel_password=watcher"
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
    with pytest.raises(BackendUnavailable, match=r"No master found for 'nothing'\. Check"):
        unknown.load("k")


# --- lost replies --------------------------------------------------------------------------------------------------


def test_what_is_sent_again_after_a_lost_reply_is_applied_once(url: str, proxy: Proxy, manage: Any) -> None:
    chance = random.Random(1)
    verdicts = ["drop", "drop", "refuse", "pass", "pass", "pass"]
    proxy.judge = lambda request: chance.choice(verdicts) if is_commit(request) else "pass"
    state, direct = manage(proxy.url, "main"), manage(url, "main")
    for number in range(1, 121):
        if number % 3 == 0:
            with state.transaction() as tx:
                tx.save("count", tx.load("count") + 1)
        elif number % 3 == 1:
            assert state.update("count", lambda n: n + 1, default=0) == number
        else:
            assert state.save("count", number) == number
        assert (direct.load("count"), direct.revision) == (number, number)
    assert proxy.drops >= 50
    proxy.drops = 0
    for number in range(40):
        state.checkpoint(f"c{number}")
    assert direct.list_checkpoints() == [f"c{number}" for number in range(40)]
    assert proxy.drops >= 5
    assert [commit.revision for commit in direct.log(1000)] == list(range(120, 0, -1))


def test_what_is_sent_again_never_overwrites_what_is_newer(url: str, proxy: Proxy, manage: Any) -> None:
    state, direct = manage(proxy.url, "main"), manage(url, "main")
    state.save("k", "oldest")
    first = [True]
    proxy.judge = lambda request: "drop" if is_commit(request) and first else "pass"

    def answered() -> None:
        first.clear()
        direct.save("k", "newer")

    proxy.answered = answered
    for number in range(60):
        first[:] = [True]
        revision = state.save("k", f"older {number}")
        assert state.load("k") == direct.load("k") == "newer"
        assert [entry.value for entry in direct.history("k", 2)] == ["newer", f"older {number}"]
        assert direct.revision == revision + 1 == 2 * (number + 1) + 1
    assert proxy.drops == 60


def test_a_commit_that_may_be_applied_is_said_so(url: str, proxy: Proxy, manage: Any) -> None:
    state, direct = manage(proxy.url, "main", timeout=0.3), manage(url, "main")
    state.save("k", 1)
    proxy.judge = lambda request: "drop" if is_commit(request) else "pass"
    proxy.answered = proxy.close
    with pytest.raises(CommitUnknown, match="may or may not"):
        state.save("k", 2)
    assert direct.load("k") == 2
    with pytest.raises(BackendUnavailable) as caught:
        state.save("k", 3)
    assert not isinstance(caught.value, CommitUnknown)
    assert direct.load("k") == 2


def test_a_refusal_after_a_lost_reply_does_not_hide_it(
    url: str, proxy: Proxy, start: Callable[..., Server], manage: Any
) -> None:
    replica = start(FIRST, "--replicaof", "127.0.0.1", str(free_port()))
    state = manage(proxy.url, "main", timeout=1.0)
    state.save("k", 1)
    proxy.judge = lambda request: "drop" if is_commit(request) else "pass"
    proxy.answered = lambda: proxy.target.update(port=replica.port)
    with pytest.raises(CommitUnknown):
        state.save("k", 2)
    assert manage(url, "main").load("k") == 2


def test_a_connection_that_breaks_as_it_is_made_has_sent_nothing(url: str, proxy: Proxy, manage: Any) -> None:
    state = manage(proxy.url, "main", timeout=0.3)
    state.save("k", 1)
    for pair in proxy.pairs:
        _shut(*pair)
    proxy.judge = lambda request: "refuse"
    with pytest.raises(BackendUnavailable) as caught:
        state.save("k", 2)
    assert not isinstance(caught.value, CommitUnknown)


@each_server
def test_what_was_sent_before_is_known_for_thousands_of_commits(
    path: str, start: Callable[..., Server], manage: Any
) -> None:
    server = start(path)
    client, state = server.client(), manage(server.url, "main")
    state.save("k", 0)
    for number in range(4):
        client.hset("stateview:{main}:tokens", mapping={f"{number}-{other}": "1 1" for other in range(10_000)})
        revision = state.backend.commit(CommitRequest({"k": Write(b"1")}, token=f"save {number}")).revision
        known = client.hlen("stateview:{main}:tokens"), client.hlen("stateview:{main}:older")
        assert known[0] < 10
        assert known[1] < 10_010
        state.backend.commit(CommitRequest(marks=(CheckpointWrite("c"),), token=f"mark {number}"))
        for token in (f"save {number}", f"save {max(0, number - 1)}", f"mark {number}", f"mark {max(0, number - 1)}"):
            state.backend.commit(CommitRequest({"k": Write(b"2")}, token=token))
        assert (state.revision, state.load("k")) == (revision, 1) == (number + 2, 1)


def test_a_commit_that_arrives_after_its_client_went_on_is_not_applied(url: str, manage: Any) -> None:
    state = manage(url, "main")
    state.save("k", 1)
    state.save("k", 2)
    backend = state.backend
    session = backend._sessions[-1]
    late = backend._commit_args(CommitRequest({"k": Write(b"0")}), session.next())
    state.save("k", 3)
    again = backend._commit_args(CommitRequest({"k": Write(b"0")}), (late[2], b"%d" % (int(late[3]) + 1)))
    with redis.Redis.from_url(url) as client:
        for words in (late, again):
            try:
                client.eval(COMMIT_SCRIPT, len(backend._keys), *backend._keys, *words)
            except redis.ResponseError as error:
                assert words is late
                assert "given up" in str(error)
    assert (state.revision, state.load("k")) == (3, 3)


def test_connections_are_given_back(start: Callable[..., Server], manage: Any) -> None:
    server = start()
    few = manage(server.url + "?max_connections=2", "main")
    for number in range(20):
        assert few.save("k", number) == number + 1
        assert few.load("k") == number
    many = manage(server.url, "many")
    barrier = threading.Barrier(30)

    def save(number: int) -> None:
        barrier.wait()
        many.save("k", number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert many.revision == 30
    assert sum(session.has_connection for session in many.backend._sessions) <= MAX_IDLE_SESSIONS
    many.close()
    few.close()
    until(lambda: len(server.client().client_list()) == 1)
    assert many.save("k", 0) == 31


def test_a_namespace_is_measured_in_one_round_trip(url: str, manage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state, sent = manage(url), []
    state.save("k", 1)
    assert state.backend.disk_usage() is not None  # connected by now
    send, own = redis.connection.Connection.send_packed_command, threading.get_ident()

    def counted(self: Any, command: Any, *arguments: Any, **options: Any) -> Any:
        sent.extend([command] * (threading.get_ident() == own))
        return send(self, command, *arguments, **options)

    monkeypatch.setattr(redis.connection.Connection, "send_packed_command", counted)
    assert state.backend.disk_usage().total > 0
    assert len(sent) == 1
    with state.backend.snapshot(whole=True) as copied:
        assert copied.get("k").value == b"1"
        assert copied is not state.backend
    assert len(sent) == 3


# --- loads from memory ---------------------------------------------------------------------------------------------

_ECHO = """
import sys
from stateview import StateManager
with StateManager(sys.argv[1], "main") as state:
    for line in sys.stdin:
        state.save("k", int(line))
        print(state.load("k"), flush=True)
        print(state.load("k") if sys.stdin.readline() else "", flush=True)
"""


@each_server
def test_the_very_next_load_sees_what_another_committed(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path)
    one, other = manage(server.url, "main"), manage(server.url, "main")
    for number in range(1500):
        one.save("k", number)
        assert other.load("k") == other.load("k") == number
        other.save("k", -number)
        assert one.load("k") == one.load("k") == -number
    asked = server.client().info("commandstats")["cmdstat_hget"]["calls"]
    for _ in range(1000):
        assert one.load("k") == other.load("k") == -1499
        assert one.load("absent", None) is None
    assert server.client().info("commandstats")["cmdstat_hget"]["calls"] <= asked + 3


def test_the_very_next_load_sees_what_another_process_committed(url: str, manage: Any) -> None:
    state = manage(url, "main")
    with subprocess.Popen(
        [sys.executable, "-c", _ECHO, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        for number in range(1000):
            echo.stdin.write(f"{number}\n")
            assert echo.stdout.readline() == f"{number}\n"
            assert state.load("k") == number
            state.save("k", -number)
            echo.stdin.write("\n")
            assert echo.stdout.readline() == f"{-number}\n"
        echo.stdin.close()


@each_server
def test_a_killed_connection_and_a_restart_make_no_load_stale(
    path: str, start: Callable[..., Server], manage: Any
) -> None:
    server = start(path, "--appendonly", "yes", "--appendfsync", "always")
    one, other = manage(server.url, "main"), manage(server.url, "main")
    for number in range(30):
        one.save("k", number)
        assert other.load("k") == other.load("k") == number
        for connection in tracking(server.client()):
            server.client().client_kill_filter(_id=connection["id"])
        one.save("k", number + 0.5)
        assert other.load("k") == number + 0.5
    for number in range(3):
        assert other.load("k") == one.load("k")
        server.end()
        server.start(server.port)
        with StateManager(server.url, "main") as third:
            third.save("k", -number)
        assert (one.load("k"), other.load("k")) == (-number, -number)
        assert one.save("k", number) == other.revision


def test_nothing_is_stale_for_long_behind_a_network_that_went_quiet(url: str, proxy: Proxy, manage: Any) -> None:
    state, direct = manage(f"{proxy.url}?socket_timeout=0.3", "main", timeout=0.5), manage(url, "main")
    state.save("k", 1)
    assert state.load("k") == state.load("k") == 1
    proxy.held = True
    direct.save("k", 2)
    changed, last_stale, errors = time.monotonic(), 0.0, 0
    while time.monotonic() < changed + 3.0:
        asked = time.monotonic()
        try:
            if state.load("k") == 1:
                last_stale = asked
        except BackendUnavailable:
            errors += 1
        time.sleep(0.01)
    assert last_stale < changed + 2.0
    assert errors > 0
    proxy.held = False
    for pair in proxy.pairs:
        _shut(*pair)
    assert state.load("k") == 2


def test_a_frozen_server_is_an_error_or_the_truth(start: Callable[..., Server], manage: Any) -> None:
    server = start()
    state = manage(server.url + "?socket_timeout=0.2", "main", timeout=0.3)
    state.save("k", 1)
    assert state.load("k") == 1
    server.signal(signal.SIGSTOP)
    end, errors = time.monotonic() + 2.0, 0
    while time.monotonic() < end:
        try:
            assert state.load("k") == 1
        except BackendUnavailable:
            errors += 1
    assert errors > 0
    server.signal(signal.SIGCONT)
    manage(server.url, "main").save("k", 2)
    assert state.load("k") == 2


@each_server
def test_without_leave_to_track_all_works_without_memory(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path)
    client = server.client()
    client.acl_setuser("plain", enabled=True, nopass=True, keys=["stateview:*", "state:*", "checkpoint:*"],
                       commands=["+@all", "-client|tracking"])  # fmt: skip
    state = manage(f"redis://plain:any@127.0.0.1:{server.port}", "main")
    use_all(state)
    other = manage(server.url, "main")
    for number in range(100):
        other.save("k", number)
        assert state.load("k") == state.load("k") == number
        assert other.load("k") == number
    assert [one["user"] for one in tracking(client)] == ["default"]


def test_a_child_with_a_warm_memory_sees_what_is_committed(url: str, manage: Any) -> None:
    state = manage(url, "main")
    state.save("k", "parent")
    assert state.load("k") == state.load("k") == "parent"
    down, up = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.read(down[0], 1)
            if state.load("k") == "parent, later":
                state.save("k", "child")
                code = 0
        finally:
            os._exit(code)
    state.save("k", "parent, later")
    os.write(down[1], b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state.load("k") == state.load("k") == "child"
    assert state.save("k", "again") == 4
    for end in (*down, *up):
        os.close(end)


def test_a_close_beside_threads_that_read_and_write_is_no_error_of_the_library(url: str, manage: Any) -> None:
    """The dashboard's way, when it ends or goes to another store: what is under way connects anew."""
    state = manage(url, "main")
    with state.transaction() as many:
        for number in range(500):
            many.save(f"k{number}", "x" * 2000)
    ended, failed = threading.Event(), []
    backend = open_backend(url, "main")

    def run(act: Callable[[], Any]) -> None:
        while not ended.is_set():
            try:
                act()
            except Exception as error:
                failed.append(error)

    saved = [0]

    def save() -> None:
        backend.commit(CommitRequest({"count": Write(b"%d" % (saved[0] + 1))}))
        saved[0] += 1

    acts = (backend.versions_page, backend.scan, save, lambda: backend.wait(1 << 40, 0.01))
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for _ in range(200):
        time.sleep(0.005)
        backend.close()
    ended.set()
    for thread in threads:
        thread.join()
    backend.close()
    assert failed == []
    assert (state.load("count"), state.revision) == (saved[0], 1 + saved[0])


def test_threads_of_one_manager_load_and_wait_while_another_writes(url: str, manage: Any) -> None:
    """The dashboard's way: the same connection is looked at by loads and by waits."""
    state, writer = manage(url, "main"), manage(url, "main")
    writer.save("k", 0)
    acknowledged, wrong, loads = [0], [], [0]

    def load() -> None:
        while acknowledged[0] < 600:
            least = acknowledged[0]
            if state.load("k") < least:
                wrong.append(least)
            loads[0] += 1

    def wait() -> None:
        seen = 1
        while acknowledged[0] < 600:
            started = time.monotonic()
            seen = state.backend.wait(seen, 20.0)
            if time.monotonic() - started > 15:
                wrong.append(seen)

    threads = [threading.Thread(target=act) for act in (load, load, load, wait, wait)]
    for thread in threads:
        thread.start()
    for number in range(1, 601):
        writer.save("k", number)
        acknowledged[0] = number
        if number % 100 == 0:
            time.sleep(0.05)
    writer.save("k", 601)
    for thread in threads:
        thread.join(40.0)
    assert not [thread for thread in threads if thread.is_alive()]
    assert wrong == []
    assert loads[0] > 600


@each_server
def test_wait_is_woken_by_another_client(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path)
    state, other = manage(server.url, "main"), manage(server.url, "main")
    other.save("k", 0)
    for number in range(2, 12):
        timer = threading.Timer(0.05, other.save, ("k", number))
        timer.start()
        revision = state.backend.wait(number - 1, 10.0)
        late = time.monotonic()
        timer.join()
        assert (revision, state.load("k")) == (number, number)
        assert state.entry("k").time.timestamp() > time.time() - (time.monotonic() - late) - 8
    started = time.monotonic()
    assert state.backend.wait(11, 0.3) == 11
    assert time.monotonic() - started > 0.25
    timer = threading.Timer(0.05, other.save, ("k", "seen"))
    timer.start()
    assert [change.after for change in state.watch(timeout=0.5)] == ["seen"]
    timer.join()


# --- names, and what is asked of the server ------------------------------------------------------------------------

KEYS = ["*", "?", "[a]", "{a}", "}{", "a:b", "a", "a:", "\\", "\x01", "\x01\x01", "a\x01", "\x02"]


@each_server
def test_neighbours_do_not_meet(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path)
    spaces = ["a", "a-b", "a.b", "ab", "a_", "A"]
    managers = {name: manage(server.url, name) for name in spaces}
    for name, state in managers.items():
        with state.transaction() as tx:
            for key in KEYS:
                tx.save(key, [name, key])
        state.checkpoint("full")
    managers["a"].backend.drop()
    managers["ab"].compact(managers["ab"].revision)
    for key in KEYS:
        managers["A"].delete(key)
    assert managers["A"].list_keys() == managers["a"].list_keys() == managers["a"].list_checkpoints() == []
    for name in ("a-b", "a.b", "ab", "a_"):
        assert {key: managers[name].load(key) for key in managers[name].list_keys()} == {
            key: [name, key] for key in KEYS
        }
        assert managers[name].list_keys("a") == ["a", "a\x01", "a:", "a:b"]
        assert managers[name].list_checkpoints() == ["full"]
    assert managers["A"].load("*", at="full") == ["A", "*"]
    assert managers["a-b"].namespaces() == sorted(spaces[1:])
    assert not [key for key in server.client().scan_iter() if key.startswith(b"stateview:{a}")]


@each_server
def test_what_is_asked_of_the_server(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path)
    client = server.client()
    state = manage(server.url, "main")
    state.save("k", 1)
    client.ping()
    with server.client().monitor() as monitor:
        state.save("k", 2)
        client.echo("done")
        asked = []
        while asked[-1:] != ["ECHO"]:
            line = monitor.next_command()
            if line["client_type"] != "lua":
                asked.append(line["command"].split()[0])
    assert asked == ["EVALSHA", "ECHO"]
    client.config_resetstat()
    with StateManager(server.url, "main") as fresh:
        for act in (
            fresh.head, lambda: fresh.load("k"), fresh.list_keys, lambda: fresh.save("k", 3),
            lambda: fresh.checkpoint("c"), lambda: fresh.diff("c").counts, lambda: fresh.history("k"), fresh.log,
            lambda: fresh.blame("k"),
            lambda: fresh.restore_checkpoint("c", dry_run=True), lambda: fresh.update("k", lambda n: n + 1), fresh.undo,
            fresh.list_checkpoints, lambda: fresh.restore_checkpoint(1), fresh.undo,
            fresh.rows, lambda: fresh.rows(skip=1, backwards=True, at="c"), lambda: fresh.count("a", "z"),
            lambda: fresh.delete("k"), lambda: fresh.at("c").load("k"), lambda: fresh.count(at="c"), fresh.compact,
        ):  # fmt: skip
            act()
    called = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert called.isdisjoint({"keys", "scan", "hscan", "zscan", "sscan", "smembers", "hkeys", "hvals", "flushdb"})
    whole = [line for line in client.slowlog_get(1000) if line["command"].startswith(b"HGETALL")]
    assert not [line for line in whole if b":live" in line["command"] or b":history" in line["command"]]


def test_history_is_trimmed_in_portions_and_all_that_is_kept_is_right(url: str, manage: Any) -> None:
    state, chance = manage(url, "main", history=300), random.Random(2)
    model: dict[str, int] = {}
    states: list[dict[str, int]] = [{}]
    marked: dict[str, int] = {}
    for number in range(900):
        key = f"k{chance.randrange(6)}"
        if key in model and chance.random() < 0.3:
            state.delete(key)
            del model[key]
        else:
            state.save(key, number, ttl=chance.choice([None, 1000]))
            model[key] = number
        states.append(dict(model))
        if chance.random() < 0.01:
            state.checkpoint(f"c{number}")
            marked[f"c{number}"] = len(states) - 1
        if chance.random() < 0.01 and marked:
            state.delete_checkpoint(name := chance.choice(sorted(marked)))
            del marked[name]
        head = state.head()
        assert min(head.revision, 300) <= head.revision - head.floor <= 303
    assert head.floor > 590
    for ref, revision in [
        *marked.items(),
        *((revision, revision) for revision in range(head.floor, head.revision + 1)),
    ]:
        view = state.at(ref)
        assert {key: view.load(key) for key in view.list_keys()} == states[revision]
    state.compact(state.revision)
    for ref, revision in marked.items():
        assert {key: state.load(key, at=ref) for key in state.list_keys(at=ref)} == states[revision]


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_a_reader_sees_all_of_a_large_commit_or_nothing(url: str, manage: Any) -> None:
    keys = [f"k{number:06}" for number in range(50_000)]
    state, reader = manage(url, "main"), manage(url, "main")
    state.save("z", 0)
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            values = reader.backend.read([*keys[::5000], keys[-1]])
            seen.append({version.value for version in values.values()} | {len(values)})
            seen.append({reader.head().count})
            time.sleep(0.002)

    thread = threading.Thread(target=look)
    thread.start()
    for value in (b"1", b"2"):
        state.backend.commit(CommitRequest({key: Write(value) for key in keys}))
    done.set()
    thread.join()
    assert all(one in ({0}, {b"1", 11}, {b"2", 11}, {1}, {50_001}) for one in seen)
    assert len(seen) > 4
    assert state.head().count == 50_001
    assert reader.load(keys[-1]) == 2


def test_a_commit_that_takes_longer_than_a_reply_may_is_applied_once(start: Callable[..., Server], manage: Any) -> None:
    """The client's patience ends, and the server says BUSY meanwhile: it is waited for all the same."""
    server = start(FIRST, "--lua-time-limit", "20")
    state, other = manage(server.url + "?socket_timeout=0.1", "main"), manage(server.url, "main")
    other.save("count", 0)
    writes = {f"k{number:06}": Write(b"1") for number in range(30_000)}
    thread = threading.Thread(
        target=state.backend.commit, args=(CommitRequest({**writes, "count": Write(b"1")}, {"count": 1}),)
    )
    thread.start()
    while thread.is_alive():
        assert other.load("count") in (0, 1)
        assert other.save("beside", 1)
        time.sleep(0.01)
    thread.join()
    assert other.load("count") == 1
    assert [commit.keys for commit in other.log(10_000)].count(30_001) == 1
    assert other.recover().ok


# --- servers that refuse -------------------------------------------------------------------------------------------

SECRET = "hunter2"


def contents(client: redis.Redis) -> dict[bytes, bytes | None]:
    return {key: client.dump(key) for key in client.scan_iter()}


def no_login(server: Server) -> None:
    server.client().config_set("requirepass", "other")


def full(server: Server) -> None:
    server.client().config_set("maxmemory", "1")


def no_disk(server: Server) -> None:
    client = server.client()
    os.mkdir(server.folder / "dump.rdb")
    client.config_set("save", "3600 1")
    client.bgsave()
    until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


def replica(server: Server) -> None:
    server.client().replicaof("127.0.0.1", "1")


def planted(name: str) -> Callable[[Server], None]:
    def plant(server: Server) -> None:
        client = server.client()
        client.delete(f"stateview:{{main}}:{name}")
        client.set(f"stateview:{{main}}:{name}", "planted")

    plant.__name__ = name
    return plant


def damaged(server: Server) -> None:
    server.client().hset("stateview:{main}:live", "b", "not what was written")


REFUSALS: list[tuple[Callable[[Server], None], type[StateException], str]] = [
    (no_login, BackendError, "user and password"),
    (full, BackendError, "maxmemory"),
    (no_disk, BackendError, "disk"),
    (replica, ReadOnly, "primary"),
    (damaged, Damaged, "recover"),
    *((planted(name), Damaged, "Another program wrote") for name in PARTS if name not in ("damaged", "touched")),
]


@each_server
@pytest.mark.parametrize("refusal", REFUSALS, ids=[one[0].__name__ for one in REFUSALS])
def test_a_refusal_says_what_to_do_and_changes_nothing(
    path: str, start: Callable[..., Server], manage: Any, refusal: Any
) -> None:
    make, kind, hint = refusal
    server = start(path)
    url = f"redis://default:{SECRET}@127.0.0.1:{server.port}"
    with StateManager(server.url, "main") as state:
        state.save("a", 1)
        state.save("b", 1)
        state.checkpoint("c")
        state.save("brief", 1, ttl=100)
    watcher = server.client(single_connection_client=True)
    watcher.ping()
    make(server)
    before = contents(watcher)
    state = manage(url, "main")
    writes = {name: Write(b"2") for name in ("a", "b", "brief", "new")}
    acts = [lambda: state.backend.commit(CommitRequest(writes, marks=(CheckpointWrite("d"),)))]
    if make.__name__ not in ("hexpiry", "marks", "notes"):  # not every commit has to do with these
        acts += [lambda: state.backend.commit(CommitRequest(writes)), lambda: state.delete("b") or state.save("b", 1)]
    for act in acts:
        started = time.monotonic()
        with pytest.raises(kind, match=hint) as caught:
            act()
        assert time.monotonic() - started < 9  # not tried again for 10 s
        assert not isinstance(caught.value, BackendUnavailable)
        said = str(caught.value)
        assert len(said.splitlines()) == 1
        assert SECRET not in said
        assert "***" in said
        assert "Traceback" not in said
    assert contents(watcher) == before


@each_server
def test_recover_sets_aside_what_is_damaged(path: str, start: Callable[..., Server], manage: Any) -> None:
    server = start(path)
    client = server.client()
    state, other = manage(server.url, "main"), manage(server.url, "main")
    for number in range(3):
        state.save("b", number)
    state.save("fine", 1)
    damaged(server)
    client.hset("stateview:{main}:live", b"\xff", "1 1 0 1")
    client.zadd("stateview:{main}:index", {"bare": 0})
    client.zrem("stateview:{main}:index", "fine")
    assert other.load("fine") == 1
    report = state.recover()
    assert not report.ok
    subjects = ["the key index", "key 'b'", "key '\ufffd'", "the key index"]
    subjects += ["the value of key 'b'", "the value of key 'bare'"]
    assert [problem.subject for problem in report.problems] == subjects
    aside = {b"b": b"not what was written", b"\xff": b"1 1 0 1"}
    assert client.hgetall(report.kept[0]) == aside
    assert client.zscore(report.kept[1], "bare") == 0
    assert state.list_keys() == other.list_keys() == ["fine"]
    assert other.load("b", None) is None
    assert [entry.value for entry in state.history("b")][-2:] == [1, 0]
    state.revert("b", 2)
    assert other.load("b") == 1
    assert state.recover().problems == ()


@pytest.mark.parametrize(
    ("entries", "listed"),
    [({"k1": "x"}, []), ({"k1": "3 1 x 1"}, []), ({}, ["bare"]), ({b"k\xff": "1 1 0 1"}, [b"k\xff"])],
    ids=["an entry", "an expiry", "a key without an entry", "a key that is no text"],
)
def test_a_list_of_what_is_damaged_is_an_error(
    url: str, manage: Any, entries: dict[Any, str], listed: list[Any]
) -> None:
    state = manage(url, "main")
    for number in range(3):
        state.save(f"k{number}", number)
    assert len(state.rows()) == 3
    with redis.Redis.from_url(url) as client:
        for name, packed in entries.items():
            client.hset("stateview:{main}:live", name, packed)
        for name in listed:
            client.zadd("stateview:{main}:index", {name: 0})
    for backwards in (False, True):
        with pytest.raises(Damaged):
            state.rows(backwards=backwards)
    assert state.recover().kept or listed == ["bare"]
    assert {row.key for row in state.rows()} <= {"k0", "k1", "k2"}


def test_recover_among_writers_finds_nothing_and_breaks_nothing(url: str, manage: Any) -> None:
    state, writer = manage(url, "main"), manage(url, "main")
    done = threading.Event()

    def write() -> None:
        for number in range(400):
            writer.save(f"k{number % 7}", number)
            writer.delete(f"k{number % 7}")
        writer.save("k", 1)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        assert state.recover().problems == ()
    thread.join()
    assert state.list_keys() == ["k"]


def test_a_server_that_loads_its_data_is_waited_for(start: Callable[..., Server], manage: Any) -> None:
    server = start(FIRST, "--key-load-delay", "600", "--loading-process-events-interval-bytes", "1024")
    client = server.client()
    for number in range(3000):
        client.set(f"other:{number}", "x" * 100)
    first = manage(server.url, "main")
    first.save("k", 1)
    client.save()
    server.end()
    server.start(server.port, wait=False)
    late = manage(server.url, "main", timeout=0.1)
    until(lambda: b"loading" in server.log().lower())
    with pytest.raises(BackendUnavailable, match="loading"):
        late.load("k")
    assert first.save("k", 2) == 2
    assert late.load("k") == 2


def test_a_refused_start_stays_refused(url: str, manage: Any) -> None:
    """What made the first contact an error is not forgotten by the second."""
    with redis.Redis.from_url(url) as client:
        client.set("state:older:k", "not JSON")
        client.hset("stateview:{later}:head", mapping={"format": "6", "revision": "1"})
    for name, kind in (("older", Damaged), ("later", BackendError)):
        state = manage(url, name)
        for _ in range(2):
            with pytest.raises(kind):
                state.load("k", None)
            with pytest.raises(kind):
                state.save("k", 1)
    with redis.Redis.from_url(url) as client:
        assert not client.exists("stateview:{older}:head")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel", "unix"])
@pytest.mark.parametrize("sign", "/?#@:")
def test_no_part_of_a_password_is_shown(manage: Any, scheme: str, sign: str) -> None:
    state = manage(f"{scheme}://me:hunter{sign}zwei@127.0.0.1:{free_port()}/x", timeout=0.05)
    with pytest.raises(BackendError) as caught:
        state.load("k")
    for said in (str(caught.value), state.url, repr(state)):
        assert "hunter" not in said
        assert "zwei" not in said


@pytest.mark.parametrize("url", ["redis:", "redis:/x", "redis+tls://h", "unix:/x", "http://localhost"])
def test_what_is_no_store_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidName, match="not a store"):
        open_backend(url, "main")
