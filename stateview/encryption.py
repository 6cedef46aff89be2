"""`StateManager.encryption`: what a script may do with the keys of a namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .arguments import SecretText, checked_methods
from .backends.protocol import Backend
from .backends.sealed_values import FIRST_LABEL, KeyedValues
from .maintenance import encryption as engine
from .sealing.keys import UserKey

if TYPE_CHECKING:
    from .backends.protocol import ProgressCount
    from .maintenance.encryption import KeyInfo, KeyStatus


@checked_methods
class Encryption:
    """Encrypt the namespace of a manager, and say which keys open it. `StateManager.encryption` is one.

    The key in use is the one that the manager was opened with. A change needs it. The manager goes on with a key that
    opens the namespace: after `rotate_key` with the new one, after `turn_off` without a key.

    A change is refused with `Sealed` if the key in use does not open the namespace, and with `ReadOnly` if the manager
    is read-only.
    """

    def __init__(
        self,
        backend: Backend,
        values: KeyedValues | None,
        check_writable: Callable[[], None],
        use: Callable[[str | None], None],
    ) -> None:
        self._backend = backend
        self._values = values
        self._check_writable = check_writable
        self._use = use

    @staticmethod
    def new_key() -> str:
        """Return a new random key, in the form that can be stored and typed. It opens nothing yet."""
        return UserKey.generate().printed()

    def status(self) -> KeyStatus:
        """Tell whether the namespace is encrypted, and which keys open it. It needs no key. O(keys).

        Raises:
            InvalidArgument: the store has no encryption.
            Damaged: the keyring is not what was written.

        """
        return engine.key_status(self._backend, self._key)

    def turn_on(self, label: str = FIRST_LABEL, *, progress: ProgressCount | None = None) -> int:
        """Encrypt the namespace with the key in use, and return how much was rewritten. O(history).

        Others may read and write meanwhile. If the call is killed, the next one goes on. A new namespace needs no such
        call: with a key it is encrypted from its first commit. Old plain copies may remain on the disk.

        Args:
            label: the name of the key.
            progress: called with what is done, and the total. An exception from it stops the call.

        Raises:
            NamespaceNotFound: it was never written.
            InvalidArgument: it is encrypted already, or the label is not allowed.

        """
        self._check_writable()
        return engine.encrypt(self._backend, self._key, label, progress or _ignore)

    def turn_off(self, *, progress: ProgressCount | None = None) -> int:
        """Make the namespace plain, and return how much was rewritten. O(history).

        Others may read and write meanwhile. If the call is killed, the next one goes on.

        Raises:
            InvalidArgument: it is not encrypted.

        """
        self._check_writable()
        count = engine.decrypt(self._backend, self._key, progress or _ignore)
        if self._values is not None:
            self._values.forget()
        self._use(None)
        return count

    def add_key(self, key: SecretText, label: str | None = None) -> KeyInfo:
        """Let another key open the namespace, and describe it. O(keys).

        Args:
            key: the other key, as `new_key` returns it, or `passphrase:` and words. Keep it before the call.
            label: its name. None: the first free one of `key-2`, `key-3` and so on.

        Raises:
            InvalidArgument: the key is not usable or is there already, or the label is taken or not allowed.

        """
        self._check_writable()
        return engine.add_key(self._backend, self._key, UserKey.parse(key), label)

    def remove_key(self, name: str) -> None:
        """Let a key, by its label or id, no longer open the namespace. O(keys).

        To remove a key takes nothing back that was read with it. `rotate_data_key` ends that for what it rewrites.

        Raises:
            InvalidArgument: no key has this name, or it is the last one.

        """
        self._check_writable()
        engine.remove_key(self._backend, self._key, name)

    def rotate_key(self, key: SecretText) -> None:
        """Replace the key in use by another, which takes over its label. Nothing else is rewritten. O(keys).

        Args:
            key: the new key, as `new_key` returns it, or `passphrase:` and words. Keep it before the call.

        Raises:
            InvalidArgument: the key is not usable, or is there already.

        """
        self._check_writable()
        successor = UserKey.parse(key)
        if self._values is None:
            engine.rotate_key(self._backend, None, successor)
            return
        with self._values.replaced_by(successor):
            engine.rotate_key(self._backend, self._values.user_key, successor)
        self._use(key)

    def rotate_data_key(self, others: Iterable[str] = (), *, progress: ProgressCount | None = None) -> int:
        """Seal all with a new data key, and return how much was rewritten. O(history).

        What was read with a removed key, or with an old copy of the keyring, opens nothing any more. Others may read
        and write meanwhile. If the call is killed, the next one goes on.

        Args:
            others: all keys of the namespace but the one in use.
            progress: called with what is done, and the total. An exception from it stops the call.

        Raises:
            InvalidArgument: the namespace is not encrypted, or a key is missing; its label is named.
            Conflict: encryption is being turned on or off.

        """
        self._check_writable()
        keys = [self._key, *map(UserKey.parse, others)]
        return engine.rotate_data_key(self._backend, keys, progress or _ignore)

    def check_open(self) -> None:
        """Raise what a change of the keys would raise, because no key opens the namespace, or it is plain. O(keys)."""
        engine.check_open(self._backend, self._key)

    @property
    def _key(self) -> UserKey | None:
        return None if self._values is None else self._values.user_key


def _ignore(_done: int, _total: int) -> None:
    pass
