"""A network between clients and a Redis server, which delays, freezes, swallows or cuts what goes through it.

Connections on which a server announces commits (`CLIENT TRACKING`) have faults of their own. So have all others, with
`proxy.plain` in the place of `proxy.announcements`:

    with RedisProxy("redis://127.0.0.1:6379") as proxy:
        proxy.announcements.delay = 0.03      # seconds, in each direction
        proxy.announcements.frozen = True     # nothing goes through until it is False again; nothing is lost
        proxy.announcements.swallows = True   # nothing goes through, and it is lost
        proxy.cut(proxy.announcements)        # ends the connections; new ones may be opened

Replicas and sentinels that come through the proxy have `proxy.servers`: no fault of clients is one of theirs.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from types import TracebackType

import redis

NOWHERE = "redis://127.0.0.1:1"  # a port on which no server listens
OF_SERVERS = (b"REPLCONF", b"sentinel-")  # words of replicas, and in the names of the connections of sentinels
LOOK_SECONDS = 0.002  # between two looks whether a frozen link goes on


class Link:
    """What becomes of the bytes of some connections, and how many there were.

    Attributes:
        delay: seconds that each chunk takes, in each direction.
        frozen: nothing goes through, and nothing is lost.
        swallows: nothing goes through, and it is lost.
        trips: how often clients sent something after the server did: the round trips.
        sent, received: bytes from clients, and from the server.

    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.frozen = False
        self.swallows = False
        self.trips = self.sent = self.received = 0


class _Connection:
    def __init__(self, proxy: RedisProxy, client: socket.socket, server: socket.socket) -> None:
        self.link = proxy.plain  # until it says whose it is
        self._asked = False  # whether the last chunk came from the client
        self._proxy = proxy
        self._ends = (client, server)
        for source, target in (self._ends, self._ends[::-1]):
            chunks: queue.Queue[tuple[float, bytes]] = queue.Queue()
            threading.Thread(target=self._receive, args=(source, source is client, chunks), daemon=True).start()
            threading.Thread(target=self._send, args=(target, chunks), daemon=True).start()

    def _receive(self, source: socket.socket, asks: bool, chunks: queue.Queue[tuple[float, bytes]]) -> None:
        try:
            while chunk := source.recv(1 << 20):
                if asks and b"TRACKING" in chunk:
                    self.link = self._proxy.announcements
                elif asks and any(word in chunk for word in OF_SERVERS):
                    self.link = self._proxy.servers
                self._count(len(chunk), asks)
                chunks.put((time.monotonic() + self.link.delay, chunk))
        except OSError:
            pass  # it was cut
        chunks.put((0.0, b""))

    def _count(self, size: int, asks: bool) -> None:
        if asks:
            self.link.trips += not self._asked
            self.link.sent += size
        else:
            self.link.received += size
        self._asked = asks

    def _send(self, target: socket.socket, chunks: queue.Queue[tuple[float, bytes]]) -> None:
        try:
            while (item := chunks.get())[1]:
                while self.link.frozen or time.monotonic() < item[0]:
                    time.sleep(LOOK_SECONDS)
                if not self.link.swallows:
                    target.sendall(item[1])
        except OSError:
            pass  # it was cut
        self.close()

    def close(self) -> None:
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was first
            end.close()


class RedisProxy:
    """Listens on a loopback port, and connects each client with the server."""

    def __init__(self, server: str = NOWHERE) -> None:
        self.plain, self.announcements, self.servers = Link(), Link(), Link()
        self._target = redis.connection.parse_url(server)
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/{self._target.get('db', 0)}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return  # the proxy was closed
            try:
                server = socket.create_connection((self._target["host"], self._target["port"]))
            except OSError:
                client.close()  # no server is there; another may come
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(_Connection(self, client, server))

    @property
    def target_port(self) -> int:
        """The port of the server to which new connections lead."""
        return int(self._target["port"])

    def lead_to(self, server: str) -> None:
        """Let new connections lead to another server. Those that are open stay where they are."""
        self._target = redis.connection.parse_url(server)

    def count(self, link: Link) -> int:
        """How many connections were ever opened over a link."""
        return sum(connection.link is link for connection in self._connections)

    def cut(self, link: Link) -> None:
        for connection in self._connections:
            if connection.link is link:
                connection.close()

    def __enter__(self) -> RedisProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.plain.frozen = self.announcements.frozen = False
        for connection in self._connections:
            connection.close()
