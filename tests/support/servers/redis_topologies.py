"""Several Redis servers that belong together: a cluster, a set with sentinels, and a primary with a replica.

Each keeps its data in memory alone. Each can be made to lose what its replicas do not have yet:

    with redis_topologies.sentinels(path) as servers, StateManager(servers.url, "main") as state:
        servers.cut("main")      # what is committed from now on reaches no replica
        servers.kill("main")     # SIGKILL for the primary of the namespace
        servers.promoted("main") # waits until a replica is the primary
        servers.mend()           # the killed server is the replica of the new primary, which nothing is missing

With `proxied=True` a proxy stands before each server and sentinel. Clients learn the addresses of the proxies alone.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis
from redis.cluster import key_slot
from redis_proxy import RedisProxy
from redis_servers import BUS_OFFSET, Server, free_port, until

SLOTS = 16384
MEND_SECONDS = 60.0  # sentinels look again after some ten seconds at a replica that they did not reach
PATIENCE = 2000  # milliseconds after which the nodes of a cluster miss another, and sentinels a primary
HASTE = 1000  # the same, where a failover is what is tested; a server that gets no processor for so long is replaced
_REPLICATION = ("--repl-diskless-sync-delay", "0")
_NO_LOGIN = "a password that no primary has"  # a replica that gives it stays without its primary


class Topology(ABC):
    """Servers that keep copies of the same data."""

    url: str
    """The store URL."""
    announce: str
    """The option by which a server tells the others another port than its own."""

    def __init__(self, stack: ExitStack, path: str, login: dict[str, str], proxied: bool = False) -> None:
        self.stack, self.path, self.login, self.proxied = stack, path, login, proxied
        self.servers: list[Server] = []
        self.proxies: list[RedisProxy] = []

    def add(self, *options: str, settings: str | None = None, wait: bool = True) -> Server:
        """Start a server that ends with the topology, behind its proxy."""
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-")))
        if self.proxied:
            self.proxies.append(self.stack.enter_context(RedisProxy()))
            if settings is None:
                options = (self.announce, str(self.proxies[-1].port), *options)
        server = Server(self.path, folder, *options, settings=settings, wait=wait)
        self.stack.callback(server.end)
        if self.proxied:
            self.proxies[-1].lead_to(server.url)
        return server

    def port(self, server: Server) -> int:
        """The port at which others find a server: its own, or that of its proxy."""
        return next((proxy.port for proxy in self.proxies if proxy.target_port == server.port), server.port)

    def place(self, server: Server) -> tuple[str, str]:
        return "127.0.0.1", str(self.port(server))

    def client(self, server: Server, **options: Any) -> redis.Redis:
        return server.client(**self.login, **options)

    def info(self, server: Server) -> dict[str, Any]:
        """What a server says of its copies; nothing if it does not answer."""
        try:
            with self.client(server, socket_timeout=1.0) as client:
                found: dict[str, Any] = client.info("replication")
        except redis.RedisError:
            return {}
        return found

    def alive(self) -> list[Server]:
        return [one for one in self.servers if one.process.poll() is None]

    @abstractmethod
    def primary(self, namespace: str) -> Server | None:
        """The server that clients are sent to for a namespace; None where it is dead or a replica."""

    def replicas(self, primary: Server) -> list[Server]:
        """The live servers that copy a primary."""
        return [one for one in self.alive() if self.info(one).get("master_port") == self.port(primary)]

    def cut(self, namespace: str, number: int | None = None) -> None:
        """Cut the replicas of a namespace off from their primary, all or so many of them, until `mend`."""
        primary = self.primary(namespace)
        assert primary is not None
        for one in self.replicas(primary)[:number]:
            with self.client(one) as client:
                client.config_set("masterauth", _NO_LOGIN)
                client.execute_command("CLIENT KILL TYPE master")

    def catch_up(self, namespace: str) -> None:
        """Hold up the writes to a namespace until its replicas have all. The primary must be killed next."""
        primary = self.primary(namespace)
        assert primary is not None
        with self.client(primary) as client:
            client.execute_command("CLIENT PAUSE 60000 WRITE")
        self._wait_for_copies(primary)

    def _wait_for_copies(self, primary: Server) -> None:
        """Wait until each replica has what its primary has now."""
        end = self.info(primary)["master_repl_offset"]
        for one in self.replicas(primary):
            until(lambda one=one: self._has_copied(one, end))  # type: ignore[misc]

    def _has_copied(self, replica: Server, end: int) -> bool:
        info = self.info(replica)
        return info.get("master_link_status") == "up" and int(info["slave_repl_offset"]) >= end

    def kill(self, namespace: str) -> Server:
        """Kill the primary of a namespace, and return it."""
        primary = self.primary(namespace)
        assert primary is not None
        primary.end()
        return primary

    def promoted(self, namespace: str) -> Server:
        """Wait until clients are sent to a primary of a namespace again, and return it."""
        until(lambda: self.primary(namespace) is not None)
        found = self.primary(namespace)
        assert found is not None
        return found

    @abstractmethod
    def mend(self) -> None:
        """Start the servers that were killed, and wait until each replica has what its primary has."""

    @abstractmethod
    def failovers(self) -> int:
        """How many failovers there were, also of a primary that was only slow."""

    def _reconnect(self) -> None:
        """Undo `cut`."""
        for one in self.alive():
            with self.client(one) as client:
                client.config_set("masterauth", self.login.get("password", ""))


# --- a cluster --------------------------------------------------------------------------------------------------------


class Cluster(Topology):
    """Primaries that share the slots, each with the same number of replicas."""

    announce = "--cluster-announce-port"

    def primary(self, namespace: str) -> Server | None:
        slot = key_slot(f"{{{namespace}}}".encode())
        for one in self.alive():
            try:
                with self.client(one, socket_timeout=1.0) as client:
                    state = client.cluster("info")["cluster_state"]
                    nodes: dict[str, Any] = client.cluster("nodes") if state == "ok" else {}
            except redis.RedisError:
                continue  # it is about to start
            for node in nodes.values():
                if "myself" in node["flags"] and "master" in node["flags"] and _has(node["slots"], slot):
                    return one
        return None

    def failovers(self) -> int:
        epochs = []
        for one in self.alive():
            with self.client(one) as client:
                epochs.append(int(client.cluster("info")["cluster_current_epoch"]))
        return max(epochs) - len(self.servers)  # `form` gives an epoch to each

    def form(self, primaries: int, copies: int) -> None:
        """Join the servers, and wait until each knows all."""
        clients = [self.client(one) for one in self.servers]
        for number, client in enumerate(clients):
            if number < primaries:
                low, high = SLOTS * number // primaries, SLOTS * (number + 1) // primaries - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", low, high)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for other in self.servers[:number]:
                client.execute_command("CLUSTER MEET", *self.place(other), other.port + BUS_OFFSET)
        for client in clients:
            until(partial(_knows, client, len(clients), 0))
        names = [client.execute_command("CLUSTER MYID") for client in clients]
        for number, client in enumerate(clients[primaries:]):
            client.execute_command("CLUSTER REPLICATE", names[number % primaries])
        self._settle(primaries * copies)
        for client in clients:
            client.close()

    def _settle(self, copies: int) -> None:
        for one in self.servers:
            with self.client(one) as client:
                until(partial(_knows, client, len(self.servers), copies))
        for one in self.servers:
            until(lambda one=one: _is_settled(self.info(one)))  # type: ignore[misc]
        for one in self.servers:
            self._wait_for_copies(one)

    def mend(self) -> None:
        self._reconnect()
        primaries = sum(self.info(one).get("role") == "master" for one in self.alive())
        for one in self.servers:
            if one.process.poll() is not None:
                one.start(one.port)
        self._settle(len(self.servers) - primaries)


def _has(slots: list[list[str]], slot: int) -> bool:
    return any(int(span[0]) <= slot <= int(span[-1]) for span in slots)


def _knows(client: redis.Redis, size: int, copies: int) -> bool:
    """Whether a node of a cluster accepts commands, and knows so many nodes, of which so many are replicas."""
    if client.cluster("info")["cluster_state"] != "ok":
        return False
    flags = [node["flags"] for node in client.cluster("nodes").values()]
    found = len(flags), sum("slave" in one for one in flags), sum("fail" in one for one in flags)
    return found == (size, copies, 0)


def _is_settled(info: dict[str, Any]) -> bool:
    """Whether a replica that said this has its primary; a primary always has."""
    return info.get("role") == "master" or info.get("master_link_status") == "up"


@contextmanager
def cluster(
    path: str, primaries: int = 3, replicas: int = 1, *options: str, patience: int = PATIENCE,
    password: str | None = None, proxied: bool = False,
) -> Iterator[Cluster]:  # fmt: skip
    """Start a cluster whose primaries have so many replicas each. With `HASTE` a lost primary is replaced after 3 s."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(patience), *_REPLICATION, *options)
    options = (*options, "--cluster-replica-validity-factor", "0")
    if password is not None:
        options = (*options, "--requirepass", password, "--masterauth", password)
    with ExitStack() as stack:
        one = Cluster(stack, path, {} if password is None else {"password": password}, proxied)
        one.servers = [one.add(*options, wait=False) for _ in range(primaries * (1 + replicas))]
        for server in one.servers:
            until(lambda server=server: server.process.poll() is not None or server.is_ready())  # type: ignore[misc]
            if server.process.poll() is not None:  # another took its port, or that of its bus
                server.start(free_port())
        for proxy, server in zip(one.proxies, one.servers, strict=False):
            proxy.lead_to(server.url)
        one.form(primaries, replicas)
        one.url = "redis+cluster://" + ",".join(f"127.0.0.1:{one.port(server)}" for server in one.servers)
        yield one


