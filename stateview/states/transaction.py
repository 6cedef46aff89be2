"""Collect a block of reads and writes that ends in one commit, or in none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from .. import codec
from ..arguments import KeyName, checked_methods
from ..backends.protocol import Backend, CheckpointWrite, CommitRequest, Version, Write
from ..errors import Conflict, HistoryPruned, InvalidArgument, StateException
from ..model import ABSENT, Entry, check_checkpoint, check_key, is_key
from .changes import Diff
from .matching.patterns import Selection
from .view import Ref, StateView, load_found, missing_key, ordered, resolve, to_entry

if TYPE_CHECKING:
    from .compare import Pair


def to_ttl(seconds: float | None) -> int:
    """Convert seconds to microseconds, 0 for no expiry.

    Raises:
        InvalidArgument: they are 0.

    """
    if seconds is None:
        return 0
    if not seconds:
        raise InvalidArgument("ttl=0: give a positive number of seconds, or None for no expiry")
    return max(1, round(seconds * 1_000_000))


def check_prefix(prefix: str) -> str:
    """Return a prefix of keys to delete.

    Raises:
        InvalidArgument: it is empty.

    """
    if not prefix:
        raise InvalidArgument('prefix="": this would delete every key', "To delete every key, use delete(keys='*')")
    return prefix


@checked_methods
class Transaction:
    """Keep writes in memory until the block ends. `StateManager.transaction` makes transactions.

    Reads show the namespace as it was when the block began, with the block's own writes. With `StateManager.transact`
    it is as at the first read, so that a function that only writes makes one round trip. The commit is refused with
    `Conflict` if another writer changed a key that the block read, so that no update is lost.
    """

    def __init__(self, backend: Backend, view: StateView | None, reason: str) -> None:
        self._backend = backend
        self._begun = view
        self._reason = reason
        self._writes: dict[str, Write] = {}
        self._read: dict[str, int] = {}
        self._demanded: dict[str, int] = {}  # by key, the revision that `expected` asks for
        self._marks: dict[str, CheckpointWrite] = {}
        self._outrun: Conflict | None = None
        self._open = True

    @property
    def _view(self) -> StateView:
        """Return the view that the block reads: without one, of the state as it is now."""
        if self._begun is None:
            self._begun = StateView(self._backend, resolve(self._backend, "live"), "live")
        return self._begun

    def load(self, key: str, default: Any = ABSENT) -> Any:
        """Return a value as `StateManager.load` does, with the block's own writes."""
        data = self._data(check_key(key))
        if data is not None:
            return codec.decode(data, f"the value of {key[:60]!r}")
        if default is ABSENT:
            raise missing_key(self._backend, key)
        return default

    def load_many(self, keys: Iterable[str] | str | None = None, default: Any = ABSENT) -> dict[str, Any]:
        """Return the values of several keys as `StateManager.load_many` does, with the block's own writes."""
        return load_found(self._versions, lambda chosen: self._selected("", chosen).values(), Selection(keys), default)

    def entries(
        self, prefix: str = "", keys: Iterable[str] | str | None = None, *, limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[Entry]:  # fmt: skip
        """Yield entries as `StateManager.entries` does. One that the block itself wrote has revision 0.

        A limit lets it read fewer values, but not fewer names.
        """
        return map(to_entry, self._selected(prefix, keys, limit, backwards).values())

    def save(
        self, key: str, value: Any, *, path: str = "", ttl: float | None = None, expected: int | None = None
    ) -> None:
        """Save a value as `StateManager.save` does, when the block ends."""
        self._check_open()
        micros = to_ttl(ttl)
        if path:
            from .values.patches import set_place

            before, left = self._present(key)
            value, micros = set_place(before, path, codec.decode(codec.encode(value)), key), micros or left
        write = Write(codec.encode(value), micros)
        if expected is not None:
            self._read[check_key(key)] = self._demanded[key] = expected
        self._writes[check_key(key)] = write

    @overload
    def delete(self, key: str) -> bool: ...
    @overload
    def delete(self, *, keys: Iterable[str] | str) -> list[str]: ...
    def delete(self, key: str | None = None, *, keys: Iterable[str] | str | None = None) -> bool | list[str]:
        """Delete a key when the block ends, and return whether it has a value.

        Given `keys`, names and globs, delete all of them, and return those that have a value. One round trip for names.
        """
        self._check_open()
        if key is not None and keys is not None:
            raise InvalidArgument("give either key or keys")
        found = self._versions([check_key(key)]) if keys is None else self._selected("", keys)
        self._writes.update(dict.fromkeys(found, Write(None)))
        return bool(found) if keys is None else list(found)

    def delete_prefix(self, prefix: str) -> list[str]:
        """Delete all keys with a prefix when the block ends, and return them. See `StateManager.delete_prefix`."""
        return self.delete(keys=map(KeyName, self.list_keys(check_prefix(prefix))))

    def revision(self, key: str) -> int:
        """Return the revision that wrote a key, as the block reads it; 0 for no value."""
        self._data(check_key(key))
        return self._read.get(key, 0)

    def update(
        self, key: str, function: Callable[[Any], Any], default: Any = ABSENT, *, path: str = "", keep_ttl: bool = False
    ) -> Any:
        """Save the result of `function` on a key's value, or on what lies at a JSON Pointer in it, and return it."""
        if path:
            from .values.patches import get_place

            value = function(get_place(self._present(key)[0], path, key, default))
        else:
            value = function(self.load(key, default))
            if keep_ttl and self._data(key) is not None:
                return self._change(key, value)
        self.save(key, value, path=path)
        return value

    def patch(self, key: str, operations: Any) -> Any:
        """Apply a JSON Patch as `StateManager.patch` does, when the block ends, and return the new value."""
        from .values.patches import apply_patch

        return self._change(key, apply_patch(self._present(key)[0], codec.decode(codec.encode(operations)), key))

    def merge(self, key: str, patch: Any) -> Any:
        """Merge a patch as `StateManager.merge` does, when the block ends, and return the new value."""
        from .values.patches import merge_patch

        return self._change(key, merge_patch(self._present(key)[0], codec.decode(codec.encode(patch))))

    def _present(self, key: str) -> tuple[Any, int]:
        """Return the value of a key, and how long it has left; 0 for no expiry."""
        version = self._versions([check_key(key)]).get(key)
        if version is None or version.value is None:
            raise missing_key(self._backend, key)
        left = max(1, version.expires - self._view._point.time) if version.expires else 0
        return codec.decode(version.value, f"the value of {key[:60]!r}"), left

    def _change(self, key: str, value: Any) -> Any:
        self._writes[key] = Write(codec.encode(value), self._present(key)[1])
        return value

    def list_keys(self, prefix: str = "") -> list[str]:
        """List the keys, sorted, with the block's own writes. Keys that others add meanwhile are no conflict."""
        with self._whose_state_is_kept():
            keys = set(self._view.list_keys(prefix))
        for key, write in self._writes.items():
            if key.startswith(prefix):
                (keys.discard if write.value is None else keys.add)(key)
        return sorted(keys)

    def checkpoint(self, name: str, *, note: str = "") -> str:
        """Name the state that the block's commit makes, with all its writes, and return the name.

        The writes and the name are one commit. An existing name moves, as with `StateManager.checkpoint`. If the block
        writes nothing, the name is that of the present state.

        Raises:
            InvalidName: the name is not allowed.

        """
        from .retention import kind_of_name

        self._check_open()
        kind = kind_of_name(check_checkpoint(name))
        self._marks[name] = CheckpointWrite(name, note, kind=kind, after=True)
        return name

    @property
    def size(self) -> int:
        """Return how many keys the commit will write or delete."""
        return len(self._writes)

    @property
    def written(self) -> list[str]:
        """Return the keys that the commit will write or delete, sorted."""
        return sorted(self._writes)

    def diff(self, before: Ref | None = None, *, keys: Iterable[str] | str | None = None) -> Diff:
        """Compare a state, by default that in which the block began, with what the block sees: with its own writes.

        What is compared does not count as read by the block. O(changes + writes), streamed.

        Args:
            before: a ref of the same namespace.
            keys: only these keys, by name or else by glob.

        Raises:
            RefNotFound, HistoryPruned: the ref names no kept state.

        """
        from heapq import merge
        from operator import itemgetter

        from .compare import change, changed_pairs, read_pairs, select

        self._check_open()
        view = self._view if before is None else StateView(self._backend, resolve(self._backend, before), str(before))
        points = view._point, self._view._point
        states = ((self._backend, points[0]), (self._backend, points[1]))

        def pairs() -> Iterator[Pair]:
            selection = select(Selection(keys), *states).among(set(self._writes).intersection)
            written = filter(selection, self.written)
            own = ((key, old, self._own_or_none(key)) for key, old, _ in read_pairs(self._backend, written, *points))
            others = (pair for pair in changed_pairs(self._backend, *points, selection) if pair[0] not in self._writes)
            with self._whose_state_is_kept():
                yield from merge(own, others, key=itemgetter(0))

        return Diff(
            view.ref, "transaction", lambda: (found for pair in pairs() if (found := change(*pair)) is not None)
        )

    def batch(self, reason: str = "") -> CommitRequest | None:
        """Return the commit of the block, None if it changes nothing. The transaction takes no more writes."""
        self._open = False
        if not self._writes and not self._marks:
            return None
        count = len(self._writes)
        reason = reason or self._reason or f"transaction of {count} key{'s' if count > 1 else ''}"
        return CommitRequest(self._writes, self._read, reason=reason, marks=tuple(self._marks.values()))

    def _may_pass(self, error: Conflict) -> bool:
        """Return whether a conflict of this block or its commit may be gone when the block runs again.

        It never is if `expected` named a revision that the key did not have when the block began.
        """
        if self._open:
            return error is self._outrun
        try:
            found = self._backend.read(list(self._demanded), self._view._point) if self._demanded else {}
        except HistoryPruned:
            return True
        revisions = {key: found[key].revision if key in found else 0 for key in self._demanded}
        return revisions == self._demanded

    def discard(self) -> None:
        """End the transaction without a commit. It takes no more writes."""
        self._open = False

    def _data(self, key: str) -> bytes | None:
        version = self._versions([key]).get(key)
        return version.value if version is not None else None

    def _versions(self, keys: list[str]) -> dict[str, Version]:
        """Return the versions of those keys that have a value, as the block sees them. The block has read them then."""
        self._check_open()
        point, versions = self._view._point, {}
        unwritten = [key for key in keys if key not in self._writes]
        with self._whose_state_is_kept():
            found = self._backend.read(unwritten, point) if unwritten else {}
        for key in unwritten:
            self._read.setdefault(key, found[key].revision if key in found else 0)
        for key in keys:
            if key in found:
                versions[key] = found[key]
            elif key in self._writes and self._writes[key].value is not None:
                versions[key] = self._own(key)
        return versions

    def _own_or_none(self, key: str) -> Version | None:
        return None if self._writes[key].value is None else self._own(key)

    def _own(self, key: str) -> Version:
        write, time = self._writes[key], self._view._point.time
        return Version(key, write.value, 0, time, time + write.ttl if write.ttl else 0)

    def _selected(
        self, prefix: str, keys: Iterable[str] | str | None, limit: int | None = None, backwards: bool = False
    ) -> dict[str, Version]:
        """Return the versions that a prefix, names and globs choose, in key order or backwards."""
        selection = Selection(keys)
        if selection.is_plain():
            chosen = sorted({name for name in selection.exact() if is_key(name) and name.startswith(prefix)})
        else:
            present = self.list_keys(prefix)
            selection = selection.among(set(present).intersection)
            chosen = [key for key in present if selection(key)][:: -1 if backwards else 1][:limit]
        if not selection.is_plain():
            return self._versions(chosen)
        return {one.key: one for one in ordered(list(self._versions(chosen).values()), limit, backwards)}

    @contextmanager
    def _whose_state_is_kept(self) -> Iterator[None]:
        """Raise `Conflict` if others have pruned the state that the block reads: run again, it reads a later one."""
        try:
            yield
        except HistoryPruned as error:
            what = f"others wrote so much since revision {self._view.revision} that the transaction cannot read on"
            self._outrun = Conflict(what, "Run it again")
            raise self._outrun from error

    def _check_open(self) -> None:
        if not self._open:
            raise StateException("this transaction has ended", "Use it inside its 'with' block")
