"""Choose the store and namespace: by arguments, the environment, the folder's `stateview.toml`, or the default.

    store = "sqlite:.claude/state"       # a URL, or a named store below
    namespace = "workflow-123"
    theme = "nord"                       # of the dashboard
    redact = ["session:*", "*ssn*"]      # the dashboard never shows these
    mask_secrets = false                 # the dashboard shows values of names such as password and api_key at once

    [keys]                               # of the dashboard: an action and the keys to press for it
    app.quit = "q"
    main.restore = ["r", "f5"]

    [safety]                             # retention of the before_… checkpoints that restore creates
    keep = 20                            # always keep the newest 20
    days = 30                            # and everything younger than 30 days

    [stores.prod]
    url = "redis://:${REDIS_PASSWORD}@db.example:6379/0"
    namespace = "build"                  # for this store, instead of the namespace above
    read_only = true                     # refuse every write to this store
    checkpoint_files = false             # of JSON files: write no copies checkpoints/NAME.json
    encryption_key = "${PROD_KEY}"       # a variable; a file is no place for a key itself

`${NAME}` in a URL stands for the environment variable NAME. A password may hold any character there: it is
percent-encoded. `init` and `migrate --switch` write no password into the file, and make a file with a login private.

A relative path counts from the folder of the file. The file is searched from the working folder upwards.

A bare kind (`sqlite`), in a program or after `--store`, is anchored at the file, so that a program finds its state from
any folder below:

1. A store that the file names `[stores.sqlite]` is meant first.
2. If `store` is of that kind, this store is meant. A `redis` is the one of `STATEVIEW_REDIS_URL`, if that is set.
3. Otherwise `.claude/state` in the folder of the file is meant. Without a file, it is that of the working folder.

Other stores of the file are never meant by a bare kind.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from . import codec
from .arguments import check_text
from .backends import (
    DEFAULT_ROOT,
    VARIABLE,
    Store,
    find_kind,
    folder_kinds,
    full_url,
    is_bare,
    kind_of,
    mask,
    parse_store,
    working_folder,
)
from .errors import NOTHING_CHANGED, InvalidArgument, InvalidName, ReadOnly
from .model import did_you_mean

FILE = "stateview.toml"
_TOP: dict[str, type] = {
    "store": str, "namespace": str, "stores": dict, "theme": str, "redact": list, "keys": dict,
    "mask_secrets": bool, "safety": dict,
}  # fmt: skip
_STORE: dict[str, type] = {
    "url": str, "namespace": str, "read_only": bool, "checkpoint_files": bool,
    "encryption_key": str,
}  # fmt: skip
_SAFETY: dict[str, type] = {"keep": int, "days": int}
_PRIVATE = 0o600  # the mode of a file that tells how to log in
_STRINGS = 'a list of strings, such as ["a", "b"]'


class Target(Struct, frozen=True):
    """Hold a store URL with its passwords, a namespace, and whether the file forbids writes.

    `by_default` tells that neither a URL nor a file chose the place. `warning` says that the namespace is in another
    store too, which could be meant. `checkpoint_files` is the option of JSON files, None where it is not set.
    `encryption_key` is that of a named store; "" where it is not set.
    """

    store: str
    namespace: str
    read_only: bool = False
    by_default: bool = False
    warning: str = ""
    checkpoint_files: bool | None = None
    encryption_key: str = ""

    def __repr__(self) -> str:
        return f"Target({mask(self.store)!r}, {self.namespace!r})"


class CheckpointRetention(Struct, frozen=True):
    """Say how long safety checkpoints are kept: the last `keep`, and those of the last `days`."""

    keep: int = 20
    days: int = 30

    def __str__(self) -> str:
        return f"the last {self.keep:,} and those of the last {self.days:,} days are kept"


class Settings(Struct, frozen=True):
    """Hold a `stateview.toml`: its path, and its values. Empty without a file."""

    path: str
    values: dict[str, Any]

    @property
    def folder(self) -> str:
        """Return the folder that relative paths count from."""
        return os.path.dirname(self.path)

    def check(self) -> Settings:
        """Return the settings if every word in them is known. An ignored word could be one about safety."""
        tables = [("", self.values, _TOP)]
        stores = self.values.get("stores")
        if isinstance(safety := self.values.get("safety"), dict):
            tables.append((" in [safety]", safety, _SAFETY))
        if isinstance(stores, dict):
            tables += [
                (f" in [stores.{name}]", store, _STORE) for name, store in stores.items() if isinstance(store, dict)
            ]
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
                if name == "encryption_key" and not re.fullmatch(VARIABLE, value):
                    hint = 'Write encryption_key = "${VARIABLE}", and set the variable'
                    raise InvalidName(f"{self.path}: {name!r}{where} must be the name of a variable", hint)
        if not _are_strings(self.values.get("redact", [])):
            raise InvalidName(f"{self.path}: 'redact' must be {_STRINGS}")
        for name, pressed in _dotted(self.values.get("keys", {})):
            if not isinstance(pressed, str) and not _are_strings(pressed):
                raise InvalidName(f"{self.path}: {name!r} in [keys] must be a string or {_STRINGS}")
        return self

    def of_store(self, name: str, what: str) -> Any:
        """Return a setting of a named store; None if it is not set."""
        store = self.values.get("stores", {}).get(name)
        return store.get(what) if isinstance(store, dict) else None

    def stores(self) -> dict[str, str]:
        """Return the named stores: name to URL, without the values of variables."""
        tables = self.values.get("stores", {})
        if not isinstance(tables, dict):
            raise InvalidName(f"{self.path}: 'stores' must be a table", 'Write [stores.NAME] with url = "…"')
        urls = {}
        for name, store in tables.items():
            url = store.get("url") if isinstance(store, dict) else store
            if not isinstance(url, str):
                raise InvalidName(f"{self.path}: store {name!r} has no url", f'Write [stores.{name}] with url = "…"')
            urls[name] = url
        return urls

    def redact(self) -> tuple[str, ...]:
        """Return the patterns of keys and members that the dashboard masks."""
        return tuple(self.values.get("redact", ()))

    def mask_secrets(self) -> bool:
        """Return whether the dashboard masks secrets until a user shows them. They are known by their names."""
        return bool(self.values.get("mask_secrets", True))

    def safety(self) -> CheckpointRetention:
        """Return how long safety checkpoints are kept."""
        return CheckpointRetention(**self.values.get("safety", {}))

    def theme(self) -> str | None:
        """Return the name of the dashboard's theme."""
        return self.text("theme")

    def keys(self) -> dict[str, tuple[str, ...]]:
        """Return the keys to press for each action, by the action's name."""
        bindings = _dotted(self.values.get("keys", {}))
        return {name: (pressed,) if isinstance(pressed, str) else tuple(pressed) for name, pressed in bindings}

    def text(self, name: str) -> str | None:
        """Return a top-level string, None if it is not set."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidName(f"{self.path}: {name!r} must be a string")
        return value


def _dotted(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values; TOML reads a dotted name without quotes as nested tables."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{before}{name}.")
        else:
            yield before + name, value


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def user_state_path(name: str) -> str:
    """Return the path of a file of the user that no store holds: `$XDG_STATE_HOME/stateview/NAME`."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "stateview", name)


