"""The keyring of a namespace: a JSON document with its data keys, each wrapped by each user key.

A data key seals what the namespace holds. A user key wraps data keys: so a change of a user key rewrites this document
alone. A data key is sealed by `cipher.seal` under a user key. Its associated data are the namespace and both ids.

A MAC (HMAC-SHA256, under a key derived from all data keys) covers the document and the identity of the namespace. So
who has none of the keys cannot change what is in it unnoticed: not the current data key, the state, a label, nor which
keys there are. What nobody can notice here:

- the whole document is replaced by an older one of the namespace, or is gone: the caller keeps watch over that;
- a change by somebody who had a key once, and opened the data keys that are still in use. To remove a user key takes
  nothing back that was read with it. Only a new data key ends that, for what is written after.

A new data key is wrapped at once by every user key, so it takes all of them. One that is missing is removed first.

The functions change nothing in place: they return the next document. Each opens the document with the user key that it
is given, and raises what `unlock` raises. Costs: 0.1 ms for a random key, one derivation by scrypt for a passphrase.
"""

from __future__ import annotations

import os
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from hmac import compare_digest, digest
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..errors import BackendError, Conflict, Damaged, InvalidArgument, KeyMissing, KeyWrong, see
from ..model import name_first
from . import cipher
from .cipher import Secret, join_fields, new_key
from .keys import Scrypt, UserKey
from .sealed_form import DataKeys

FORMAT = 1
MAX_BYTES = 1 << 20
MAX_WRAPPERS = 64
MAX_DATA_KEYS = 16
MAX_SALTS = 4  # each costs who has a wrong passphrase one derivation
MAX_LABEL = 64

_DOCUMENT = re.compile(
    rb'\{"format":\d+,"state":"[a-z]+","current":"[^"]*","wrappers":\[[^\0]*?\],"mac":"\w+","identity":"\w+"\}'
)

State = Literal["sealing", "sealed", "rotating", "unsealing"]


