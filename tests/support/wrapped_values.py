"""A stored form of values that is not the encoded value."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode

from stateview.backends.stored_values import StoredValues
from stateview.errors import Damaged


class WrappedValues(StoredValues):
    """A stored form that hides the value and belongs to one key."""

    plain = False

    def pack(self, value: bytes, key: str, revision: int) -> bytes:
        return b'"%s"' % b64encode(zlib.compress(key.encode() + b"\0" + value, 1))

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:
        try:
            owner, _, value = zlib.decompress(b64decode(stored[1:-1], validate=True)).partition(b"\0")
        except (ValueError, zlib.error) as error:
            raise Damaged(f"revision {revision} of {key!r} is not in the stored form") from error
        if owner != key.encode() or stored[:1] + stored[-1:] != b'""':
            raise Damaged(f"revision {revision} of {key!r} is not the value of this key")
        return value

    def pack_delta(self, data: bytes, key: str, revision: int, base: int) -> bytes:
        return bytes(byte ^ 0x55 for byte in b"%b\0%d\0%d\0%b" % (key.encode(), revision, base, data))

    def unpack_delta(self, stored: bytes, key: str, revision: int, base: int) -> bytes:
        start = self.pack_delta(b"", key, revision, base)
        if not stored.startswith(start):
            raise Damaged(f"revision {revision} of {key!r} is not the delta of this key")
        return bytes(byte ^ 0x55 for byte in stored[len(start) :])

    def pack_text(self, text: str, purpose: str, name: str, revision: int) -> str:
        return text and b64encode(f"{purpose}\0{name}\0{text}".encode()).decode()

    def unpack_text(self, stored: str, purpose: str, name: str, revision: int) -> str:
        *place, text = b64decode(stored).decode().split("\0", 2) if stored else (purpose, name, "")
        if place != [purpose, name]:
            raise Damaged(f"the {purpose} of revision {revision} is not the text of this place")
        return text


WRAPPED = WrappedValues()