def find(folder: str | None = None) -> Settings:
    """Find the nearest `stateview.toml` from a folder upwards.

    Raises:
        InvalidName: the file is not valid TOML, or holds an unknown word.
        ReadOnly: the file cannot be read.

    """
    folder = os.path.abspath(folder or working_folder())
    while True:
        path = os.path.join(folder, FILE)
        if os.path.isfile(path):
            import tomllib

            try:
                with open(path, "rb") as file:
                    return Settings(path, tomllib.loads(codec.decode_text(file.read()))).check()
            except UnicodeDecodeError as error:
                raise InvalidName(f"{path} {codec.text_fault(error)}", codec.SAVE_AS_UTF8) from error
            except tomllib.TOMLDecodeError as error:
                raise InvalidName(f"{path} is not valid TOML: {error}", "Mend it, or remove it") from error
            except RecursionError as error:
                raise InvalidName(f"{path} is nested too deep", "Mend it, or remove it") from error
            except OSError as error:
                raise ReadOnly(f"{path} cannot be read: {error.strerror}") from error
        parent = os.path.dirname(folder)
        if parent == folder:
            return Settings("", {})
        folder = parent


def resolve_target(store: str | None = None, namespace: str | None = None) -> Target:
    """Choose the store and namespace: the argument, else the environment, else the file, else the default.

    A bare kind is anchored at the file, see above.

    Raises:
        InvalidName: a name is not a store, or a variable is not set.

    """
    store = store or os.environ.get("STATEVIEW_STORE")
    namespace = namespace or os.environ.get("STATEVIEW_NAMESPACE")
    given = store
    if store and ":" in store and namespace:
        return Target(_expand(store), namespace)
    settings = find()
    folder, read_only, checkpoint_files, key = "", False, None, ""
    named, own = settings.stores(), settings.text("store")
    kind = store if store is not None and store not in named and is_bare(store) else None
    if kind is not None and _is_of_kind(named.get(own or "", own), kind):
        store = None
    by_default = own is None if store is None else kind is not None
    if store is None:
        store, folder = own or f"json:{DEFAULT_ROOT}", settings.folder
    elif kind is not None:
        folder = settings.folder
    if store in named:
        namespace = namespace or settings.of_store(store, "namespace")
        read_only = bool(settings.of_store(store, "read_only"))
        checkpoint_files = settings.of_store(store, "checkpoint_files")
        name = re.fullmatch(VARIABLE, settings.of_store(store, "encryption_key") or "")
        key = _value(name[1], settings.path) if name else ""
        store, folder = named[store], settings.folder
    elif ":" not in store and not is_bare(store):
        if (os.sep in store or os.path.splitext(store)[1]) and not os.path.lexists(os.path.expanduser(store)):
            hint = did_you_mean(store, named) or "Check the path, or give a store URL"
            raise InvalidName(f"there is no file or folder {store}", hint)
        known = f"; {settings.path} names {', '.join(sorted(named))}" if named else ""
        raise InvalidName(
            f"{store!r} is neither a store URL nor a store of a {FILE}{known}",
            did_you_mean(store, [*named, *folder_kinds(), "redis"])
            or "Use json, sqlite, redis, json:PATH, sqlite:PATH or redis://HOST:PORT/DB",
        )
    store = _expand(store, "" if store == given else settings.path)
    if folder and kind_of(parse_store(store)).has_path:
        scheme, _, path = store.partition(":")
        store = f"{scheme}:{os.path.relpath(os.path.join(folder, os.path.expanduser(path or DEFAULT_ROOT)))}"
    namespace = namespace or settings.text("namespace") or "default"
    warning = _other_copy(settings, kind, store, namespace) if kind is not None and settings.path else ""
    return Target(store, namespace, read_only, by_default, warning, checkpoint_files, key)


