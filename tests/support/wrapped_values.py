"""A stored form of values that is not the encoded value."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode

from stateview.backends.stored_values import StoredValues
from stateview.errors import Damaged


class WrappedValues(StoredValues):
    """A stored form that hides the value and belongs to one key."""

    plain = False

    def pack(self, value: bytes, key: str) -> bytes:
        return b'"%s"' % b64encode(zlib.compress(key.encode() + b"\0" + value, 1))

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:
        try:
            owner, _, value = zlib.decompress(b64decode(stored[1:-1], validate=True)).partition(b"\0")
        except (ValueError, zlib.error) as error:
            raise Damaged(f"revision {revision} of {key!r} is not in the stored form") from error
        if owner != key.encode() or stored[:1] + stored[-1:] != b'""':
            raise Damaged(f"revision {revision} of {key!r} is not the value of this key")
        return value


WRAPPED = WrappedValues()
