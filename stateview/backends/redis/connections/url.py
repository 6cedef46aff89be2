"""Check the store URL of a Redis server, of which redis-py would leave out or reinterpret what it does not expect."""

from __future__ import annotations

import inspect
import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from redis.connection import SSLConnection

_OPTIONS = (  # of redis-py, those that a text can give
    "client_name", "db", "health_check_interval", "lib_name", "lib_version", "max_connections", "password", "protocol",
    "retry_on_timeout", "socket_connect_timeout", "socket_keepalive", "socket_timeout", "username",
)  # fmt: skip
_BOOLEANS = ("retry_on_timeout", "socket_keepalive", "ssl_check_hostname")
_ONLY_TRUE = ("ssl", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled")  # redis-py takes any text for true
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_MAX_TIMEOUT_SECONDS = 1_000_000  # the system takes no timeout that is longer by far
_TRUE = ("1", "t", "true", "y", "yes")
_FALSE = ("0", "f", "false", "n", "no")
_SETTLED = ("decode_responses", "encoding", "encoding_errors")  # this package needs bytes

Address = tuple[str, int]


class RedisURL(NamedTuple):
    """The parts of a store URL that `open_client` needs. The user and password are still quoted."""

    login: str
    addresses: list[Address]
    names: list[str]
    query: str


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
    options = _options(query, scheme)
    if login and {"username", "password"} & options.keys():
        raise ValueError("user and password are given before @ and as options; give them once")
    if scheme == "unix":
        if not body.startswith("/"):
            raise ValueError("give the whole path of the socket, as unix:///PATH")
        return RedisURL(login, [], [], query)
    hosts, _, path = body.partition("/")
    names = unquote(path).rstrip("/").split("/")
    if scheme == "redis+sentinel":
        addresses = [_address(host, 26379) for host in hosts.split(",")]
        if not all(host for host, _ in addresses):
            raise ValueError("the host of a sentinel is missing")
        if len(names) > 2:
            raise ValueError(f"after the hosts come SERVICE/DB, and not {path!r}")
        databases = names[1:]
    else:
        if "," in hosts and scheme != "redis+cluster":
            several = "redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"
            raise ValueError(f"it names several servers; give one, or use {several}")
        addresses, databases = (
            [_address(host, 6379) for host in hosts.split(",")],
            ["/".join(names)] if names != [""] else [],
        )
    for database in databases:
        if not (database.isascii() and database.isdigit()):
            raise ValueError(f"the database {database!r} is not a number")
    databases += [options["db"]] if "db" in options else []
    if len(databases) > 1:
        raise ValueError("the database is given after the address and as the option db; give it once")
    if scheme == "redis+cluster" and any(int(database) for database in databases):
        raise ValueError(f"a cluster has no database {databases[0]}, only 0")
    return RedisURL(login, addresses, names, query)


def _address(text: str, default: int) -> Address:
    """Parse `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`."""
    host, bracket, rest = text[1:].partition("]") if text.startswith("[") else ("", "", "")
    if text.startswith("["):
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address: an IPv6 address is written [ADDRESS]:PORT")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
    if not colon:
        return host, default
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        raise ValueError(f"the port {port!r} is not a number from 1 to 65535")
    return host, int(port)


def _options(query: str, scheme: str) -> dict[str, str]:
    """Return the options of a URL, each checked."""
    if not query:
        return {}
    known = {*_OPTIONS}
    if scheme in ("rediss", "redis+cluster", "redis+sentinel"):
        known |= {name for name in inspect.signature(SSLConnection.__init__).parameters if name.startswith("ssl_")}
        known = known - {"ssl_ocsp_context"} | (set() if scheme == "rediss" else {"ssl"})
    if scheme == "redis+sentinel":
        known |= {"sentinel_username", "sentinel_password"}
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("host", "port"):
            raise ValueError(f"the {name} is part of the address, not an option")
        if name in _SETTLED:
            raise ValueError(f"{name} cannot be chosen")
        if name not in known:
            raise ValueError(f"there is no option {name[:40]!r} for {scheme}://")
        if name in options:
            raise ValueError(f"the option {name} is given twice")
        if problem := _problem(name, value):
            raise ValueError(f"the option {name} {problem}")
        options[name] = value
    return options


def _problem(name: str, value: str) -> str:
    """Return what is wrong with the value of an option; "" if nothing is."""
    if not value:
        return "has no value"
    least = {"db": 0, "health_check_interval": 0, "max_connections": 1}.get(name)
    if least is not None:
        if not (value.isascii() and value.isdigit() and int(value) >= least):
            return f"is not a whole number from {least} on"
    elif name in ("socket_timeout", "socket_connect_timeout"):
        try:
            is_timeout = 0 < float(value) <= _MAX_TIMEOUT_SECONDS
        except ValueError:
            is_timeout = False
        if not is_timeout:
            return f"is not a number of seconds above 0, up to {_MAX_TIMEOUT_SECONDS:,}"
    elif name in _BOOLEANS and value.lower() not in (*_TRUE, *_FALSE):
        return "is neither true nor false"
    elif name in _ONLY_TRUE and value.lower() not in _TRUE:
        return "is not true; where it is not wanted, leave it out"
    elif name == "protocol" and value not in ("2", "3"):
        return "is neither 2 nor 3"
    elif name == "ssl_cert_reqs" and value not in ("none", "optional", "required"):
        return "is none of none, optional, required"
    elif name in _FILES and not os.path.exists(value):
        return "names a file that does not exist"
    return ""
