"""The stored form of values: every value is packed on its way into a store, and unpacked on its way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from ..errors import Damaged, StateException
from ..model import Commit
from .protocol import SUMMARY_BYTES, Backend, CheckpointRecord, KeySummary, Version

if TYPE_CHECKING:
    from ..sealing.keys import UserKey

# The starts of sealed values and texts, for what is imported without `sealing.sealed_form`, which defines them
SEALED_START, SEALED_TEXT_START = b'{"$sealed":"', "$sealed:"

V = TypeVar("V", bound=Version)
TextForm = Callable[[str, str, str, int], str]


class StoredValues:
    """Convert encoded values to their stored form and back. This class stores the encoded value itself.

    A backend has one such object. It calls `pack` for each value that it writes. It calls `unpack` for each stored
    value before any code outside the backend sees the value. Values that move inside the store keep their stored form:
    a live value that becomes a superseded version, a copy, a recovered row. Deltas are between encoded values.

    The stored form is compact JSON in UTF-8, spelt as `codec.encode` spells it. JSON files and SQLite store it as text.
    `unpack(pack(value, key, revision), key, revision)` is `value`. All methods are safe to call from several threads.
    """

    plain = True
    """Whether the stored form is the encoded value itself, so that SQL, Lua and `jq` may look into it."""

    sealed = False
    """Whether the stored form is sealed with a key. Copies for people, who could not read them, are left out then."""

    mixed = False
    """Whether some stored forms may be sealed and others plain, while a namespace is being sealed or unsealed."""

    ready = True
    """Whether a commit may call `pack` at once. Otherwise see `start_sealing`."""

    error: StateException | None = None
    """Why no value can be packed or unpacked; None if it can."""

    def opened(self, keyring: bytes | None) -> StoredValues:
        """Return the form of a namespace with this keyring; None stands for a namespace without one."""
        if keyring is None:
            return self
        from .sealed_values import open_keyring  # only for a sealed namespace

        return open_keyring(keyring, None)

    def new_keyring(self) -> bytes | None:
        """Make the keyring for a namespace that begins; None if it is to have none."""
        return None

    def check_open(self) -> None:
        """Raise an error if no value can be packed or unpacked."""
        if self.error is not None:
            raise self._refusal()

    def _refusal(self) -> StateException:
        assert self.error is not None
        return type(self.error)(self.error.message, self.error.next_steps)

    def pack(self, value: bytes, key: str, revision: int) -> bytes:  # noqa: ARG002
        """Return the stored form of an encoded value.

        Args:
            value: the encoded value.
            key: its key. The stored form may be valid for this key only.
            revision: the revision that writes it. The stored form may be valid for this revision only.

        Cost: O(size of the value).

        """
        return value

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:  # noqa: ARG002
        """Return the encoded value of a stored form.

        Args:
            stored: the stored form.
            key: the key that holds it.
            revision: the revision that wrote it.

        Raises:
            Damaged: `pack` did not return these bytes for this key.

        Cost: O(size of the value).

        """
        return stored

    def pack_delta(self, data: bytes, key: str, revision: int, base: int) -> bytes:  # noqa: ARG002
        """Return the stored form of the data of a delta, which is binary. `base` is the delta's base."""
        return data

    def unpack_delta(self, stored: bytes, key: str, revision: int, base: int) -> bytes:  # noqa: ARG002
        """Return the data of a delta from its stored form. `Damaged` if `pack_delta` did not return it for these."""
        return stored

    def pack_text(self, text: str, purpose: str, name: str, revision: int) -> str:  # noqa: ARG002
        """Return the stored form of a text that people write.

        Args:
            text: the text.
            purpose: `reason` or `author` of a commit, or `note` of a checkpoint.
            name: the name of the checkpoint; "" for a commit.
            revision: the revision of the commit or of the checkpoint.

        """
        return text

    def unpack_text(self, stored: str, purpose: str, name: str, revision: int) -> str:  # noqa: ARG002
        """Return a text from its stored form. `Damaged` if `pack_text` did not return it for these."""
        return stored

    def summary(self, key: str, stored: bytes, revision: int, time: int, expires: int) -> KeySummary:
        """Return the row of a list of keys for a stored value."""
        value = self.unpack(stored, key, revision)
        return KeySummary(key, len(value), value[:SUMMARY_BYTES], revision, time, expires)

    def size(self, stored: bytes, key: str, revision: int) -> int:
        """Return the bytes of the encoded value, or those of the stored form if no key opens it."""
        return len(stored if self.plain or self.error is not None else self.unpack(stored, key, revision))

    def is_current(self, stored: bytes) -> bool:  # noqa: ARG002
        """Return whether `pack` would store a value in this form today, so that `reseal` leaves it. O(size)."""
        return True

    def is_current_delta(self, stored: bytes) -> bool:  # noqa: ARG002
        """Return whether `pack_delta` would store the data of a delta in this form today."""
        return True

    def is_current_text(self, stored: str) -> bool:  # noqa: ARG002
        """Return whether `pack_text` would store a text in this form today."""
        return True

    def resealed(self, stored: bytes, key: str, revision: int) -> bytes:
        """Return the form that `pack` makes today of a stored value: the same object if it is that already."""
        return stored if self.is_current(stored) else self.pack(self.unpack(stored, key, revision), key, revision)

    def resealed_delta(self, stored: bytes, key: str, revision: int, base: int) -> bytes:
        """Return the form that `pack_delta` makes today of a delta: the same object if it is that already."""
        if self.is_current_delta(stored):
            return stored
        return self.pack_delta(self.unpack_delta(stored, key, revision, base), key, revision, base)

    def resealed_text(self, stored: str, purpose: str, name: str, revision: int) -> str:
        """Return the form that `pack_text` makes today of a text: the same object if it is that already."""
        if self.is_current_text(stored):
            return stored
        return self.pack_text(self.unpack_text(stored, purpose, name, revision), purpose, name, revision)

    # --- made of the above -------------------------------------------------------------------------------------

    def pack_version(self, version: V) -> V:
        """Return a version with the stored form of its value. A delete stays as it is."""
        if self.plain or version.value is None:
            return version
        return replace(version, value=self.pack(version.value, version.key, version.revision))

    def unpack_version(self, version: V) -> V:
        """Return a version with its encoded value instead of the stored form. A delete stays as it is.

        Raises:
            Damaged: the value is not in the stored form.

        """
        if self.plain or version.value is None:
            return version
        return replace(version, value=self.unpack(version.value, version.key, version.revision))

    def pack_commit(self, commit: Commit) -> Commit:
        """Return a commit with the stored forms of its texts."""
        return commit if self.plain else _with_texts(commit, self.pack_text)

    def unpack_commit(self, commit: Commit) -> Commit:
        """Return a commit with its texts instead of their stored forms."""
        return commit if self.plain else _with_texts(commit, self.unpack_text)

    def pack_mark(self, mark: CheckpointRecord) -> CheckpointRecord:
        """Return a checkpoint with the stored form of its note."""
        return mark if self.plain else _with_note(mark, self.pack_text)

    def unpack_mark(self, mark: CheckpointRecord) -> CheckpointRecord:
        """Return a checkpoint with its note instead of the stored form."""
        return mark if self.plain else _with_note(mark, self.unpack_text)


