"""Store URLs and backends. A backend is imported only when it is used.

Another package adds a backend by an entry point of the group `stateview.backends`. The entry point's name is the kind
and the URL scheme, and its object is a `BackendKind`. `references/writing-a-backend.md` describes a backend's duties.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import get_ident
from typing import Any

from msgspec import Struct

from ..errors import BackendError, InvalidName
from ..model import check_name
from .protocol import Backend
from .reentry import reentry_error

DEFAULT_ROOT = ".claude/state"
DEFAULT_REDIS = "redis://localhost:6379/0"
GROUP = "stateview.backends"
VARIABLE = r"\$\{(\w+)\}"  # an environment variable in a store URL
_SHOWN_OPTIONS = (  # of a Redis URL: what stands after any other name may be a password that is spelled wrong
    "allow_eviction|client_name|consistency|db|health_check_interval|lib_name|lib_version|max_connections|max_stale"
    "|protocol|retry_on_timeout|sentinel_username|socket_\\w+|ssl(_\\w+)?|timeout|username|wait_replicas|wait_timeout"
)
SECRET_OPTION = r"(?i)(\w*(?:pass|pwd|auth|secret|token)\w*=)([^&]*)"  # of a store URL, and its value
_making: set[tuple[int, str]] = set()  # threads, and the kind of backend that each imports and makes


class Store(Struct, frozen=True):
    """A parsed store URL: the backend's kind, the folder or else the whole URL, and the URL as it may be shown."""

    kind: str
    place: str
    shown: str


class BackendKind(Struct, frozen=True):
    """A kind of backend, which can be described before its code is imported.

    Args:
        name: the kind, such as `json`, and the scheme of its URLs.
        title: its name in texts for people, such as `JSON files`.
        make: imports the backend and makes the one of a namespace: `make(store, namespace, **options)`. It accesses
            neither disk nor network.
        schemes: all schemes of its URLs.
        bare: returns the URL that the kind's bare name stands for; None if the kind needs a URL.
        files: the names and globs of a namespace's files in the folder `PLACE/NAMESPACE`; `()` if a store is no folder.
        options: the options that it takes in addition to `read_only`, `history`, `timeout` and `values`, such as
            `quiet`, which asks for no notes. Others are left out.
        slow_import: whether its client takes long to import. A manager then imports it at the first access.
        server: whether each of its URLs names a server, as `SCHEME://…`.
        takes_path: whether its URLs name a path, as `SCHEME:PATH`, which the kind reads as it likes.
        foreign: whether its stores are another program's, which stateview only reads.

    """

    name: str
    title: str
    make: Callable[..., Backend]
    schemes: tuple[str, ...] = ()
    bare: Callable[[], str] | None = None
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    slow_import: bool = False
    server: bool = False
    takes_path: bool = False
    foreign: bool = False

    @property
    def has_path(self) -> bool:
        """Whether a URL of this kind is `SCHEME:PATH`."""
        return self.takes_path or self.in_folder

    @property
    def in_folder(self) -> bool:
        """Whether a store of this kind is a folder."""
        return bool(self.files)


def _json(store: Store, namespace: str, **options: Any) -> Backend:
    from .jsonfile.backend import JSONBackend

    return JSONBackend(store.place, namespace, **options)


def _sqlite(store: Store, namespace: str, **options: Any) -> Backend:
    from .sqlite.backend import SQLiteBackend

    return SQLiteBackend(store.place, namespace, **options)


def _redis(store: Store, namespace: str, **options: Any) -> Backend:
    from .redis.backend import RedisBackend

    return RedisBackend(store.place, store.shown, namespace, **options)


def _default_redis() -> str:
    return os.environ.get("STATEVIEW_REDIS_URL") or DEFAULT_REDIS


