"""Which store and namespace are meant: what was given, the environment, the folder's `stateview.toml`, or the default.

    store = "sqlite:.claude/state"       # a URL, or one of the names below
    namespace = "workflow-123"
    theme = "nord"                       # of the dashboard
    redact = ["*token*", "*password*"]   # what the dashboard shows masked

    [keys]                               # of the dashboard: an action and what is pressed for it
    app.quit = "q"
    main.restore = ["r", "f5"]

    [safety]                             # the checkpoints before_… that restore and others make: those go at the
    keep = 20                            # next restore that are not among the last 20, and
    days = 30                            # older than 30 days

    [stores.prod]
    url = "redis://:${REDIS_PASSWORD}@db.example:6379/0"
    namespace = "build"                  # for this store, instead of the one above
    read_only = true                     # refuse every write there

A relative path counts from the folder of the file. The file is sought from the working folder upwards.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from .backends import DEFAULT_ROOT, is_bare, kind_of, parse_store
from .errors import InvalidName, ReadOnly

FILE = "stateview.toml"
_TOP: dict[str, type] = {
    "store": str, "namespace": str, "stores": dict, "theme": str, "redact": list, "keys": dict,
    "safety": dict,
}  # fmt: skip
_STORE: dict[str, type] = {"url": str, "namespace": str, "read_only": bool}
_SAFETY: dict[str, type] = {"keep": int, "days": int}
_STRINGS = 'a list of strings, such as ["a", "b"]'
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Target(NamedTuple):
    """A store URL with its passwords in place, a namespace, and whether the file says to write nothing there."""

    store: str
    namespace: str
    read_only: bool = False


class CheckpointRetention(NamedTuple):
    """How long safety checkpoints are kept: the last `keep` of them, and those of the last `days`."""

    keep: int = 20
    days: int = 30

    def __str__(self) -> str:
        return f"the last {self.keep:,} and those of the last {self.days:,} days are kept"


class Settings(NamedTuple):
    """A `stateview.toml`: where it is, and what it says. Empty where there is none."""

    path: str
    values: dict[str, Any]

    @property
    def folder(self) -> str:
        """The folder that relative paths count from."""
        return os.path.dirname(self.path)

    def check(self) -> Settings:
        """Itself, if it says nothing that is not known: a word that is ignored may have been one about safety."""
        tables = [("", self.values, _TOP)]
        stores = self.values.get("stores")
        if isinstance(safety := self.values.get("safety"), dict):
            tables.append((" in [safety]", safety, _SAFETY))
        if isinstance(stores, dict):
            tables += [(f" in [stores.{name}]", one, _STORE) for name, one in stores.items() if isinstance(one, dict)]
        for where, table, known in tables:
            for name, value in table.items():
                if name not in known:
                    raise InvalidName(f"{self.path}: {name!r}{where} is not known", f"Known are {', '.join(known)}")
                fits = isinstance(value, known[name])
                if known[name] is int:
                    fits = type(value) is int and value >= 0
                if not fits:
                    kind = {
                        str: "a string", dict: "a table", bool: "true or false", list: _STRINGS,
                        int: "a whole number, not below 0",
                    }[known[name]]  # fmt: skip
                    raise InvalidName(f"{self.path}: {name!r}{where} must be {kind}")
        if not _are_strings(self.values.get("redact", [])):
            raise InvalidName(f"{self.path}: 'redact' must be {_STRINGS}")
        for name, pressed in _dotted(self.values.get("keys", {})):
            if not isinstance(pressed, str) and not _are_strings(pressed):
                raise InvalidName(f"{self.path}: {name!r} in [keys] must be a string or {_STRINGS}")
        return self

    def of_store(self, name: str, what: str) -> Any:
        """What the table of a named store says of something; None where it says nothing."""
        store = self.values.get("stores", {}).get(name)
        return store.get(what) if isinstance(store, dict) else None

    def stores(self) -> dict[str, str]:
        """The named stores: name to URL, variables not yet put in."""
        found = self.values.get("stores", {})
        if not isinstance(found, dict):
            raise InvalidName(f"{self.path}: 'stores' must be a table", 'Write [stores.NAME] with url = "…"')
        out = {}
        for name, store in found.items():
            url = store.get("url") if isinstance(store, dict) else store
            if not isinstance(url, str):
                raise InvalidName(f"{self.path}: store {name!r} has no url", f'Write [stores.{name}] with url = "…"')
            out[name] = url
        return out

    def redact(self) -> tuple[str, ...]:
        """Patterns of what is to be shown masked."""
        return tuple(self.values.get("redact", ()))

    def safety(self) -> CheckpointRetention:
        """How long safety checkpoints are kept."""
        return CheckpointRetention(**self.values.get("safety", {}))

    def theme(self) -> str | None:
        """The name of the dashboard's theme."""
        return self.text("theme")

    def keys(self) -> dict[str, tuple[str, ...]]:
        """What is pressed for an action, by the action's name."""
        found = _dotted(self.values.get("keys", {}))
        return {name: (one,) if isinstance(one, str) else tuple(one) for name, one in found}

    def text(self, name: str) -> str | None:
        """A top-level string."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidName(f"{self.path}: {name!r} must be a string")
        return value


def _dotted(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, where TOML takes a name with dots that is not quoted for tables in tables."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{before}{name}.")
        else:
            yield before + name, value


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def find(folder: str | None = None) -> Settings:
    """The nearest `stateview.toml` from a folder upwards.

    Raises:
        InvalidName: it is there, and is not valid TOML.

    """
    folder = os.path.abspath(folder or os.getcwd())
    while True:
        path = os.path.join(folder, FILE)
        if os.path.isfile(path):
            import tomllib

            try:
                with open(path, "rb") as file:
                    return Settings(path, tomllib.load(file)).check()
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise InvalidName(f"{path} is not valid TOML: {error}", "Mend it, or remove it") from error
            except OSError as error:
                raise ReadOnly(f"{path} cannot be read: {error.strerror}") from error
        parent = os.path.dirname(folder)
        if parent == folder:
            return Settings("", {})
        folder = parent


def resolve_target(store: str | None = None, namespace: str | None = None) -> Target:
    """The store and namespace meant: each as given, else the environment's, else the file's, else the default.

    Raises:
        InvalidName: a name that is no store, or a variable that is not set.

    """
    store = store or os.environ.get("STATEVIEW_STORE")
    namespace = namespace or os.environ.get("STATEVIEW_NAMESPACE")
    bare = store is not None and is_bare(store)
    if (bare or (store and ":" in store)) and namespace:
        return Target(str(store), namespace)
    found = find()
    folder, read_only = "", False
    if store is None:
        store, folder = found.text("store") or f"json:{DEFAULT_ROOT}", found.folder
    named = found.stores()
    if store in named:
        namespace = namespace or found.of_store(store, "namespace")
        read_only = bool(found.of_store(store, "read_only"))
        store, folder = named[store], found.folder
    elif ":" not in store and not is_bare(store):
        known = f"; {found.path} names {', '.join(sorted(named))}" if named else ""
        raise InvalidName(
            f"{store!r} is neither a store URL nor a store of a {FILE}{known}",
            "Use json, sqlite, redis, json:PATH, sqlite:PATH or redis://HOST:PORT/DB",
        )
    store = _VARIABLE.sub(_value, store)
    if folder and kind_of(parse_store(store)).in_folder:
        kind, _, path = store.partition(":")
        store = f"{kind}:{os.path.relpath(os.path.join(folder, os.path.expanduser(path or DEFAULT_ROOT)))}"
    return Target(store, namespace or found.text("namespace") or "default", read_only)


def _value(match: re.Match[str]) -> str:
    value = os.environ.get(match[1])
    if value is None:
        raise InvalidName(
            f"the environment variable {match[1]}, which {FILE} names, is not set", f"export {match[1]}=…"
        )
    return value


def save_target(store: str, namespace: str, folder: str = "") -> str:
    """Make a store and namespace, as `choose` takes them, those of a folder, by default the working one.

    What else its file says, comments included, stays. Returns the file's path.

    Raises:
        InvalidName: a file that is not TOML.

    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    path = os.path.abspath(os.path.join(folder, FILE))
    place = os.path.realpath(path)  # a link stays one
    text = ""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        document = tomlkit.parse(text)
    except FileNotFoundError:
        document = tomlkit.parse("# The store and namespace that stateview uses in this folder and below.\n")
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise InvalidName(f"{path} is not valid TOML: {error}", "Mend it, or remove it") from error
    document["store"], document["namespace"] = store, namespace
    from .backends.common import file_error, fsync_folder, write_temporary

    try:
        written = tomlkit.dumps(document)
        if text.count("\r\n") == text.count("\n") > 0:
            written = re.sub("\r?\n", "\r\n", written)  # the lines that are new, too
        new = write_temporary(place, written.encode())
        if text:
            os.chmod(new, stat.S_IMODE(os.stat(place).st_mode))  # it may hold passwords that not all may read
        os.replace(new, place)
        fsync_folder(os.path.dirname(place))
    except OSError as error:
        raise file_error(error, path) from error
    return path


def switch_target(store: str, namespace: str) -> str:
    """Make a store, as it is given in the working folder, that of whichever file counts here; returns its path."""
    found = find()
    named = found.stores()
    if store in named:
        if found.of_store(store, "namespace") not in (None, namespace):  # which is heard before the folder's
            store = named[store]
    elif found.folder and found.folder != os.getcwd():
        parsed = parse_store(store)
        if kind_of(parsed).in_folder:
            store = f"{parsed.kind}:{os.path.relpath(parsed.place, found.folder)}"
    return save_target(store, namespace, found.folder)
