"""Who is let in: the name that the server was asked by, the page that asks, a token for one use, and a session."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Headers(Protocol):
    """The header fields of a request."""

    def get_all(self, key: str) -> Sequence[str]:
        """Every value of a field, whatever the case of its name."""


class AccessDenied(Exception):
    """A request that is not answered: the HTTP status, and a line for the person who sent it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Entry(NamedTuple):
    """A request that was let in: the host it named, and the cookie to set if it came with the token."""

    host: str
    cookie: str = ""


class Authenticator:
    """Lets in the one browser that comes with the token.

    A page that is open in the same browser may send requests anywhere: by a name of its own that it makes resolve to
    this machine, or as a foreign page. So each request must name a host that is served, and none may come from
    another origin. A cookie is sent to every port of a host; its name holds the port so that two servers on one
    machine do not put each other out.

    Args:
        port: the port that is listened on.
        names: the hosts it is served as besides those of the loopback, an IPv6 address in brackets.
        every_address: also by whichever address of this machine the request arrived at.

    """

    def __init__(self, port: int, names: Sequence[str] = (), every_address: bool = False) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"stateview_{port}"
        self._used = False
        self._every_address = every_address
        self._hosts = {place for name in (*LOOPBACK, *names) for place in self._places(name)}

    def _places(self, name: str) -> Iterator[str]:
        """Yield a host as browsers write it in `Host` and `Origin`: without the port where that is HTTP's own."""
        yield f"{name.lower()}:{self.port}"
        if self.port == 80:
            yield name.lower()

    def authorize(self, fields: Headers, address: str, token: str | None = None, socket: bool = False) -> Entry:
        """Let a request in.

        Args:
            fields: its header fields.
            address: of this machine, at which it arrived; an IPv6 address in brackets.
            token: the one in its URL; None where there is none.
            socket: whether it opens a WebSocket, which must say where it comes from.

        Returns:
            the host, and the cookie that stands for the token from now on.

        Raises:
            Refused: it is not let in.

        """
        host = self._host(fields, address)
        origins = fields.get_all("Origin")
        if (socket or origins) and list(origins) != [f"http://{host}"]:
            raise AccessDenied(403, "Refused: this was asked for by a page of another origin, or of none.")
        if self._has_session(fields):
            return Entry(host)
        if token is None:
            raise AccessDenied(403, "Refused: no token. Open the URL that `stateview serve` printed.")
        if not _equal(token, self.token):
            raise AccessDenied(403, "Refused: this is not the token. Open the URL that `stateview serve` printed last.")
        if self._used:
            raise AccessDenied(
                403,
                "Refused: this URL was used already, and it is for one browser only. "
                "For another browser, end `stateview serve` and start it anew: it prints a new URL.",
            )
        self._used = True
        return Entry(host, f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict")

    def _host(self, fields: Headers, address: str) -> str:
        hosts = [host.strip().lower() for host in fields.get_all("Host")]
        if len(hosts) == 1:
            served = self._hosts | set(self._places(address)) if self._every_address else self._hosts
            if hosts[0] in served:
                return hosts[0]
        raise AccessDenied(421, "Refused: not served by this name. Use the URL as `stateview serve` printed it.")

    def _has_session(self, fields: Headers) -> bool:
        for field in fields.get_all("Cookie"):
            for pair in field.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self._cookie and _equal(value, self._session):
                    return True
        return False


def _equal(given: str, secret: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), secret.encode())
