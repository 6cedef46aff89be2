"""Store URL to backend, each imported only when it is asked for."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ..errors import InvalidName
from ..model import check_name
from .protocol import Backend

DEFAULT_ROOT = ".claude/state"
DEFAULT_REDIS = "redis://localhost:6379/0"
_REDIS = ("redis", "rediss", "redis+cluster", "redis+sentinel", "unix")
_FILES = ("json", "sqlite")


class Store(NamedTuple):
    """A parsed store URL: the backend's kind, the folder or the server's URL, and the URL as it may be shown."""

    kind: str
    place: str
    shown: str


def mask(url: str) -> str:
    """A store URL with its password hidden."""
    import re  # here, since a store of files needs no pattern

    masked = re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", masked)


def parse_store(url: str, folder: str = "") -> Store:
    """Take a store URL or a backend's bare name apart. A relative path is taken from `folder`.

    Raises:
        InvalidName: it is neither.

    """
    scheme, colon, rest = url.partition(":")
    if scheme in _FILES and (not colon or rest):
        path = rest or DEFAULT_ROOT
        if path.startswith("//"):
            path = path[2:]
        if "\0" in path:
            raise InvalidName("the path of a store holds a NUL character", "Give another path")
        path = os.path.join(folder, os.path.expanduser(path))
        return Store(scheme, path, f"{scheme}:{path}")
    if scheme == "redis" and not colon:
        url = os.environ.get("STATEVIEW_REDIS_URL") or DEFAULT_REDIS
        scheme = url.partition(":")[0]
    if scheme in _REDIS and "://" in url:
        return Store("redis", url, mask(url))
    raise InvalidName(
        f"{mask(url)!r} is not a store",
        "Use json, sqlite, redis, json:PATH, sqlite:PATH, redis://HOST:PORT/DB, rediss://…, redis+cluster://…,"
        " redis+sentinel://… or unix://PATH",
    )


def open_backend(url: str, namespace: str, **options: Any) -> Backend:
    """The backend of one namespace at a store URL. Touches neither disk nor network yet.

    Args:
        url: a store URL, or `json`, `sqlite`, `redis`.
        namespace: the namespace's name.
        options: `read_only`, `history`, `timeout`; for SQLite `durability`.

    Raises:
        InvalidName: the URL or the namespace may not be.

    """
    return make_backend(parse_store(url), check_name(namespace, "namespace"), **options)


def make_backend(store: Store, namespace: str, **options: Any) -> Backend:
    """As `open_backend`, of a store that was parsed and a name that was checked."""
    if store.kind != "sqlite":
        options.pop("durability", None)  # the others have but one
    if store.kind == "json":
        from .jsonfile.backend import JSONBackend

        return JSONBackend(store.place, namespace, **options)
    if store.kind == "sqlite":
        from .sqlite.backend import SQLiteBackend

        return SQLiteBackend(store.place, namespace, **options)
    from .redis.backend import RedisBackend

    return RedisBackend(store.place, store.shown, namespace, **options)
