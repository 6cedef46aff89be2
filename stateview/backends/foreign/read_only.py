"""What all backends of other programs' stores have in common: they refuse every write, and keep nothing superseded."""

from __future__ import annotations

import os
import shlex
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NoReturn

from ...errors import ReadOnly
from ...model import Finding, now
from .. import Store
from ..fork import watch_fork
from ..protocol import (
    PAGE_BYTES,
    CommitRequest,
    DiskUsage,
    Head,
    ProgressCount,
    ProgressText,
    RecoverySession,
    StagedImport,
    StateAt,
    StoredVersion,
    StoreIdentity,
    SupersededVersion,
    Version,
)
from ..stored_values import PLAIN, StoredValues

_POLL_SECONDS = (0.05, 0.5)  # between two looks for a change: the first pause, and the longest


class ReadOnlyBackend(ABC):
    """One namespace of another program's store. See the protocol `Backend` for what each method promises.

    Args:
        store: the parsed store URL.
        namespace: a checked name.
        read_only: of no effect, since every write is refused.
        history: of no effect, since the owner decides what is kept.
        timeout: seconds to wait for the owner's lock, or for a server.
        values: the form of stored values. It is always plain.

    """

    kind: str
    title: str
    rewrites_state = False
    ranks_keys = False

    def __init__(
        self, store: Store, namespace: str, *, read_only: bool = True, history: int = 0, timeout: float = 10.0,  # noqa: ARG002
        values: StoredValues = PLAIN,
    ) -> None:  # fmt: skip
        self.place = store.place
        self.url = store.shown
        self.namespace = namespace
        self.timeout = timeout
        self.values = values
        self._lock = threading.RLock()  # held while an index is read
        watch_fork(self)

    def before_fork(self) -> None:  # noqa: B027 - a part of `ForkAware`
        """Wait for nothing: a child reads its index anew."""

    def after_fork(self, child: bool) -> None:
        """Make the lock anew in the child, where another thread of the parent would never release it."""
        if child:
            self._lock = threading.RLock()

    @abstractmethod
    def head(self) -> Head: ...

    @abstractmethod
    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]: ...

    @abstractmethod
    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]: ...

    @abstractmethod
    def namespaces(self) -> list[str]: ...

    @abstractmethod
    def close(self) -> None: ...

    def identity(self) -> StoreIdentity:
        return StoreIdentity((self.kind, os.path.realpath(self.place), self.namespace))

    def now(self) -> int:
        return now()

    def get(self, key: str) -> Version | None:
        return self.read([key]).get(key)

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        out: list[SupersededVersion] = []
        while len(out) < limit and (page := self.versions_page(after, limit)):
            for one in page:
                if one.until or one.value is None:
                    size = len(one.value or b"")
                    out.append(SupersededVersion(one.key, one.revision, one.until, size, one.value is None, size))
            after = (page[-1].key, page[-1].revision)
        return out[:limit]

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:  # noqa: ARG002
        return None  # the store is the owner's, and holds all namespaces

    def last_revision(self) -> int:
        """Return the revision of the head."""
        return self.head().revision

    def wait(self, revision: int, timeout: float) -> int:
        """Poll the revision: other programs notify nobody."""
        deadline, pause = time.monotonic() + timeout, _POLL_SECONDS[0]
        while (present := self.last_revision()) <= revision and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(2 * pause, _POLL_SECONDS[1])
        return present

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:  # noqa: ARG002
        """Yield a note on what this backend is; a store that cannot be read is found by the other checks."""
        yield Finding("note", self.url, f"this is {self.title}, which stateview only reads", code="foreign-store")

    # Writing: all of it is refused.

    def refuse(self) -> NoReturn:
        """Raise `ReadOnly`: the next step is a copy, which can be written to.

        The copy's store is named: that of the folder may be this one.
        """
        words = shlex.join(["stateview", "-s", "sqlite", "-n", self.namespace, "import", self.url])
        raise ReadOnly(f"{self.url} is {self.title}, which stateview only reads", f"Copy it by '{words}'")

    def commit(self, batch: CommitRequest) -> Head:  # noqa: ARG002
        self.refuse()

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:  # noqa: ARG002
        self.refuse()

    def drop(self) -> None:
        self.refuse()

    def open_staging(self) -> StagedImport:
        self.refuse()

    def open_recovery(self) -> AbstractContextManager[RecoverySession]:
        self.refuse()


def cut(page: Iterable[StoredVersion], limit: int) -> list[StoredVersion]:
    """Return the versions of a page: at most `limit`, and none after `PAGE_BYTES` of values."""
    out: list[StoredVersion] = []
    size = 0
    for version in page:
        if len(out) == limit or size >= PAGE_BYTES:
            break
        out.append(version)
        size += len(version.value or b"")
    return out
