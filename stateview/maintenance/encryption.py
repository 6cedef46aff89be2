"""The keys of a namespace, and whether it is encrypted: what `stateview key` does.

Each function changes the keyring of the namespace first, in one step. What is stored is rewritten after that, in bites.
The state of the keyring tells which rewriting is not complete, so a killed call is repeated, and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, cast

from msgspec import Struct

from ..backends.protocol import Backend, KeepsKeyring, ProgressCount
from ..errors import Conflict, InvalidArgument, KeyMissing, NamespaceNotFound, run, see, tells_what_was_done
from ..sealing import keyring
from ..sealing.keyring import Keyring, State
from ..sealing.keys import UserKey

_TRIES = 10  # to change a keyring that others change


class KeyInfo(Struct, frozen=True):
    """Describe a key of a namespace. `kind` is `random` or `passphrase`. The key itself is stored nowhere."""

    id: str
    label: str
    created: datetime
    kind: str


class KeyStatus(Struct, frozen=True):
    """Tell whether a namespace is encrypted, and which keys open it.

    `state` is `plain`, `sealed`, or what is not complete: `sealing`, `unsealing`, `rotating`. `data_keys` counts the
    keys that the values are sealed with: 1, and more during a rotation. `opens` tells whether the key that was given
    opens the namespace; None if none was given or the namespace is plain. `in_use` is the id of that key, or "".
    """

    namespace: str
    state: str
    keys: tuple[KeyInfo, ...] = ()
    data_keys: int = 0
    opens: bool | None = None
    in_use: str = ""


def key_status(backend: Backend, user_key: UserKey | None) -> KeyStatus:
    """Tell whether a namespace is encrypted, and which keys open it. It needs no key. O(keys).

    Raises:
        InvalidArgument: the backend has no encryption.
        Damaged: the keyring is not what was written.

    """
    document = _keeper(backend).keyring()
    if document is None:
        return KeyStatus(backend.namespace, "plain")
    ring = keyring.decode(document)
    described = keyring.status(ring)
    opens, in_use = None, ""
    if user_key is not None:
        in_use = keyring.find(ring, user_key) or ""
        if opens := bool(in_use):
            keyring.unlock(ring, ring.identity, user_key)
    keys = tuple(KeyInfo(**key) for key in described["keys"])
    return KeyStatus(backend.namespace, ring.state, keys, len(described["data_keys"]), opens, in_use)


def check_open(backend: Backend, user_key: UserKey | None) -> None:
    """Raise the error that a change of the keys would raise, if the key does not open the namespace. O(keys)."""
    document = _keeper(backend).keyring()
    ring = _required(backend, None if document is None else keyring.decode(document))
    keyring.unlock(ring, ring.identity, user_key)


def encrypt(backend: Backend, user_key: UserKey | None, label: str, progress: ProgressCount) -> int:
    """Encrypt a namespace that has data, or go on with it, and return how much was rewritten. O(history).

    Raises:
        NamespaceNotFound: it was never written. Its first commit with a key encrypts it.
        InvalidArgument: it is encrypted already, or the label is not allowed.
        Sealed: there is no key, or encryption was begun with another one.

    """
    if backend.head().revision == 0 and _keeper(backend).keyring() is None:
        hint = "Its first commit with a key encrypts it"
        raise NamespaceNotFound(f"namespace {backend.namespace!r} was never written", hint)

    def begin(ring: Keyring | None) -> Keyring:
        if ring is None:
            if user_key is None:
                hint = (run("key", "new", after=" and set STATEVIEW_KEY to what it prints"),)
                raise KeyMissing(f"there is no key to encrypt namespace {backend.namespace!r} with", hint)
            return keyring.create(os.urandom(16).hex(), user_key, label, datetime.now(UTC), "sealing")
        if ring.state in ("sealed", "rotating"):
            raise InvalidArgument(f"namespace {backend.namespace!r} is encrypted already", see("key", "status"))
        return keyring.with_state(ring, ring.identity, user_key, "sealing")

    _change(backend, begin)
    return _complete(backend, user_key, progress, "sealing")


def decrypt(backend: Backend, user_key: UserKey | None, progress: ProgressCount) -> int:
    """Make an encrypted namespace plain, or go on with it, and return how much was rewritten. O(history).

    Raises:
        InvalidArgument: it is not encrypted.
        Sealed: the key does not open it.

    """
    _change(backend, lambda ring: _with_state(backend, ring, user_key, "unsealing"))
    with _tells("unsealing"):
        count = _keeper(backend).reseal(progress)
        _change(backend, lambda ring: None if _required(backend, ring).state == "unsealing" else ring)
    return count


def rotate_data_key(backend: Backend, user_keys: Sequence[UserKey | None], progress: ProgressCount) -> int:
    """Seal all with a new data key, or go on with it, and return how much was rewritten. O(history).

    Args:
        backend: the namespace.
        user_keys: all keys of the namespace. To go on, the first is enough.
        progress: called between bites.

    Raises:
        InvalidArgument: the namespace is not encrypted, or a key is missing; its label is named.
        Conflict: encryption is being turned on or off.
        Sealed: a key does not open the namespace.

    """

    def begin(ring: Keyring | None) -> Keyring:
        ring = _required(backend, ring)
        if ring.state == "rotating":
            return ring
        keyring.unlock(ring, ring.identity, user_keys[0])
        return keyring.new_data_key(ring, ring.identity, [user_key for user_key in user_keys if user_key])

    _change(backend, begin)
    return _complete(backend, user_keys[0], progress, "rotating")


def add_key(backend: Backend, user_key: UserKey | None, added: UserKey, label: str | None = None) -> KeyInfo:
    """Let another key open a namespace, and describe it. See `keyring.add` for errors. O(keys).

    Without a label it gets the first free one of `key-2`, `key-3` and so on.
    """
    now = datetime.now(UTC)
    info: KeyInfo

    def change(ring: Keyring | None) -> Keyring:
        nonlocal info
        ring = _required(backend, ring)
        name = _free_label(ring) if label is None else label
        ring = keyring.add(ring, ring.identity, user_key, added, name, now)
        info = KeyInfo(**keyring.status(ring)["keys"][-1])
        return ring

    _change(backend, change)
    return info


def remove_key(backend: Backend, user_key: UserKey | None, name: str) -> None:
    """Let a key, by its id or label, no longer open a namespace. See `keyring.remove` for errors. O(keys)."""

    def change(ring: Keyring | None) -> Keyring:
        ring = _required(backend, ring)
        return keyring.remove(ring, ring.identity, user_key, name)

    _change(backend, change)


def rotate_key(backend: Backend, user_key: UserKey | None, successor: UserKey) -> None:
    """Replace a key of a namespace by another. Nothing else is rewritten. See `keyring.rotate` for errors. O(keys)."""
    now = datetime.now(UTC)

    def change(ring: Keyring | None) -> Keyring:
        ring = _required(backend, ring)
        return keyring.rotate(ring, ring.identity, user_key, successor, now)

    _change(backend, change)


def _complete(backend: Backend, user_key: UserKey | None, progress: ProgressCount, state: State) -> int:
    """Rewrite what is stored, and note that it is done: the data keys that seal nothing any more go."""

    def finish(ring: Keyring | None) -> Keyring:
        ring = _required(backend, ring)
        if ring.state != state:
            raise Conflict(f"namespace {backend.namespace!r} is {ring.state} meanwhile", see("key", "status"))
        for key_id in keyring.status(ring)["data_keys"]:
            if key_id != ring.current:
                ring = keyring.drop_data_key(ring, ring.identity, user_key, key_id)
        return keyring.with_state(ring, ring.identity, user_key, "sealed")

    with _tells(state):
        count = _keeper(backend).reseal(progress)
        _change(backend, finish)
    return count


def _tells(state: str) -> Any:
    return tells_what_was_done(lambda: f"The namespace is {state}: repeat the command")


def _free_label(ring: Keyring) -> str:
    taken = {name for wrapper in ring.wrappers for name in (wrapper.label, wrapper.id)}
    return next(label for number in count(len(taken) // 2 + 1) if (label := f"key-{number}") not in taken)


def _with_state(backend: Backend, ring: Keyring | None, user_key: UserKey | None, state: State) -> Keyring:
    ring = _required(backend, ring)
    return keyring.with_state(ring, ring.identity, user_key, state)


def _required(backend: Backend, ring: Keyring | None) -> Keyring:
    if ring is None:
        raise InvalidArgument(f"namespace {backend.namespace!r} is not encrypted", see("key", "on"))
    return ring


def _keeper(backend: Backend) -> KeepsKeyring:
    if not hasattr(backend, "put_keyring"):
        raise InvalidArgument(f"{backend.url} has no encryption", "Use JSON files, SQLite or Redis")
    return cast(KeepsKeyring, backend)


def _change(backend: Backend, change: Callable[[Keyring | None], Keyring | None]) -> None:
    """Replace the keyring by what a function makes of it, again if another process changed it meanwhile."""
    keeper = _keeper(backend)
    for left in reversed(range(_TRIES)):
        former = keeper.keyring()
        ring = change(None if former is None else keyring.decode(former))
        document = None if ring is None else keyring.encode(ring)
        try:
            if document != former:
                keeper.put_keyring(document, former)
            return
        except Conflict:
            if not left:
                raise