class Wrapper(Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the data keys as one user key wraps them, by their ids. `scrypt` is None for a random user key."""

    id: str
    label: str
    created: datetime
    scrypt: Scrypt | None
    data_keys: dict[str, str]


class Keyring(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Hold the document.

    `identity` is that of the namespace: a random text, since a namespace may be renamed or moved. `state` tells which
    conversion of the namespace is not finished; `"sealed"`: none.
    """

    format: int
    state: State
    current: str
    wrappers: tuple[Wrapper, ...]
    mac: str
    identity: str = ""


class _Format(Struct):
    format: int


def encode(ring: Keyring) -> bytes:
    """Return the document as compact JSON."""
    return msgspec.json.encode(ring)


def decode(document: bytes) -> Keyring:
    """Read a document, before any key is at hand. Its MAC is checked by the functions that take a user key.

    Raises:
        Damaged: it is no keyring, or one with parameters out of bounds.
        BackendError: a later stateview wrote it.

    """
    try:
        if len(document) > MAX_BYTES:
            raise ValueError("the keyring is too large")
        if (found := msgspec.json.decode(document, type=_Format).format) > FORMAT:
            raise BackendError(f"the keyring has format {found}, this stateview knows {FORMAT}", "Upgrade stateview")
        ring = msgspec.json.decode(document, type=Keyring)
        _check(ring)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise _damaged(str(error)) from error
    return ring


def find_keyrings(data: bytes) -> Iterator[bytes]:
    """Yield the documents in the bytes of a damaged file. O(size). A MAC tells whether one is whole."""
    for found in _DOCUMENT.finditer(data):
        with suppress(Damaged):
            decode(found[0])
            yield found[0]


def create(
    namespace: str, user_key: UserKey, label: str, now: datetime, state: Literal["sealing", "sealed"] = "sealed"
) -> Keyring:
    """Make the keyring of a namespace, with one data key and one user key."""
    current = os.urandom(4)
    data_keys = DataKeys(current, {current: new_key()})
    return _signed(namespace, data_keys, state, (_wrap(namespace, data_keys, user_key, label, now),))


def unlock(ring: Keyring, namespace: str, user_key: UserKey | None) -> DataKeys:
    """Return the data keys.

    Raises:
        KeyMissing: there is no user key.
        KeyWrong: it is none of this keyring's.
        Damaged: the document was changed by somebody without a key, or belongs to another namespace.

    """
    return _unlock(ring, namespace, user_key)[0]


def add(ring: Keyring, namespace: str, user_key: UserKey | None, added: UserKey, label: str, now: datetime) -> Keyring:
    """Let a second user key open the namespace. `label` is its name, unlike those of the others.

    Raises:
        InvalidArgument: the label is taken or not allowed, the key is there already, or there are 64.

    """
    data_keys, _ = _unlock(ring, namespace, user_key)
    if len(ring.wrappers) >= MAX_WRAPPERS:
        raise InvalidArgument(f"the namespace has {MAX_WRAPPERS} keys already", "Remove one first")
    wrapper = _wrap(namespace, data_keys, added, label, now, ring.wrappers)
    return _signed(namespace, data_keys, ring.state, (*ring.wrappers, wrapper))


def remove(ring: Keyring, namespace: str, user_key: UserKey | None, name: str) -> Keyring:
    """Let a user key, by its id or label, no longer open the namespace.

    Raises:
        InvalidArgument: no key has this name, or it is the last one.

    """
    data_keys, _ = _unlock(ring, namespace, user_key)
    left = tuple(wrapper for wrapper in ring.wrappers if name not in (wrapper.id, wrapper.label))
    if len(left) == len(ring.wrappers):
        labels = name_first(wrapper.label for wrapper in ring.wrappers)
        raise InvalidArgument(f"the namespace has no key {name[:MAX_LABEL]!r}", f"It has {labels}")
    if not left:
        raise InvalidArgument(
            "the last key of a namespace cannot be removed: nobody could read it", "Add another key first"
        )
    return _signed(namespace, data_keys, ring.state, left)


def rotate(ring: Keyring, namespace: str, user_key: UserKey | None, successor: UserKey, now: datetime) -> Keyring:
    """Replace a user key by another, which takes over its label. The data keys stay: O(data keys).

    Raises:
        InvalidArgument: the other key is there already.

    """
    data_keys, old = _unlock(ring, namespace, user_key)
    others = tuple(wrapper for wrapper in ring.wrappers if wrapper is not old)
    if _find((old,), successor) is not None:
        raise InvalidArgument("the new key is the old one", "Make one with 'stateview key new'")
    wrapper = _wrap(namespace, data_keys, successor, old.label, now, others)
    place = ring.wrappers.index(old)
    return _signed(namespace, data_keys, ring.state, (*others[:place], wrapper, *others[place:]))


def new_data_key(ring: Keyring, namespace: str, user_keys: Sequence[UserKey]) -> Keyring:
    """Make a data key, let it seal from now on, and set the state to `rotating`.

    Args:
        ring: the present document.
        namespace: the identity of the namespace.
        user_keys: all user keys of the keyring.

    Raises:
        InvalidArgument: a user key is missing. Its label is named.
        Conflict: a conversion is not finished, or there are 16 data keys.

    """
    data_keys, _ = _unlock(ring, namespace, user_keys[0] if user_keys else None)
    held = {_unlock(ring, namespace, user_key)[1].id: user_key for user_key in user_keys}
    if ring.state != "sealed":
        raise Conflict(f"the namespace is {ring.state}", "Finish that first")
    if len(data_keys.by_id) >= MAX_DATA_KEYS:
        raise Conflict(f"the namespace has {MAX_DATA_KEYS} data keys already", "Drop those that seal nothing")
    if missing := [wrapper.label for wrapper in ring.wrappers if wrapper.id not in held]:
        hint = "Give these keys, too, or remove them first and add them again later"
        raise InvalidArgument(f"a new data key needs every key of the namespace, without {name_first(missing)}", hint)
    current = os.urandom(4)
    while current in data_keys.by_id:
        current = os.urandom(4)
    data_keys = DataKeys(current, {**data_keys.by_id, current: new_key()})
    wrappers = (
        replace(wrapper, data_keys=_wrapped(namespace, data_keys, held[wrapper.id], wrapper.scrypt))
        for wrapper in ring.wrappers
    )
    return _signed(namespace, data_keys, "rotating", wrappers)


def drop_data_key(ring: Keyring, namespace: str, user_key: UserKey | None, data_key_id: str) -> Keyring:
    """Forget a data key. What is still sealed under it is lost.

    Raises:
        InvalidArgument: there is no such data key, or it is the current one.

    """
    data_keys, _ = _unlock(ring, namespace, user_key)
    if data_key_id == ring.current or data_key_id not in ring.wrappers[0].data_keys:
        raise InvalidArgument(f"{data_key_id[:8]!r} is not a data key that can go", see("key", "status"))
    left = {key_id: key for key_id, key in data_keys.by_id.items() if key_id.hex() != data_key_id}
    wrappers = (
        replace(one, data_keys={key_id: text for key_id, text in one.data_keys.items() if key_id != data_key_id})
        for one in ring.wrappers
    )
    return _signed(namespace, DataKeys(data_keys.current, left), ring.state, wrappers)


def with_state(ring: Keyring, namespace: str, user_key: UserKey | None, state: State) -> Keyring:
    """Note that a conversion begins, or that it is finished."""
    data_keys, _ = _unlock(ring, namespace, user_key)
    return _signed(namespace, data_keys, state, ring.wrappers)


def find(ring: Keyring, user_key: UserKey) -> str | None:
    """Return the id of a user key in the keyring; None if it is none of its keys."""
    wrapper = _find(ring.wrappers, user_key)
    return None if wrapper is None else wrapper.id


def status(ring: Keyring) -> dict[str, Any]:
    """Describe a keyring in plain data. It needs no key, so it may show what somebody without a key changed."""
    keys = [
        {
            "id": wrapper.id,
            "label": wrapper.label,
            "created": wrapper.created,
            "kind": "passphrase" if wrapper.scrypt else "random",
        }
        for wrapper in ring.wrappers
    ]
    return {"state": ring.state, "current": ring.current, "data_keys": [*ring.wrappers[0].data_keys], "keys": keys}


def _check(ring: Keyring) -> None:
    """Check what no MAC is needed for, so that all other functions find a document in order."""
    wrappers = ring.wrappers
    ids = [wrapper.data_keys.keys() for wrapper in wrappers]
    salts = {wrapper.scrypt for wrapper in wrappers if wrapper.scrypt}
    if ring.format != FORMAT or not 0 < len(wrappers) <= MAX_WRAPPERS or len(salts) > MAX_SALTS:
        raise ValueError("the keyring has no keys, or too many")
    if len(ids[0]) > MAX_DATA_KEYS or ring.current not in ids[0] or any(each != ids[0] for each in ids):
        raise ValueError("the data keys do not match")
    if any(len(key_id) != 8 or bytes.fromhex(key_id).hex() != key_id for key_id in ids[0]):
        raise ValueError("the id of a data key is not one")
    if len({wrapper.id for wrapper in wrappers}) < len(wrappers):
        raise ValueError("a key is there twice")
    if not all(_is_name(wrapper.id) and _is_name(wrapper.label) for wrapper in wrappers):
        raise ValueError("an id or a label is not one")
    for scrypt in salts:
        scrypt.check()


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_LABEL and text.isprintable()


def _find(wrappers: Iterable[Wrapper], user_key: UserKey) -> Wrapper | None:
    """Return the wrapper of a user key."""
    for wrapper in wrappers:
        if (wrapper.scrypt is None) == (user_key.scrypt is None) and user_key.identify(wrapper.scrypt)[0] == wrapper.id:
            return wrapper
    return None


def _unlock(ring: Keyring, namespace: str, user_key: UserKey | None) -> tuple[DataKeys, Wrapper]:
    """Open the data keys, and compare the MAC."""
    if user_key is None:
        hint = ("Set STATEVIEW_KEY, or give encryption_key", see("key", "status"))
        raise KeyMissing("the namespace is encrypted, and there is no key", hint)
    wrapper = _find(ring.wrappers, user_key)
    if wrapper is None:
        labels = name_first(one.label for one in ring.wrappers)
        what = "the encryption key is none of the keys of the namespace"
        raise KeyWrong(what, (f"It has {labels}", "Set STATEVIEW_KEY to one of them", see("key", "status")))
    wrapping = user_key.identify(wrapper.scrypt)[1]
    try:
        by_id = {
            bytes.fromhex(key_id): Secret(
                cipher.open(wrapping, a2b_base64(text.encode()), _associated(namespace, wrapper.id, key_id))
            )
            for key_id, text in wrapper.data_keys.items()
        }
    except ValueError as error:
        raise _damaged(str(error)) from error
    data_keys = DataKeys(bytes.fromhex(ring.current), by_id)
    if not compare_digest(_mac(ring, namespace, data_keys).encode(), ring.mac.encode()):
        raise _damaged("its MAC does not match")
    return data_keys, wrapper


def _wrap(
    namespace: str, data_keys: DataKeys, user_key: UserKey, label: str, now: datetime, others: Sequence[Wrapper] = ()
) -> Wrapper:
    """Wrap the data keys by a user key that is not among the others."""
    if not _is_name(label):
        raise InvalidArgument(f"a label has 1 to {MAX_LABEL} printable characters", "Give a name such as laptop")
    if any(label in (other.label, other.id) for other in others):
        raise InvalidArgument(f"the namespace has a key {label!r} already", "Give another label")
    if (same := _find(others, user_key)) is not None:
        raise InvalidArgument(f"the namespace has this key already: {same.label!r}")
    scrypt = user_key.scrypt
    if scrypt:  # one salt for all passphrases, so that opening derives once
        scrypt = next((other.scrypt for other in others if other.scrypt and other.scrypt.n >= scrypt.n), scrypt)
    data = _wrapped(namespace, data_keys, user_key, scrypt)
    return Wrapper(user_key.identify(scrypt)[0], label, now, scrypt, data)


def _wrapped(namespace: str, data_keys: DataKeys, user_key: UserKey, scrypt: Scrypt | None) -> dict[str, str]:
    """Return the data keys as a user key wraps them."""
    user_key_id, wrapping = user_key.identify(scrypt)
    return {
        key_id.hex(): b2a_base64(
            cipher.seal(wrapping, data_key.reveal(), _associated(namespace, user_key_id, key_id.hex())), newline=False
        ).decode()
        for key_id, data_key in data_keys.by_id.items()
    }


def _associated(namespace: str, user_key_id: str, data_key_id: str) -> bytes:
    return join_fields(b"stateview data key", namespace.encode(), user_key_id.encode(), data_key_id.encode())


def _signed(namespace: str, data_keys: DataKeys, state: State, wrappers: Iterable[Wrapper]) -> Keyring:
    """Make a document with its MAC."""
    ring = Keyring(FORMAT, state, data_keys.current.hex(), tuple(wrappers), "", namespace)
    _check(ring)  # so that `decode` reads it
    return replace(ring, mac=_mac(ring, namespace, data_keys))


def _mac(ring: Keyring, namespace: str, data_keys: DataKeys) -> str:
    """Return the MAC of a document. Its key is made of all data keys: an old one alone is not enough."""
    key = Secret(b"".join(key_id + data_keys.by_id[key_id].reveal() for key_id in sorted(data_keys.by_id)))
    signed = join_fields(b"stateview keyring", namespace.encode(), encode(replace(ring, mac="")))
    return digest(key.reveal(), signed, "sha256").hex()


def _damaged(why: str) -> Damaged:
    return Damaged(f"the keyring of the namespace is not what was written: {why}", "Restore it from a backup")