def _is_of_kind(store: str | None, kind: str) -> bool:
    """Return whether a store of the file is what a bare kind means."""
    if store is None or (kind == "redis" and os.environ.get("STATEVIEW_REDIS_URL")):
        return False
    known = find_kind(re.sub(VARIABLE, lambda match: os.environ.get(match[1], ""), store).partition(":")[0])
    return known is not None and known.name == kind


def _other_copy(settings: Settings, kind: str, store: str, namespace: str) -> str:
    """Return a warning if a bare kind may have meant another store than the one it is anchored at.

    That is the file's store, such as after `migrate --switch`, and the working folder's `.claude/state`, which the kind
    meant before the file was there. Folders are looked at, servers are not asked.
    """
    means = f"{kind!r} means {full_url(mask(store))}"
    own = settings.text("store")
    if own is not None and not _is_of_kind(settings.stores().get(own, own), kind):
        try:
            target = parse_store(_expand(settings.stores().get(own, own), settings.path), settings.folder)
        except InvalidName:  # the file's store needs a variable, which this program does not use
            target = None
        if target is None or not kind_of(target).in_folder or _holds(target, namespace):
            named = full_url(target.shown) if target is not None else mask(own)
            return f"{means}, but {settings.path} names {named}. To use this store on purpose, give its URL"
    here = parse_store(kind)
    if kind_of(here).in_folder and not _same(here.place, parse_store(store).place) and _holds(here, namespace):
        place = full_url(here.shown)
        return f"{means}, by {settings.path}; {place} has a namespace {namespace!r} too. To use that, give its URL"
    return ""


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _holds(store: Store, namespace: str) -> bool:
    """Return whether the folder of a store has files of a namespace."""
    from glob import escape, glob

    return any(glob(os.path.join(escape(store.place), namespace, file)) for file in kind_of(store).files)


def other_kinds(url: str) -> list[str]:
    """List the URLs of stores of other kinds that have namespaces in the folder of a store."""
    scheme, _, place = full_url(url).partition(":")
    others = [parse_store(f"{kind}:{place}") for kind in folder_kinds() if kind != scheme]
    return [store.shown for store in others if scheme in folder_kinds() and _holds(store, "*")]


def choice(url: str) -> str:
    """Say in a sentence what chose the store of a URL, if no argument did; "" otherwise."""
    settings, place = find(), full_url(url)
    folder = settings.folder or working_folder()
    if settings.text("store") is None and place.partition(":")[2] == os.path.join(folder, DEFAULT_ROOT):
        return f"{settings.path} names no store" if settings.path else f"There is no {FILE} in {folder} or above it"
    if full_url(parse_store(resolve_target().store).shown) != place:
        return ""
    return f"{'STATEVIEW_STORE' if os.environ.get('STATEVIEW_STORE') else settings.path} names this store"


