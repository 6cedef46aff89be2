"""The stored form of values: every value is packed on its way into a store, and unpacked on its way out."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from .protocol import Version

V = TypeVar("V", bound=Version)


class StoredValues:
    """Convert encoded values to their stored form and back. This class stores the encoded value itself.

    A backend has one such object. It calls `pack` for each value that it writes. It calls `unpack` for each stored
    value before any code outside the backend sees the value. Values that move inside the store keep their stored form:
    a live value that becomes a superseded version, a copy, a recovered row.

    The stored form is compact JSON in UTF-8, spelt as `codec.encode` spells it. JSON files and SQLite store it as text.
    `unpack(pack(value, key), key, revision)` is `value`. Both methods are safe to call from several threads.
    """

    plain = True
    """Whether the stored form is the encoded value itself, so that SQL, Lua and `jq` may look into it."""

    def pack(self, value: bytes, key: str) -> bytes:  # noqa: ARG002
        """Return the stored form of an encoded value.

        Args:
            value: the encoded value.
            key: its key. The stored form may be valid for this key only.

        Cost: O(size of the value).

        """
        return value

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:  # noqa: ARG002
        """Return the encoded value of a stored form.

        Args:
            stored: the stored form.
            key: the key that holds it.
            revision: the revision that wrote it, for the error message.

        Raises:
            Damaged: `pack` did not return these bytes for this key.

        Cost: O(size of the value).

        """
        return stored

    def pack_version(self, version: V) -> V:
        """Return a version with the stored form of its value. A delete stays as it is."""
        if self.plain or version.value is None:
            return version
        return replace(version, value=self.pack(version.value, version.key))

    def unpack_version(self, version: V) -> V:
        """Return a version with its encoded value instead of the stored form. A delete stays as it is.

        Raises:
            Damaged: the value is not in the stored form.

        """
        if self.plain or version.value is None:
            return version
        return replace(version, value=self.unpack(version.value, version.key, version.revision))


PLAIN = StoredValues()