# --- a primary with replicas ------------------------------------------------------------------------------------------


class Set(Topology):
    """A primary and its replicas."""

    announce = "--replica-announce-port"

    def __init__(
        self, stack: ExitStack, path: str, login: dict[str, str], replicas: int, options: tuple[str, ...],
        proxied: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(stack, path, login, proxied)
        options = (*_REPLICATION, *options)
        if login:
            options = (*options, "--requirepass", login["password"], "--masterauth", login["password"])
        self.servers = [self.add(*options)]
        self.servers += [self.add(*options, "--replicaof", *self.place(self.servers[0])) for _ in range(replicas)]
        for server in self.servers[1:]:
            server.options = server.options[:-3]  # what it is a replica of changes
        until(lambda: len(self.replicas(self.servers[0])) == len(self.servers) - 1)
        self._wait_for_copies(self.servers[0])

    def _is_whole(self) -> bool:
        """Whether each other server copies the primary."""
        primary = self.primary("")
        return primary is not None and len(self.replicas(primary)) == len(self.servers) - 1

    def mend(self) -> None:
        primary = self.promoted("")
        self._reconnect()
        for one in self.servers:
            if one.process.poll() is not None:
                one.start(one.port, True, "--replicaof", *self.place(primary))
        until(self._is_whole, MEND_SECONDS)
        self._wait_for_copies(self.promoted(""))


class SentinelSet(Set):
    """A primary, its replicas, and sentinels that replace it."""

    SERVICE = "store"

    def watch(self, number: int, patience: int, password: str | None) -> None:
        """Start the sentinels, and wait until each knows the replicas and the others."""
        lines = [
            f"sentinel monitor {self.SERVICE} {' '.join(self.place(self.servers[0]))} {number // 2 + 1}",
            f"sentinel down-after-milliseconds {self.SERVICE} {patience}",
            f"sentinel failover-timeout {self.SERVICE} 3000",
            f"sentinel parallel-syncs {self.SERVICE} {len(self.servers)}",
        ]
        if self.login:
            lines.append(f"sentinel auth-pass {self.SERVICE} {self.login['password']}")
        if password is not None:
            lines.append(f"requirepass {password}")
        settings = "\n".join(lines) + "\n"
        self.password = password
        self.sentinels = [self.add(settings=settings) for _ in range(number)]
        until(self._all_know)

    def _all_know(self) -> bool:
        for told in map(self._told, self.sentinels):
            others = int(told.get("num-other-sentinels", -1)), int(told.get("num-slaves", -1))
            if others != (len(self.sentinels) - 1, len(self.servers) - 1):
                return False
        return True

    def _told(self, sentinel: Server) -> dict[str, Any]:
        """What a sentinel knows of the primary; nothing if it does not answer."""
        try:
            with sentinel.client(password=self.password, socket_timeout=1.0) as client:
                found: dict[str, Any] = client.sentinel_master(self.SERVICE)
        except redis.RedisError:
            return {}
        return found

    def primary(self, namespace: str) -> Server | None:
        ports = {self._told(one).get("port") for one in self.sentinels}
        for one in self.alive():
            if ports == {self.port(one)} and self.info(one).get("role") == "master":
                return one
        return None

    def failovers(self) -> int:
        return max(int(self._told(one)["config-epoch"]) for one in self.sentinels)

    def mend(self) -> None:
        """Start the servers that were killed as replicas, and wait until the sentinels have ended the failover."""
        super().mend()
        until(lambda: all(self._told(one).get("flags") == "master" for one in self.sentinels))


@contextmanager
def sentinels(
    path: str, replicas: int = 2, watchers: int = 3, *options: str, patience: int = PATIENCE,
    password: str | None = None, sentinel_password: str | None = None, proxied: bool = False,
) -> Iterator[SentinelSet]:  # fmt: skip
    """Start a primary with replicas, and sentinels that replace a lost primary. With `HASTE` they take 2 s."""
    with ExitStack() as stack:
        one = SentinelSet(stack, path, {} if password is None else {"password": password}, replicas, options, proxied)
        one.watch(watchers, patience, sentinel_password)
        addresses = ",".join(f"127.0.0.1:{one.port(server)}" for server in one.sentinels)
        one.url = f"redis+sentinel://{addresses}/{one.SERVICE}/0"
        yield one


class Pair(Set):
    """A primary and replicas without sentinels, behind one address that moves to the new primary.

    A replica becomes the primary in `kill`, in a few milliseconds.
    """

    proxy: RedisProxy
    kills = 0

    def failovers(self) -> int:
        return self.kills

    def primary(self, namespace: str) -> Server | None:
        return next((one for one in self.alive() if self.proxy.target_port == one.port), None)

    def kill(self, namespace: str) -> Server:
        primary = self.primary(namespace)
        assert primary is not None
        copies = self.replicas(primary)
        primary.end()
        new = max(copies, key=lambda one: int(self.info(one)["slave_repl_offset"]))
        with self.client(new) as client:
            client.replicaof("NO", "ONE")
        for one in copies:
            if one is not new:
                with self.client(one) as client:
                    client.replicaof(*self.place(new))
        self.proxy.lead_to(new.url)
        self.kills += 1
        return primary


@contextmanager
def pair(path: str, replicas: int = 1, *options: str) -> Iterator[Pair]:
    """Start a primary with a replica, behind a proxy."""
    with ExitStack() as stack:
        one = Pair(stack, path, {}, replicas, options)
        one.proxy = stack.enter_context(RedisProxy(one.servers[0].url))
        one.url = one.proxy.url
        yield one