BUILT_IN = {
    kind.name: kind
    for kind in (
        BackendKind("json", "JSON files", _json, ("json",), lambda: f"json:{DEFAULT_ROOT}",
                    ("state.json", "history.jsonl", "checkpoints"), ("checkpoint_files",)),
        BackendKind("sqlite", "SQLite", _sqlite, ("sqlite",), lambda: f"sqlite:{DEFAULT_ROOT}", ("state.db*",),
                    ("durability",)),
        BackendKind("redis", "Redis", _redis, ("redis", "rediss", "redis+cluster", "redis+sentinel", "unix"),
                    _default_redis, options=("wait_replicas", "wait_timeout", "consistency", "max_stale", "quiet"),
                    slow_import=True, server=True),
    )
}  # fmt: skip
_BY_SCHEME = {scheme: kind for kind in BUILT_IN.values() for scheme in kind.schemes}


def folder_kinds() -> list[str]:
    """List the names of the built-in kinds whose stores are folders."""
    return [kind.name for kind in BUILT_IN.values() if kind.in_folder]


def registered() -> list[str]:
    """List the names of the kinds that other packages registered, without importing them."""
    from importlib.metadata import entry_points

    return sorted({point.name for point in entry_points(group=GROUP)} - _BY_SCHEME.keys())


def find_kind(scheme: str) -> BackendKind | None:
    """Return the kind that has a URL scheme, or None. The entry points of other packages are the last to be read."""
    if scheme in _BY_SCHEME:
        return _BY_SCHEME[scheme]
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=scheme):
        return _loaded(point)
    return None


def _loaded(point: Any) -> BackendKind:
    try:
        kind = point.load()
    except Exception as error:  # another package's import can fail in any way
        what = f"the backend {point.name!r} ({point.value}) cannot be loaded: {error}"
        raise InvalidName(what, "Reinstall the package that registers it, or remove the package") from error
    if not isinstance(kind, BackendKind) or kind.name != point.name:
        raise InvalidName(f"the backend {point.name!r} ({point.value}) is no BackendKind of that name")
    return kind


def is_bare(store: str) -> bool:
    """Return whether a store is given by a backend's bare name, such as `sqlite`."""
    kind = None if ":" in store else find_kind(store)
    return kind is not None and kind.name == store and kind.bare is not None


def mask(url: str) -> str:
    """Return a store URL with its password hidden, also where the URL is not written as it should be.

    The name of a variable is shown.
    """
    kind = _BY_SCHEME.get(url.partition(":")[0])
    if kind is not None and kind.in_folder:
        return url
    import re  # here, since a store of files needs no pattern

    start = re.match(r"[a-z+-]*:?//+|[a-z+-]*:/?|", url)[0]  # type: ignore[index]
    login, at, rest = url[len(start) :].rpartition("@")
    user, colon, password = login.partition(":")
    shown = f"{user}:{_hidden(password)}" if colon else login if "//" in start else "***"
    if kind is not None and kind.name == "redis" and "//" in start:
        rest = _mask_misplaced(rest, start)
    masked = f"{start}{shown}@{rest}" if at else start + rest
    return re.sub(SECRET_OPTION, lambda match: match[1] + _hidden(match[2]), masked)


def mask_logins(text: str) -> str:
    """Return a text with the password hidden in each Redis URL in it."""
    import re

    login = r"((?:rediss?|redis\+\w+|unix):[^\s:@]*:)([^\s@'\"]+)(?=@)"
    return re.sub(login, lambda match: match[1] + _hidden(match[2]), text)


def _mask_misplaced(rest: str, start: str) -> str:
    """Hide what stands behind the login of a Redis URL where it cannot stand: it may be a password."""
    import re

    body, question, query = rest.partition("?")
    if not start.startswith("unix"):
        hosts, *names = body.split("/")
        is_name = r"[\w.-]+" if start.startswith("redis+sentinel") else r"\d+"
        names = [name if re.fullmatch(is_name, name) else _hidden(name) for name in names]
        body = "/".join([",".join(map(_mask_host, hosts.split(","))), *names])
    parts = [
        part if re.fullmatch(_SHOWN_OPTIONS, part.partition("=")[0]) or re.match(SECRET_OPTION, part)
        else re.sub(r"^(\w+=)?(.+)", lambda match: (match[1] or "") + _hidden(match[2]), part)
        for part in query.split("&")
    ]  # fmt: skip
    return body + question + "&".join(parts)


