"""Access control of the web server: host name, origin, a token for one use, and session cookies."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Headers(Protocol):
    """The header fields of a request."""

    def get_all(self, key: str) -> Sequence[str]:
        """Return every value of a field. The case of the name does not matter."""


class AccessDenied(Exception):
    """A refused request, with the HTTP status and a line for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Entry(NamedTuple):
    """An authorized request: the host it names, and the cookie to set if it came with the token."""

    host: str
    cookie: str = ""


class Authenticator:
    """Authorizes the browsers that had the token. Each token lets one browser in, which then has a session.

    Other pages in the same browser can send requests to this server, for example by a name that they let resolve to
    this machine. So each request must name a served host, and must not come from another origin. Browsers send a cookie
    to all ports of a host. The name of the cookie contains the port, so that two servers keep their sessions apart.

    Args:
        port: the port of the server.
        names: the served hosts besides the loopback hosts, an IPv6 address in brackets.
        every_address: whether the address at which a request arrives is served, too.

    """

    def __init__(self, port: int, names: Sequence[str] = (), every_address: bool = False) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self._sessions: list[str] = []
        self._cookie = f"stateview_{port}"
        self._used = False  # a browser has come with the present token
        self._every_address = every_address
        self._hosts = {host for name in (*LOOPBACK, *names) for host in self._spellings(name)}

    def renew(self) -> str:
        """Replace the token, and return the new one. The old one lets no browser in any more; sessions go on."""
        self.token, self._used = secrets.token_urlsafe(32), False
        return self.token

    def _spellings(self, name: str) -> Iterator[str]:
        """Yield a host as browsers write it in `Host` and `Origin`: with the port, and for port 80 also without."""
        yield f"{name.lower()}:{self.port}"
        if self.port == 80:
            yield name.lower()

    def authorize(self, fields: Headers, address: str, token: str | None = None, socket: bool = False) -> Entry:
        """Authorize a request.

        Args:
            fields: the header fields of the request.
            address: the address of this machine at which the request arrived, an IPv6 address in brackets.
            token: the token in the URL, or None.
            socket: whether the request opens a WebSocket. It must have an `Origin`.

        Returns:
            The host, and the session cookie if the token was used.

        Raises:
            AccessDenied: the request is refused.

        """
        host = self._host(fields, address)
        origins = fields.get_all("Origin")
        if (socket or origins) and list(origins) != [f"http://{host}"]:
            raise AccessDenied(403, "Refused: the request comes from a page of another origin.")
        if self._has_session(fields):
            return Entry(host)
        if token is None:
            raise AccessDenied(403, "Refused: no token. Open the URL that `stateview serve` printed.")
        if not _equal(token, self.token):
            raise AccessDenied(403, "Refused: wrong token. Open the URL that `stateview serve` printed last.")
        if self._used:
            raise AccessDenied(
                403,
                "Refused: this URL was used already, and it works in one browser only. "
                "For another browser, press u where `stateview serve` runs: it prints a new URL.",
            )
        self._used = True
        session = secrets.token_urlsafe(32)
        self._sessions.append(session)
        return Entry(host, f"{self._cookie}={session}; Path=/; HttpOnly; SameSite=Strict")

    def _host(self, fields: Headers, address: str) -> str:
        hosts = [host.strip().lower() for host in fields.get_all("Host")]
        if len(hosts) == 1:
            served = self._hosts | set(self._spellings(address)) if self._every_address else self._hosts
            if hosts[0] in served:
                return hosts[0]
        raise AccessDenied(421, "Refused: not served by this name. Use the URL that `stateview serve` printed.")

    def _has_session(self, fields: Headers) -> bool:
        for field in fields.get_all("Cookie"):
            for pair in field.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self._cookie and any(_equal(value, session) for session in self._sessions):
                    return True
        return False


def _equal(text: str, secret: str) -> bool:
    """Compare a text with a secret in constant time, so that the time reveals nothing about the secret."""
    return hmac.compare_digest(text.encode(errors="surrogatepass"), secret.encode())
