"""Refs to states, and a read-only view of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .. import codec
from ..backends.common import history_pruned_error
from ..backends.protocol import Backend, CheckpointRecord, Head, KeySummary, StateAt, Version
from ..errors import KeyNotFound, RefNotFound, see
from ..model import ABSENT, Checkpoint, Entry, check_key, is_key, parse_ref, to_datetime
from . import compare as comparison
from .json_diff import Diff
from .retention import kind_of

Ref = str | int


def resolve(backend: Backend, ref: Ref, head: Head | None = None) -> StateAt:
    """The state that a ref names.

    Expiry is judged by the time a checkpoint was made, by the end of a revision, and for live by now.

    Raises:
        InvalidName: not a ref.
        RefNotFound: nothing answers to it.
        HistoryPruned: it is no longer kept.

    """
    parsed = parse_ref(ref)
    if parsed.name is not None:
        mark = find_mark(backend.marks(), parsed.name, parsed.revision)
        if mark is None:
            raise missing_mark(backend, str(ref), parsed.name)
        if not parsed.back:
            return StateAt(mark.revision, mark.time)
        base = mark.revision
    head = head or backend.head()
    if parsed.name is None:
        base = head.revision if parsed.revision is None else parsed.revision
    revision = base - parsed.back
    if not 0 <= revision <= head.revision:
        raise RefNotFound(
            f"there is no revision {ref} in namespace {backend.namespace!r}", f"The last is {head.revision}"
        )
    if revision == head.revision:
        return StateAt(revision, backend.now())
    if revision < head.floor:
        named = [mark for mark in backend.marks() if mark.revision == revision]
        return StateAt(revision, named[-1].time if named else 0)
    ending = backend.commits(limit=1, below=revision + 2)
    if not ending:  # forgotten since the head was read
        raise history_pruned_error(backend.namespace, revision, backend.head().floor)
    return StateAt(revision, (ending[0].time - to_datetime(0)) // (to_datetime(1) - to_datetime(0)))


def find_mark(marks: list[CheckpointRecord], name: str, revision: int | None = None) -> CheckpointRecord | None:
    """The mark that a name means now, or meant at a revision."""
    found = [mark for mark in marks if mark.name == name and revision in (None, mark.revision)]
    return found[-1] if found else None


def to_checkpoint(mark: CheckpointRecord, current: bool = True) -> Checkpoint:
    """A stored checkpoint as users see it."""
    return Checkpoint(mark.name, mark.revision, to_datetime(mark.time), mark.note, current, kind_of(mark))


def missing_mark(backend: Backend, ref: str, name: str) -> RefNotFound:
    """No such checkpoint, with the names that are near."""
    from difflib import get_close_matches

    near = get_close_matches(name, {mark.name for mark in backend.marks()}, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else see("checkpoints")
    return RefNotFound(f"there is no checkpoint {ref!r} in namespace {backend.namespace!r}", hint)


def to_entry(version: Version) -> Entry:
    """A stored version with its value decoded; `ABSENT` for a delete."""
    value = ABSENT if version.value is None else codec.decode(version.value, f"the value of {version.key[:60]!r}")
    expires = to_datetime(version.expires) if version.expires else None
    return Entry(version.key, value, version.revision, to_datetime(version.time), expires)


def missing_key(backend: Backend, key: str, where: str = "") -> KeyNotFound:
    """No such key, with the namespace and the next step."""
    return KeyNotFound(
        f"there is no key {key[:100]!r}{where} in namespace {backend.namespace!r} of {backend.url}",
        see("keys"),
    )


class StateView:
    """A namespace as it is at one state, for reading. What it shows does not change; made by `StateManager.at`."""

    def __init__(self, backend: Backend, point: StateAt, label: str) -> None:
        self._backend = backend
        self._point = point
        self.ref = label

    @property
    def namespace(self) -> str:
        """The namespace that is viewed."""
        return self._backend.namespace

    @property
    def revision(self) -> int:
        """The revision that is viewed."""
        return self._point.revision

    def __repr__(self) -> str:
        return f"<StateView of {self.namespace!r} at {self.ref!r}, revision {self.revision}>"

    def load(self, key: str, default: Any = ABSENT) -> Any:
        """The value of a key; `default` where it has none.

        Raises:
            KeyNotFound: it has none, and no default was given.

        """
        found = self._backend.read([check_key(key)], self._point).get(key)
        if found is not None and found.value is not None:
            return codec.decode(found.value, f"the value of {key[:60]!r}")
        if default is ABSENT:
            raise missing_key(self._backend, key, f" at {self.ref}")
        return default

    def entry(self, key: str) -> Entry:
        """The value of a key with its revision, time and expiry.

        Raises:
            KeyNotFound: there is none.

        """
        found = self._backend.read([check_key(key)], self._point).get(key)
        if found is None:
            raise missing_key(self._backend, key, f" at {self.ref}")
        return to_entry(found)

    def raw_entries(self, prefix: str = "", keys: Iterable[str] | str | None = None) -> Iterator[Version]:
        """As `entries`, with the values encoded as they are stored."""
        selection = comparison.Selection(keys)
        found = comparison.entries(self._backend, self._point, prefix or selection.prefix())
        return (version for version in found if selection(version.key) and version.key.startswith(prefix))

    def entries(self, prefix: str = "", keys: Iterable[str] | str | None = None) -> Iterator[Entry]:
        """All entries in key order, streamed; those with a prefix, or chosen by names and globs."""
        return (to_entry(version) for version in self.raw_entries(prefix, keys))

    def list_keys(self, prefix: str = "", keys: Iterable[str] | str | None = None) -> list[str]:
        """The keys, sorted; those with a prefix, or chosen by names and globs. O(keys listed)."""
        return [version.key for version in self.raw_entries(prefix, keys)]

    def rows(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, skip: int = 0,
        backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """A page of the keys without their values, with size and start of each; see `Backend.list_keys`. O(limit)."""
        return self._backend.list_keys(prefix, after, before, limit, self._point, skip, backwards)

    def count(self, low: str = "", high: str = "") -> int:
        """How many keys there are from `low` up to, not including, `high`; "" is no bound. O(keys counted)."""
        return self._backend.count(low, high, self._point)

    def __contains__(self, key: object) -> bool:
        return is_key(key) and bool(self._backend.read([key], self._point))


def diff(before: StateView, after: StateView, keys: Iterable[str] | str | None = None) -> Diff:
    """The changes from one view to another, of one namespace or of two, in one store or in two.

    O(changes) within a namespace, else O(keys); streamed either way.
    """
    selection = comparison.Selection(keys)
    one, other = before._backend, after._backend
    if (one.url, one.namespace) == (other.url, other.namespace):
        return comparison.diff_points(one, before._point, after._point, (before.ref, after.ref), selection)
    labels = (f"{one.namespace}:{before.ref}", f"{other.namespace}:{after.ref}")
    return comparison.diff_stores((one, before._point), (other, after._point), labels, selection)
