"""Check the store URL of a Redis server, of which redis-py would leave out or reinterpret what it does not expect.

The options of this package are split off before redis-py sees the URL. A further one is a line of `Options`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_type_hints
from urllib.parse import parse_qsl, unquote, unquote_plus

from redis.connection import SSLConnection

Parser = Callable[[str], Any]  # of the value of an option; a ValueError continues the sentence "the option NAME"
_MAX_TIMEOUT_SECONDS = 1_000_000  # the system takes no timeout that is longer by far
_TRUE = ("1", "t", "true", "y", "yes")
_FALSE = ("0", "f", "false", "n", "no")
_SETTLED = ("decode_responses", "encoding", "encoding_errors")  # this package needs bytes


def _whole(least: int, most: int | None = None) -> Parser:
    """Return the parser of a whole number in a range."""

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 19:
            number = int(text)
            if least <= number and (most is None or number <= most):
                return number
        raise ValueError(f"is not a whole number from {least} " + ("on" if most is None else f"to {most:,}"))

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise ValueError(f"is not a number of seconds above 0, up to {_MAX_TIMEOUT_SECONDS:,}")
    return seconds


def _duration(text: str) -> float:
    """Parse what may be 0 too, as the argument of `StateManager` may."""
    return 0.0 if text.strip("0.") == "" and text.count(".") < 2 and "0" in text else _seconds(text)


def _boolean(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError("is neither true nor false")
    return text.lower() in _TRUE


def _true(text: str) -> bool:
    """Parse what redis-py takes for true whatever it says."""
    if text.lower() not in _TRUE:
        raise ValueError("is not true; where it is not wanted, leave it out")
    return True


def _word(*words: str) -> Parser:
    """Return the parser of a choice between words."""

    def read(text: str) -> str:
        if text not in words:
            several = f"is none of {', '.join(words)}"
            raise ValueError(f"is neither {words[0]} nor {words[1]}" if len(words) == 2 else several)
        return text

    return read


def _file(text: str) -> str:
    if not os.path.exists(text):
        raise ValueError("names a file that does not exist")
    return text


class Options(NamedTuple):
    """The options of this package in a store URL: each with its type, the parser of its text, and its default."""

    allow_eviction: Annotated[bool, _boolean] = False  # make a namespace although the server may evict it
    wait_replicas: Annotated[int, _whole(0)] = 0  # how many replicas confirm a commit
    wait_timeout: Annotated[float, _duration] = 1.0  # seconds that a commit waits for them
    consistency: Annotated[str, _word("cached", "strict")] = "cached"  # whether repeated loads come from memory
    max_stale: Annotated[float, _duration] = 0.5  # seconds that a load from memory may be old
    timeout: Annotated[float | None, _seconds] = None  # seconds to retry through transient errors


_OWN: dict[str, Parser] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Options, include_extras=True).items()
}
_OF_REDIS_PY: dict[str, Parser] = {  # those that a text can give
    "client_name": str, "db": _whole(0), "health_check_interval": _whole(0), "lib_name": str, "lib_version": str,
    "max_connections": _whole(1), "password": str, "protocol": _word("2", "3"), "retry_on_timeout": _boolean,
    "socket_connect_timeout": _seconds, "socket_keepalive": _boolean, "socket_timeout": _seconds, "username": str,
}  # fmt: skip
_OF_SENTINELS: dict[str, Parser] = {"sentinel_username": str, "sentinel_password": str}
_OF_TLS: dict[str, Parser] = {  # those of which not every text is right
    "ssl": _true, "ssl_validate_ocsp": _true, "ssl_validate_ocsp_stapled": _true, "ssl_check_hostname": _boolean,
    "ssl_cert_reqs": _word("none", "optional", "required"), "ssl_ca_certs": _file, "ssl_ca_path": _file,
    "ssl_certfile": _file, "ssl_keyfile": _file,
}  # fmt: skip

Address = tuple[str, int]


class RedisURL(NamedTuple):
    """The parts of a store URL that `open_client` needs. The user and password are still quoted.

    `url` and `query` hold the options of redis-py only, and `options` those of this package.
    """

    url: str
    login: str
    addresses: list[Address]
    names: list[str]
    query: str
    options: Options


def parse(url: str) -> RedisURL:
    """Parse a store URL, and check every part.

    Raises:
        ValueError: it names the part that is wrong. It holds no part of the login, and no value of an option.

    """
    scheme, _, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    if any(sign in login for sign in "/?#"):  # redis-py would split the URL there, and errors would show a part of it
        raise ValueError("before the last @, write / as %2F, ? as %3F and # as %23")
    body, _, query = rest[len(login + at) :].partition("?")
    if "#" in body + query:
        raise ValueError("what comes after # would be left out; write # as %23")
    if any(sign <= " " for sign in body):
        raise ValueError("the address holds a blank; write it as %20")
    options = _checked_options(query, scheme)
    own = Options(**{name: read(options[name]) for name, read in _OWN.items() if name in options})
    query = "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in _OWN)
    url = f"{scheme}://{login + at}{body}" + (f"?{query}" if query else "")
    if login and {"username", "password"} & options.keys():
        raise ValueError("user and password are given before @ and as options; give them once")
    if scheme != "rediss" and "ssl" not in options and (tls := [name for name in options if name.startswith("ssl_")]):
        raise ValueError(f"{tls[0]} needs ssl=true beside it")
    if scheme == "unix":
        if not body.startswith("/"):
            raise ValueError("give the whole path of the socket, as unix:///PATH")
        return RedisURL(url, login, [], [], query, own)
    hosts, _, path = body.partition("/")
    names = unquote(path).rstrip("/").split("/")
    if scheme == "redis+sentinel":
        addresses = [_address(host, 26379) for host in hosts.split(",")]
        if not all(host for host, _ in addresses):
            raise ValueError("the host of a sentinel is missing")
        if len(names) > 2:
            raise ValueError("after the hosts come SERVICE/DB, and nothing else")
        databases = names[1:]
    else:
        if "," in hosts and scheme != "redis+cluster":
            several = "redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"
            raise ValueError(f"it names several servers; give one, or use {several}")
        addresses, databases = (
            [_address(host, 6379) for host in hosts.split(",")],
            ["/".join(names)] if names != [""] else [],
        )
        if len(addresses) > 1 and not all(host for host, _ in addresses):
            raise ValueError("the host of a node is missing")
    for database in databases:
        if not (database.isascii() and database.isdigit()):
            raise ValueError("what stands after the address is not the number of a database")
    databases += [options["db"]] if "db" in options else []
    if len(databases) > 1:
        raise ValueError("the database is given after the address and as the option db; give it once")
    if scheme == "redis+cluster" and any(int(database) for database in databases):
        raise ValueError(f"a cluster has no database {databases[0]}, only 0")
    return RedisURL(url, login, addresses, names, query, own)


def _address(text: str, default: int) -> Address:
    """Parse `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`."""
    host, bracket, rest = text[1:].partition("]") if text.startswith("[") else ("", "", "")
    if text.startswith("["):
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address is written [ADDRESS]:PORT")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
    if not colon:
        return host, default
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        raise ValueError("a port is not a number from 1 to 65535; user and password come before the host and an @")
    return host, int(port)


def _checked_options(query: str, scheme: str) -> dict[str, str]:
    """Return the options of a URL as they are written, each checked."""
    if not query:
        return {}
    known = _OWN | _OF_REDIS_PY
    if scheme in ("rediss", "redis+cluster", "redis+sentinel"):
        names = {name for name in inspect.signature(SSLConnection.__init__).parameters if name.startswith("ssl_")}
        names = names - {"ssl_ocsp_context"} | (set() if scheme == "rediss" else {"ssl"})
        known |= {name: _OF_TLS.get(name, str) for name in names}
    if scheme == "redis+sentinel":
        known |= _OF_SENTINELS
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("host", "port"):
            raise ValueError(f"the {name} is part of the address, not an option")
        if name in _SETTLED:
            raise ValueError(f"{name} cannot be chosen")
        if name not in known:
            shown = repr(name) if name.isidentifier() and value and len(name) <= 40 else "of that name"  # or a password
            raise ValueError(f"there is no option {shown} for {scheme}://")
        if name in options:
            raise ValueError(f"the option {name} is given twice")
        if not value:
            raise ValueError(f"the option {name} has no value")
        try:
            known[name](value)
        except ValueError as error:
            raise ValueError(f"the option {name} {error}") from None
        options[name] = value
    return options
