"""The stored form of values that are sealed with a key, and what stands in for it where no key opens the namespace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ..errors import Damaged, KeyWrong, Sealed, StateException
from ..model import SealedText, SealedValue
from ..sealing import keyring
from ..sealing.keys import UserKey
from ..sealing.sealed_form import Place, Purpose, Sealer, sealed_text, sealed_value
from .names_only import wants_names_only
from .protocol import KeySummary
from .stored_values import StoredValues

FIRST_LABEL = "first"


class KeyedValues(StoredValues):
    """The form of a namespace of which it is not known yet whether it has a keyring, opened with a key.

    Plain values are readable. The first commit of a new namespace makes a keyring.
    """

    ready = False

    def __init__(self, user_key: UserKey) -> None:
        self.user_key: UserKey | None = user_key
        self._other: UserKey | None = None

    def opened(self, keyring: bytes | None) -> StoredValues:
        if keyring is None:
            return self
        values = open_keyring(keyring, self.user_key)
        if self._other is not None and isinstance(values.error, KeyWrong):
            other = open_keyring(keyring, self._other)
            return values if isinstance(other.error, KeyWrong) else other
        return values

    def new_keyring(self) -> bytes | None:
        if self.user_key is None:
            return None
        now = datetime.now(UTC)
        return keyring.encode(keyring.create(os.urandom(16).hex(), self.user_key, FIRST_LABEL, now))

    @contextmanager
    def replaced_by(self, user_key: UserKey) -> Iterator[None]:
        """Open the namespace also with the key that replaces this one in the block, and with it alone afterwards.

        If the block fails, both are kept: the other key may have been stored all the same.
        """
        self._other = user_key
        yield
        self.user_key, self._other = user_key, None

    def forget(self) -> None:
        """Be the form of plain values from now on."""
        self.user_key, self.ready = None, True


class SealedValues(StoredValues):
    """Values, deltas and texts, each sealed for its place. An empty text stays empty: that there is none is not hidden.

    Args:
        sealer: the sealer of the namespace.

    """

    plain = False
    sealed = True

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def pack(self, value: bytes, key: str, revision: int) -> bytes:
        return self._sealer.seal_value(value, Place(Purpose.VALUE, revision, key))

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:
        return self._sealer.open_value(stored, Place(Purpose.VALUE, revision, key))

    def pack_delta(self, data: bytes, key: str, revision: int, base: int) -> bytes:
        return self._sealer.seal(data, Place(Purpose.DELTA, revision, key, base))

    def unpack_delta(self, stored: bytes, key: str, revision: int, base: int) -> bytes:
        return self._sealer.open(stored, Place(Purpose.DELTA, revision, key, base))

    def pack_text(self, text: str, purpose: str, name: str, revision: int) -> str:
        return text and self._sealer.seal_text(text, Place(Purpose(purpose), revision, name))

    def unpack_text(self, stored: str, purpose: str, name: str, revision: int) -> str:
        return stored and self._sealer.open_text(stored, Place(Purpose(purpose), revision, name))

    def is_current(self, stored: bytes) -> bool:
        return self._sealer.is_current(sealed_value(stored) or b"")

    def is_current_delta(self, stored: bytes) -> bool:
        return self._sealer.is_current(stored)

    def is_current_text(self, stored: str) -> bool:
        return not stored or self._sealer.is_current(sealed_text(stored) or b"")


class PartlySealedValues(SealedValues):
    """Values of a namespace that is being sealed or unsealed: those that are not sealed are plain.

    Plain values are trusted until the conversion is complete, as they were before it began.

    Args:
        sealer: the sealer of the namespace.
        seals: whether new values are sealed.

    """

    mixed = True

    def __init__(self, sealer: Sealer, seals: bool) -> None:
        super().__init__(sealer)
        self.sealed = seals

    def pack(self, value: bytes, key: str, revision: int) -> bytes:
        return super().pack(value, key, revision) if self.sealed else value

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:
        return super().unpack(stored, key, revision) if self._is_sealed(sealed_value(stored)) else stored

    def pack_delta(self, data: bytes, key: str, revision: int, base: int) -> bytes:
        return super().pack_delta(data, key, revision, base) if self.sealed else data

    def unpack_delta(self, stored: bytes, key: str, revision: int, base: int) -> bytes:
        return super().unpack_delta(stored, key, revision, base) if self._is_sealed(stored) else stored

    def pack_text(self, text: str, purpose: str, name: str, revision: int) -> str:
        return super().pack_text(text, purpose, name, revision) if self.sealed else text

    def unpack_text(self, stored: str, purpose: str, name: str, revision: int) -> str:
        return super().unpack_text(stored, purpose, name, revision) if self._is_sealed(sealed_text(stored)) else stored

    def is_current(self, stored: bytes) -> bool:
        return super().is_current(stored) if self.sealed else not self._is_sealed(sealed_value(stored))

    def is_current_delta(self, stored: bytes) -> bool:
        return super().is_current_delta(stored) if self.sealed else not self._is_sealed(stored)

    def is_current_text(self, stored: str) -> bool:
        return super().is_current_text(stored) if self.sealed else not self._is_sealed(sealed_text(stored))

    def _is_sealed(self, form: bytes | None) -> bool:
        return form is not None and self._sealer.knows(form)


class LockedValues(StoredValues):
    """The form of a sealed namespace that no key opens. Names, times and sizes of stored forms can be listed.

    Args:
        error: what every other use raises.
        mixed: see `StoredValues`.

    """

    plain = False
    sealed = True
    ready = False

    def __init__(self, error: StateException, mixed: bool = False) -> None:
        self.error = error
        self.mixed = mixed
        self._text = SealedText(error)

    def pack(self, value: bytes, key: str, revision: int) -> bytes:  # noqa: ARG002
        raise self._refusal()

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:  # noqa: ARG002
        if wants_names_only():
            return SealedValue(len(stored))
        raise self._refusal()

    def pack_delta(self, data: bytes, key: str, revision: int, base: int) -> bytes:  # noqa: ARG002
        raise self._refusal()

    def unpack_delta(self, stored: bytes, key: str, revision: int, base: int) -> bytes:  # noqa: ARG002
        return self.unpack(stored, key, revision)

    def pack_text(self, text: str, purpose: str, name: str, revision: int) -> str:  # noqa: ARG002
        raise self._refusal()

    def unpack_text(self, stored: str, purpose: str, name: str, revision: int) -> str:  # noqa: ARG002
        return stored and self._text

    def summary(self, key: str, stored: bytes, revision: int, time: int, expires: int) -> KeySummary:
        return KeySummary(key, len(stored), b"", revision, time, expires, sealed=True)


def open_keyring(document: bytes, user_key: UserKey | None) -> StoredValues:
    """Return the form of a namespace with a keyring: `LockedValues` if the key does not open it.

    Raises:
        BackendError: a later stateview wrote the keyring.

    """
    mixed = False
    try:
        ring = keyring.decode(document)
        mixed = ring.state in ("sealing", "unsealing")
        sealer = Sealer(keyring.unlock(ring, ring.identity, user_key), ring.identity)
    except (Sealed, Damaged) as error:
        return LockedValues(error, mixed)
    if mixed:
        return PartlySealedValues(sealer, seals=ring.state == "sealing")
    return SealedValues(sealer)
