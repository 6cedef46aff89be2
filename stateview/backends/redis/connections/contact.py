"""The first contact with a namespace: the server's clock, the rights of the user, the head, the keyring, older data."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from typing import Any, TypeVar

import redis

from ....errors import BackendError, Damaged, ReadOnly, run
from ....model import now
from ...stored_values import StoredValues
from ..scripts.commit import COMMIT, CONTACT
from ..scripts.common import unreadable_head
from .client import reach
from .errors import missing_right_error
from .reading import commands_of
from .server import Server

T = TypeVar("T")
REGISTRY = "stateview:namespaces"
NEWEST_FORMAT = 5  # see `scripts.common`
SEALED_FORMATS = (b"3", b"5")


@lru_cache(maxsize=64)
def keyring_digest(document: bytes | None) -> str:
    """Return the digest by which a client tells a script which keyring it knows; None stands for no keyring."""
    return sha1(document or b"", usedforsecurity=False).hexdigest()


class Contact(Server, ABC):
    """A server, and what this client has learnt of the namespace at the first contact.

    Args:
        values: the stored form of values. For the other arguments see `Server`.

    """

    def __init__(
        self, address: str, shown: str, namespace: str, read_only: bool, history: int, timeout: float | None,
        values: StoredValues, chosen: dict[str, Any],
    ) -> None:  # fmt: skip
        super().__init__(address, shown, namespace, read_only, history, timeout, chosen)
        self.values = self._given = values  # `values` is the form of the namespace that lies there
        self._keyring: bytes | None = None
        self._new_keyring: bytes | None = None  # until the first commit stores it
        self._lineage = ""  # of a sealed namespace
        self._denied = ""  # a command of a commit that this user may not run
        self._skew = 0  # microseconds by which the server's clock is ahead
        self._ready = False  # whether the handshake is done
        self._looked_for_older = False  # whether data of an older layout was looked for

    @abstractmethod
    def _adopt(self) -> None:
        """Convert data of an older layout."""

    def _handshake(self) -> None:
        """Learn the server's clock, check the head, and convert older data if the namespace is new. Once.

        With a key it is done again as long as there is no namespace.
        """
        if self._ready:
            return
        with self._contact_mutex:
            if self._ready:
                return
            asked = time.monotonic()
            head, parts = self._contact()
            if head.get(b"format", b"").isdigit() and int(head[b"format"]) > NEWEST_FORMAT:
                raise BackendError(f"{self.url}: namespace {self.namespace!r} has a later format", "Upgrade stateview")
            if unreadable_head(head) or (not head and parts):
                raise Damaged(f"{self.url}: {self._keys[0]} is not what was written", run("recover"))
            if head and self._checked:
                fields = (head.get(name, b"0") for name in (b"lineage", b"revision", b"time"))
                self._saw(b" ".join(fields), asked)
            self._choose_values(head)
            if not head and not self._looked_for_older:
                self._adopt()
            self._looked_for_older = True
            self._ready = bool(head) or self._given.ready  # with a key: whoever makes the namespace makes its keyring

    def _contact(self) -> tuple[dict[bytes, bytes], int]:
        """Return the head, and how many other parts the namespace has. Learn the clock and the rights.

        One round trip, two on a cluster.

        A commit that was refused in its middle would be half a commit: Redis takes back nothing that a script did. So
        the command of a commit that this user may not run is noted.
        """
        words = [] if self.read_only else [name.encode() for name in commands_of(COMMIT)]

        def act(client: Any) -> tuple[int, Any]:
            if isinstance(client, redis.Redis):  # the connection first: it takes time of its own
                session.connect(client.connection_pool)
            else:
                reach(client, self._keys[0])
            started = now()
            reply = self._run(client, session, CONTACT, words, whole=True)
            return (started + now()) // 2, reply

        with self._session() as session:
            moment, reply = self._with_retry(act)
        seconds, micros, parts, fields, *denied = reply
        self._skew = int(seconds) * 1_000_000 + int(micros) - moment
        self._denied = denied[0].decode() if denied else ""
        return dict(zip(fields[::2], fields[1::2], strict=True)), parts

    def _check_rights(self) -> None:
        """Raise an error if this user may not run a command that commits need, and may not yet."""
        if self._denied:
            self._contact()
        if self._denied:
            raise missing_right_error(self.url, self._denied.lower())

    def _choose_values(self, head: dict[bytes, bytes]) -> None:
        """Choose the form of values by what the head holds.

        Raises:
            Damaged: the keyring is missing.

        """
        document = head.get(b"keyring")
        if document is None and head.get(b"format") in SEALED_FORMATS:
            raise Damaged(f"{self.url}: the keyring of namespace {self.namespace!r} is missing", "Restore a backup")
        self._lineage = head.get(b"lineage", b"").decode(errors="replace")
        if document != self._keyring:
            self._use_keyring(document)

    def _use_keyring(self, document: bytes | None) -> None:
        """Choose the form of values. A reader of both takes the keyring first, so its values are not older."""
        self.values = self._given.opened(document)
        self._keyring = document

    def _learn_keyring(self) -> dict[bytes, bytes]:
        """Read the head, choose the form of values by it, and return it. One round trip."""
        self._handshake()
        with self._contact_mutex:
            head: dict[bytes, bytes] = self._with_retry(lambda client: client.hgetall(self._keys[0]))
            self._choose_values(head)
        return head

    def _knows_keyring(self, known: bytes | None) -> bool:
        """Return whether `known` is still the keyring of the namespace, after learning it. One round trip."""
        return self._learn_keyring().get(b"keyring") == known

    def _check_open(self) -> None:
        self._handshake()
        self.values.check_open()

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.url} is open for reading only")
        self._check_rights()

    def _registry(self, act: Callable[[Any], T]) -> T:
        """Call `act`, which reads or changes the list of namespaces: a key outside this namespace."""
        try:
            return self._with_retry(act)
        except Damaged as error:
            message = f"{self.url}: the list of namespaces, the key {REGISTRY}, is not a set: another program wrote it"
            raise Damaged(message, run("recover")) from error