def _expand(store: str, path: str = "") -> str:
    """Return a store with the values of the variables in it. `path` is the file that names the store, if one does."""
    if "$" not in store:
        return store
    from .backends.url_passwords import expand

    return expand(store, lambda name: _value(name, path))


def _value(name: str, path: str) -> str:
    value = os.environ.get(name)
    if value is None:
        where = f"which {FILE} names, is not set: {path}" if path else "which the store URL names, is not set"
        raise InvalidName(f"the environment variable {name}, {where}", f"export {name}=…")
    return value


def check_no_password(store: str) -> None:
    """Raise an error if a store URL holds a password, which a file is no place for.

    Raises:
        InvalidArgument: it does. The hint has the URL with variables, and never the password.

    """
    if ":" not in store:
        return
    from shlex import quote

    from .backends.url_passwords import passwords, with_variables

    if names := [password.variable for password in passwords(store)]:
        url, what = quote(with_variables(store, names)), f"{mask(store)} holds a password, which {FILE} does not store"
        raise InvalidArgument(what, (NOTHING_CHANGED, f"Set {' and '.join(names)}, and give the URL {url}"))


def save_target(store: str, namespace: str, folder: str = "") -> str:
    """Write a store and namespace into a folder's `stateview.toml`, by default the working folder's; return its path.

    The rest of the file stays, comments included. A file whose stores have a login can be read by its owner alone.

    Raises:
        InvalidName: the file is not valid TOML.
        InvalidArgument: the store's path is not UTF-8, which TOML requires; or the URL holds a password, and the file
            does not hold it yet.

    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    path = os.path.abspath(os.path.join(folder, FILE))
    place = os.path.realpath(path)  # a link stays a link
    text = ""
    try:
        with open(path, "rb") as file:
            text = codec.decode_text(file.read())
        document = tomlkit.parse(text)
    except FileNotFoundError:
        document = tomlkit.parse("# The store and namespace that stateview uses in this folder and below.\n")
    except UnicodeDecodeError as error:
        raise InvalidName(f"{path} {codec.text_fault(error)}", codec.SAVE_AS_UTF8) from error
    except TOMLKitError as error:
        raise InvalidName(f"{path} is not valid TOML: {error}", "Mend it, or remove it") from error
    except RecursionError as error:
        raise InvalidName(f"{path} is nested too deep", "Mend it, or remove it") from error
    if store != document.get("store"):
        check_no_password(store)
    document["store"], document["namespace"] = check_text(store, "store"), namespace
    from .backends.files.durable_files import file_error, fsync_folder, write_temporary
    from .backends.url_passwords import has_login

    try:
        written = tomlkit.dumps(document)
        if text.count("\r\n") == text.count("\n") > 0:
            written = re.sub("\r?\n", "\r\n", written)  # new lines end as the file's other lines do
        mode = stat.S_IMODE(os.stat(place).st_mode) if text else None
        if any(":" in url and has_login(url) for url in (store, *Settings(path, document.unwrap()).stores().values())):
            mode = (mode or _PRIVATE) & _PRIVATE
        new = write_temporary(place, written.encode(), mode=mode)
        os.replace(new, place)
        fsync_folder(os.path.dirname(place))
    except OSError as error:
        raise file_error(error, path) from error
    return path


def check_switch(store: str) -> None:
    """Check whether `switch_target` can write a store into the file that applies here.

    Raises:
        InvalidName, ReadOnly: the file is not valid, or cannot be read.
        InvalidArgument: the URL holds a password, and the file does not hold it yet.

    """
    if store != find().text("store"):
        check_no_password(store)


def switch_target(store: str, namespace: str) -> str:
    """Write a store into the `stateview.toml` that applies here, and return its path."""
    settings = find()
    named, own = settings.stores(), settings.text("store")
    if store in named:
        if settings.of_store(store, "namespace") not in (None, namespace):  # the store's own namespace would win
            store = named[store]
    elif is_bare(store):
        if own is not None and _is_of_kind(named.get(own, own), store):
            store = own
    elif settings.folder and settings.folder != working_folder():
        parsed = parse_store(store)
        if kind_of(parsed).in_folder:
            store = f"{parsed.kind}:{os.path.relpath(parsed.place, settings.folder)}"
    return save_target(store, namespace, settings.folder)
