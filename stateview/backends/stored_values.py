"""The form in which values are stored: the seam that every value passes on its way into a store and out of it."""

from __future__ import annotations


class StoredValues:
    """Turns an encoded value into the form that is stored, and back. This class stores values as they are.

    A backend has one such object. It calls `pack` for each value that it is about to write, and `unpack` for each
    stored value before anything outside the backend sees it. Whatever moves inside the store (a live value that becomes
    a superseded version, a copy, a recovered row) stays in its stored form.

    The stored form is JSON on one line, in UTF-8, since JSON files and SQLite's text hold it. `unpack` of what `pack`
    gave is the same bytes again. Both are safe to call from several threads.
    """

    plain = True
    """Whether the stored form is the encoded value itself, so that SQL, Lua and `jq` may look into it."""

    def pack(self, value: bytes, key: str) -> bytes:  # noqa: ARG002
        """The stored form of an encoded value of a key. O(its size)."""
        return value

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:  # noqa: ARG002
        """The encoded value of a stored form, which a revision of a key holds. O(its size).

        Raises:
            Damaged: it is not what `pack` gave for this key.

        """
        return stored


PLAIN = StoredValues()