PLAIN = StoredValues()


def are_sealed(stored: Iterable[bytes]) -> bool:
    """Return whether these are stored values, and each looks sealed: a damaged namespace may have lost its keyring."""
    forms = list(stored)
    if not forms or not all(form.startswith(SEALED_START) for form in forms):
        return False
    from ..sealing.sealed_form import sealed_value

    return all(map(sealed_value, forms))


def lost_keyring_error(subject: str) -> Damaged:
    """Make the error for sealed values without the keyring that opens them. What repairs them would make them plain."""
    return Damaged(f"{subject}: its values are sealed, and the keyring is lost", "Restore it from a backup")


def user_key_of(backend: Backend) -> UserKey | None:
    """Return the key that a namespace was opened with; None without a key."""
    return getattr(getattr(backend, "_given", None), "user_key", None)


def is_sealed(backend: Backend) -> bool:
    """Return whether the namespace of a backend is encrypted, or its first commit will encrypt it. O(1)."""
    keyring = getattr(backend, "keyring", None)
    return keyring is not None and (keyring() is not None or not getattr(backend, "values", PLAIN).ready)


def _with_texts(commit: Commit, convert: TextForm) -> Commit:
    reason = convert(commit.reason, "reason", "", commit.revision)
    return replace(commit, reason=reason, author=convert(commit.author, "author", "", commit.revision))


def _with_note(mark: CheckpointRecord, convert: TextForm) -> CheckpointRecord:
    return replace(mark, note=convert(mark.note, "note", mark.name, mark.revision))
