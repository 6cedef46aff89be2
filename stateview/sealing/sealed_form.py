"""The sealed form of one thing: a value, a delta, a reason, an author or a note.

    1 byte     the format: 1
    4 bytes    the id of the data key
    24 bytes   the nonce
    the rest   the ciphertext and its tag of 16 bytes

Inside is one byte for the method and then the content: 0 as it is, or 1 with its size in 4 bytes, compressed. What
gains nothing is not compressed. A delta is compressed already.

The associated data ties the form to what it is, the namespace, the key, the revision and, for a delta, its base. So a
form that is copied elsewhere, or an older one that is put back, does not open.

The size of a form shows how well its content was compressed. Who can write a part of a value, and see the size of the
form, can guess at the rest of the value (as CRIME did with TLS).
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from ..compression import compress, decompress
from ..errors import Damaged, see
from . import cipher
from .cipher import Secret, join_fields

_FORMAT = b"\x01"
_HEADER_BYTES = 5
_MIN_COMPRESSED_BYTES = 128
_PLAIN, _ZSTD = b"\x00", b"\x01"
_VALUE_START, _VALUE_END = b'{"$sealed":"', b'"}'
_TEXT_START = "$sealed:"


class Purpose(Enum):
    """Say what is sealed."""

    VALUE = "value"
    DELTA = "delta"
    REASON = "reason"
    AUTHOR = "author"
    NOTE = "note"
    FILE = "file"  # a chunk of an export, by its number


class Place(NamedTuple):
    """Name the place of one sealed thing in its namespace.

    Attributes:
        purpose: what is sealed.
        revision: the revision that wrote it.
        key: the key of a value or a delta, the name of the checkpoint of a note.
        base: the revision that a delta is relative to; 0 if to none.

    """

    purpose: Purpose
    revision: int
    key: str = ""
    base: int = 0

    def __str__(self) -> str:
        named = f" of {self.key[:60]!r}" if self.key else ""
        return f"the {self.purpose.value}{named} at revision {self.revision}"


class DataKeys(NamedTuple):
    """Hold the data keys of a namespace by their ids, and the id of the one that seals."""

    current: bytes
    by_id: Mapping[bytes, Secret]


class Sealer:
    """Seal and open the things of one namespace. It is safe to use from several threads.

    Args:
        data_keys: what unlocking the keyring returned.
        namespace: the identity of the namespace.

    """

    def __init__(self, data_keys: DataKeys, namespace: str) -> None:
        self._keys = data_keys
        self._namespace = namespace.encode()

    def seal(self, content: bytes, place: Place) -> bytes:
        """Return the binary form, under the current data key. O(size): 25 µs, and 2 ms for 300 KB, by compression."""
        header = _FORMAT + self._keys.current
        packed = _pack(content, place.purpose)
        return header + cipher.seal(self._keys.by_id[self._keys.current], packed, self._associated(header, place))

    def open(self, sealed: bytes, place: Place) -> bytes:
        """Return the content of a binary form. O(size): 25 µs, and 0.6 ms for 300 KB.

        Raises:
            Damaged: the form was changed, is that of another place, or its data key is not in the keyring.

        """
        header = sealed[:_HEADER_BYTES]
        data_key = self._keys.by_id.get(header[1:])
        if header[:1] != _FORMAT or data_key is None:
            raise Damaged(f"{place} is not sealed under a data key of this namespace", see("recover"))
        try:
            return _unpack(cipher.open(data_key, sealed[_HEADER_BYTES:], self._associated(header, place)))
        except ValueError as error:
            raise Damaged(f"{place} is not what was sealed there", see("recover")) from error

    def seal_value(self, content: bytes, place: Place) -> bytes:
        """Return the form for a store of JSON: `{"$sealed":"BASE64"}`, a third larger than the binary form."""
        return value_form(self.seal(content, place))

    def open_value(self, stored: bytes, place: Place) -> bytes:
        """Return the content of a form for a store of JSON. A value that is not sealed is `Damaged`, too."""
        return self.open(_required(sealed_value(stored), place), place)

    def seal_text(self, text: str, place: Place) -> str:
        """Return the form of a text: `$sealed:BASE64`."""
        return text_form(self.seal(text.encode(), place))

    def open_text(self, stored: str, place: Place) -> str:
        """Return the text of its form. A text that is not sealed is `Damaged`, too."""
        return self.open(_required(sealed_text(stored), place), place).decode()

    def knows(self, sealed: bytes) -> bool:
        """Return whether a binary form names a data key of this namespace, so that it is no plain value of a user."""
        return sealed[1:_HEADER_BYTES] in self._keys.by_id

    def is_current(self, sealed: bytes) -> bool:
        """Return whether a binary form is under the current data key: a rotation has nothing to do."""
        return sealed[1:_HEADER_BYTES] == self._keys.current

    def _associated(self, header: bytes, place: Place) -> bytes:
        numbers = (number.to_bytes(8, "big") for number in (place.revision, place.base))
        return join_fields(header, place.purpose.value.encode(), self._namespace, place.key.encode(), *numbers)


def value_form(sealed: bytes) -> bytes:
    """Return a binary form as a JSON value."""
    return _VALUE_START + b2a_base64(sealed, newline=False) + _VALUE_END


def text_form(sealed: bytes) -> str:
    """Return a binary form as a text."""
    return _TEXT_START + b2a_base64(sealed, newline=False).decode()


def sealed_value(stored: bytes) -> bytes | None:
    """Return the binary form in a JSON value; None if the value is plain. It needs no key. O(size of a form)."""
    if not (stored.startswith(_VALUE_START) and stored.endswith(_VALUE_END)):
        return None
    return _from_base64(stored[len(_VALUE_START) : -len(_VALUE_END)])


def sealed_text(stored: str) -> bytes | None:
    """Return the binary form in a text; None if the text is plain. It needs no key. O(size of a form)."""
    return _from_base64(stored[len(_TEXT_START) :].encode()) if stored.startswith(_TEXT_START) else None


def _from_base64(encoded: bytes) -> bytes | None:
    try:
        sealed = a2b_base64(encoded, strict_mode=True)
    except ValueError:
        return None
    if len(sealed) <= _HEADER_BYTES + cipher.OVERHEAD_BYTES or sealed[:1] != _FORMAT:
        return None
    last = sealed[-(len(sealed) % 3 or 3) :]  # the spare bits of the last character are not read
    return sealed if b2a_base64(last, newline=False) == encoded[-4:] else None


def _required(sealed: bytes | None, place: Place) -> bytes:
    if sealed is None:
        raise Damaged(f"{place} is not sealed, in a namespace that is", see("recover"))
    return sealed


def _pack(content: bytes, purpose: Purpose) -> bytes:
    if purpose is not Purpose.DELTA and len(content) >= _MIN_COMPRESSED_BYTES:
        packed = _ZSTD + len(content).to_bytes(4, "big") + compress(content)
        if len(packed) <= len(content):
            return packed
    return _PLAIN + content


def _unpack(packed: bytes) -> bytes:
    if packed[:1] == _PLAIN:
        return packed[1:]
    if packed[:1] == _ZSTD:
        return decompress(packed[5:], None, int.from_bytes(packed[1:5], "big"))
    raise ValueError("a sealed thing has a method that this stateview does not know")
