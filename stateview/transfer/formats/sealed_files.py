"""Files that are sealed with a key: what an export of an encrypted namespace writes, unless it is asked for plain text.

    the first line   {"stateview":2,"keyring":KEYRING}; see `sealing.keyring`, with the keys of the namespace in use
    then lines       each the form (`sealing.sealed_form`) of at most 1 MiB of the content, in base64
    the last line    the form of nothing, so that a file that is cut off is noticed

Each line is bound to its number and to the file, whose identity is random.
"""

from __future__ import annotations

import io
import os
from binascii import a2b_base64, b2a_base64
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

import msgspec

from ...errors import Damaged, Sealed

if TYPE_CHECKING:
    from ...sealing.keys import UserKey
    from ...sealing.sealed_form import Place, Sealer

FIRST = b'{"stateview":2,"keyring":'
_CHUNK_BYTES = 1 << 20
_MAX_LINE_BYTES = 2 * _CHUNK_BYTES
_LABEL = "export"


class _Line(msgspec.Struct):
    stateview: int
    keyring: msgspec.Raw


class SealedWriter(io.RawIOBase):
    """Seal what is written to a file. `finish` ends the content, and leaves the file open."""

    def __init__(self, file: IO[bytes], user_key: UserKey) -> None:
        from ...sealing import keyring

        ring = keyring.create(os.urandom(16).hex(), user_key, _LABEL, datetime.now(UTC))
        self._sealer = _sealer(keyring.encode(ring), user_key)
        self._file, self._buffer, self._number = file, bytearray(), 0
        file.write(FIRST + keyring.encode(ring) + b"}\n")

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take some content, and write full chunks."""
        self._buffer += data
        while len(self._buffer) >= _CHUNK_BYTES:
            self._put(bytes(self._buffer[:_CHUNK_BYTES]))
            del self._buffer[:_CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write what is left, and the end."""
        if self._buffer:
            self._put(bytes(self._buffer))
        self._put(b"")

    def _put(self, content: bytes) -> None:
        self._number += 1
        form = self._sealer.seal(content, _place(self._number))
        self._file.write(b2a_base64(form))


class SealedReader(io.RawIOBase):
    """Read the content of a sealed file, from its beginning.

    Raises:
        Sealed: there is no key, or it does not open the file.
        Damaged: the file was changed, or is cut off.

    """

    def __init__(self, file: IO[bytes], name: str, user_key: UserKey | None) -> None:
        self._file, self._name, self._number, self._rest = file, name, 0, b""
        self._is_at_end = False
        try:
            line = msgspec.json.decode(file.readline(_MAX_LINE_BYTES), type=_Line)
        except ValueError as error:
            raise self._damaged("its first line is not what was written") from error
        try:
            self._sealer = _sealer(bytes(line.keyring), user_key)
        except Damaged as error:
            raise self._damaged("its keyring is not what was written") from error
        except Sealed as error:
            raise type(error)(f"{name}: {error.message}", error.next_steps) from None

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read some content into a buffer."""
        if not self._rest and not self._is_at_end:
            self._rest = self._next()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        self._number += 1
        line = self._file.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise self._damaged("it is cut off")
        try:
            content = self._sealer.open(a2b_base64(line[:-1], strict_mode=True), _place(self._number))
        except (Damaged, ValueError) as error:
            raise self._damaged("a part of it is not what was written") from error
        if not content:
            self._is_at_end = True
            if self._file.read(1):
                raise self._damaged("something follows its end")
        return content

    def _damaged(self, why: str) -> Damaged:
        return Damaged(f"{self._name}: {why}", "Export it again, or take another copy")


def _place(number: int) -> Place:
    from ...sealing.sealed_form import Place, Purpose

    return Place(Purpose.FILE, number)


def _sealer(document: bytes, user_key: UserKey | None) -> Sealer:
    from ...sealing import keyring
    from ...sealing.sealed_form import Sealer

    ring = keyring.decode(document)
    return Sealer(keyring.unlock(ring, ring.identity, user_key), ring.identity)