def _mask_host(text: str) -> str:
    import re

    if text.startswith("["):
        return text if re.fullmatch(r"\[[\w:.%]*\](:\d*)?", text) else "***"
    host, colon, port = text.partition(":")
    return text if not colon or port.isdigit() else f"{host}:{_hidden(port)}"


def _hidden(password: str) -> str:
    import re

    return password if re.fullmatch(rf"(?:{VARIABLE})*", password) else "***"


def kind_of(store: Store) -> BackendKind:
    """Return the kind of a parsed store."""
    kind = find_kind(store.kind)
    assert kind is not None, "a store is parsed by its kind"
    return kind


def parse_store(url: str, folder: str = "") -> Store:
    """Parse a store URL or a backend's bare name.

    Args:
        url: the URL or the name.
        folder: the folder that a relative path starts from.

    Raises:
        InvalidName: it is neither.

    """
    kind = None if ":" in url else find_kind(url)
    if kind is not None and kind.name == url and kind.bare is not None:
        url = kind.bare()
    scheme, _, rest = url.partition(":")
    kind = find_kind(scheme)
    if kind is None or not rest or (kind.server and not rest.startswith("//")):
        raise _no_store(url)
    if not kind.has_path:
        return Store(kind.name, url, mask(url))
    path = rest.removeprefix("//")
    if "\0" in path:
        raise InvalidName("the path of a store holds a NUL character", "Give another path")
    path = os.path.join(folder, os.path.expanduser(path))
    return Store(kind.name, path, f"{scheme}:{path}")


def absolute_url(store: Store) -> str:
    """Return the URL of a store, password included, which names the same store in every working folder.

    Raises:
        BackendError: the path is relative, and the working folder was removed.

    """
    if not kind_of(store).has_path:
        return store.place
    path = store.place if os.path.isabs(store.place) else os.path.join(working_folder(), store.place)
    return f"{store.shown.partition(':')[0]}:{os.path.normpath(path)}"


def full_url(url: str) -> str:
    """Return the URL of a backend for a message: with the full path, if its store is a folder."""
    scheme, _, path = url.partition(":")
    kind = _BY_SCHEME.get(scheme)
    return f"{scheme}:{os.path.abspath(path)}" if kind is not None and kind.in_folder else url


def working_folder() -> str:
    """Return the path of the working folder.

    Raises:
        BackendError: it was removed.

    """
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise BackendError("the working folder was removed", "Change to a folder that exists") from error


def _no_store(url: str) -> InvalidName:
    more = "".join(f", {name}:…" for name in registered())
    return InvalidName(
        f"{mask(url)!r} is not a store",
        "Use json, sqlite, redis, json:PATH, sqlite:PATH, redis://HOST:PORT/DB, rediss://…, redis+cluster://…,"
        f" redis+sentinel://… or unix://PATH{more}",
    )


def open_backend(url: str, namespace: str, **options: Any) -> Backend:
    """Make the backend of one namespace at a store URL. It accesses neither disk nor network yet.

    Args:
        url: a store URL, or `json`, `sqlite`, `redis`.
        namespace: the namespace's name.
        options: `read_only`, `history`, `timeout`; `values`, the form of stored values; for SQLite `durability`; for
            JSON files `checkpoint_files`.

    Raises:
        InvalidName: the URL or the namespace's name is not valid.

    """
    return make_backend(parse_store(url), check_name(namespace, "namespace"), **options)


def make_backend(store: Store, namespace: str, **options: Any) -> Backend:
    """Make the backend of a store that was parsed and a name that was checked, see `open_backend`."""
    kind = kind_of(store)
    accepted = ("read_only", "history", "timeout", *(() if kind.foreign else ("values",)), *kind.options)
    options = {name: value for name, value in options.items() if name in accepted}
    call = get_ident(), kind.name
    if call in _making:  # a module that is half imported has no class yet
        raise reentry_error(store.shown, "being opened")
    try:
        _making.add(call)
        backend = kind.make(store, namespace, **options)
        if "values" in options and not options["values"].ready and not hasattr(backend, "put_keyring"):
            raise BackendError(f"{kind.title} cannot be encrypted", "Give no key, or another store")
        return backend
    finally:
        _making.discard(call)
