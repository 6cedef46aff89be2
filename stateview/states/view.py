"""Resolve refs to states, and offer a read-only view of a state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from .. import codec
from ..arguments import checked_methods
from ..backends.conflicts import history_pruned_error
from ..backends.protocol import (
    SUMMARY_BYTES,
    Backend,
    CheckpointRecord,
    FindsCheckpoints,
    Head,
    KeySummary,
    StateAt,
    Version,
)
from ..errors import KeyNotFound, RefNotFound, see
from ..model import (
    ABSENT,
    Checkpoint,
    Entry,
    SealedValue,
    check_key,
    is_key,
    to_datetime,
    to_micros,
)
from .changes import Diff
from .matching.patterns import Selection, name_of
from .missing import check_exists, missing_namespace, near_hint, near_key_hint

if TYPE_CHECKING:
    from .steady import Renew

Ref = str | int


def resolve(backend: Backend, ref: Ref, head: Head | None = None) -> StateAt:
    """Resolve a ref to the state that it names.

    Expiry is judged by the time of a checkpoint, by the end of a revision, and for live by the present time. A time
    such as `@2h` judges it itself.

    Raises:
        InvalidName: `ref` is not a ref.
        RefNotFound: no checkpoint or revision has this ref.
        HistoryPruned: the state is no longer kept.

    """
    from ..refs import parse_ref  # imported here: a plain load needs no ref

    parsed = parse_ref(ref)
    if parsed.time:
        from .moments import state_of_time

        point = state_of_time(backend, parsed.time, head)
        if not parsed.back:
            return point
        base = point.revision
    if parsed.name is not None:
        mark = find_mark(backend, parsed.name, parsed.revision)
        if mark is None:
            raise missing_mark(backend, str(ref), parsed.name, ("live",))
        if not parsed.back:
            return mark.point
        base = mark.revision
    head = head or backend.head()
    if parsed.name is None and not parsed.time:
        base = head.revision if parsed.revision is None else parsed.revision
    revision = base - parsed.back
    if not 0 <= revision <= head.revision:
        check_exists(backend, head)
        raise RefNotFound(
            f"there is no revision {ref} in namespace {backend.namespace!r}", f"The last is {head.revision}"
        )
    if revision == head.revision:
        return StateAt(revision, backend.now())
    ending = backend.commits(limit=1, below=revision + 2) if revision >= head.floor else []
    if ending:
        # The clock may have been set back since: then the commit's time judges no expiry
        return StateAt(revision, min(to_micros(ending[0].time), backend.now()))
    named = [mark for mark in backend.marks() if mark.revision == revision]
    if not named:
        floor = backend.head().floor
        if floor > head.floor and is_live(ref):  # the head is one of the past by now
            return resolve(backend, ref)
        raise history_pruned_error(backend.namespace, revision, floor)
    return StateAt(revision, named[-1].time)


def renew_points(refs: Sequence[Ref], points: list[StateAt]) -> Renew | None:
    """Return how to replace the states of live refs by later ones, None if all refs are fixed."""
    if not any(map(is_live, refs)):
        return None

    def renew(state: Backend) -> tuple[StateAt, ...]:
        for ref, point in zip(refs, points, strict=True):
            if not is_live(ref):
                state.changed_keys(point, point)  # raises `HistoryPruned` if it is no longer kept
        points[:] = [resolve(state, ref) if is_live(ref) else at for ref, at in zip(refs, points, strict=True)]
        return tuple(points)

    return renew


def is_live(ref: Ref) -> bool:
    """Return whether a ref names a state of the moment: `live`, or `live~3`."""
    from ..refs import parse_ref

    return parse_ref(ref).is_live


def find_mark(backend: Backend, name: str, revision: int | None = None) -> CheckpointRecord | None:
    """Find the checkpoint that a name means now, or meant at a revision."""
    marks = cast("FindsCheckpoints", backend).marks_of(name) if hasattr(backend, "marks_of") else backend.marks()
    matching = [mark for mark in marks if mark.name == name and revision in (None, mark.revision)]
    return matching[-1] if matching else None


def to_checkpoint(mark: CheckpointRecord, current: bool = True) -> Checkpoint:
    """Convert a stored checkpoint to the public type."""
    from .retention import kind_of

    return Checkpoint(mark.name, mark.revision, to_datetime(mark.time), mark.note, current, kind_of(mark))


def missing_mark(backend: Backend, ref: str, name: str, more: tuple[str, ...] = ()) -> RefNotFound:
    """Build the error for an unknown checkpoint, with similar names. `more` are other refs that may be meant."""
    if not backend.head().lineage:
        return missing_namespace(backend)

    def names() -> set[str]:
        marks = backend.marks()
        return {f"{name}@{mark.revision}" for mark in marks if mark.name == name} or {mark.name for mark in marks}

    what = f"there is no checkpoint {ref!r} in namespace {backend.namespace!r}"
    hint = near_hint(ref if "@" in ref else name, lambda: {*names(), *more}, see("checkpoints"))
    return RefNotFound(what, hint).about(backend.url, backend.namespace)


def to_entry(version: Version) -> Entry:
    """Convert a stored version to an entry, its value decoded; `ABSENT` for a delete. A `SealedValue` stays."""
    value: Any = ABSENT
    if isinstance(version.value, SealedValue):
        value = version.value
    elif version.value is not None:
        value = codec.decode(version.value, f"the value of {version.key[:60]!r}")
    expires = to_datetime(version.expires) if version.expires else None
    return Entry(version.key, value, version.revision, to_datetime(version.time), expires)


def missing_key(backend: Backend, key: str, where: str = "", at: StateAt | None = None) -> KeyNotFound:
    """Build the error for a key without a value, with similar keys; or for a namespace that was never written."""
    if not backend.head().lineage:
        return missing_namespace(backend)
    what = f"there is no key {key[:100]!r}{where} in namespace {backend.namespace!r} of {backend.url}"
    return KeyNotFound(what, near_key_hint(key, (backend, at))).about(backend.url, backend.namespace)


def load_found(
    read: Callable[[list[str]], Mapping[str, Version]],
    select: Callable[[Iterable[str] | str | None], Iterable[Version]],
    selection: Selection,
    default: Any,
) -> dict[str, Any]:
    """Load several keys, see `StateManager.load_many`.

    Args:
        read: reads keys by their names.
        select: yields the versions that names and globs choose, in key order.
        selection: names and globs.
        default: the value of names that have none; `ABSENT` to leave them out.

    """
    if selection.is_plain():
        found = read(sorted(set(map(check_key, selection.exact()))))
    else:
        found = {version.key: version for version in select(selection.patterns)}
        selection = selection.among(found.keys().__and__)
    names = set(map(check_key, selection.exact()))
    given = [name_of(pattern) or pattern for pattern in selection.patterns or ()]
    order = dict.fromkeys([*(name for name in given if name in names or name in found), *found])
    values = {}
    for key in order:
        version = found.get(key)
        if version is not None and version.value is not None:
            values[key] = codec.decode(version.value, f"the value of {key[:60]!r}")
        elif default is not ABSENT:
            values[key] = default
    return values


def read_names(backend: Backend, point: StateAt | None, selection: Selection, prefix: str) -> list[Version]:
    """Read the keys of a selection of names alone, in key order. One round trip for a thousand of them."""
    names = {name for name in selection.exact() if is_key(name) and name.startswith(prefix)}
    found = backend.read(sorted(names), point) if names else {}
    return [found[name] for name in sorted(found)]


def ordered(versions: list[Version], limit: int | None, backwards: bool) -> list[Version]:
    """Return the first `limit` of versions in key order, or the last ones, from the last on."""
    return (versions[::-1] if backwards else versions)[:limit]


def _summary(version: Version) -> KeySummary:
    value = version.value or b""
    sealed = value if isinstance(value, SealedValue) else None
    size, times = len(value) if sealed is None else sealed.size, (version.time, version.expires)
    return KeySummary(version.key, size, value[:SUMMARY_BYTES], version.revision, *times, sealed is not None)


@checked_methods
class StateView:
    """Read a namespace as it is at one state. The state never changes. `StateManager.at` makes views."""

    def __init__(self, backend: Backend, point: StateAt, label: str) -> None:
        self._backend = backend
        self._point = point
        self.ref = label

    @property
    def namespace(self) -> str:
        """Return the name of the viewed namespace."""
        return self._backend.namespace

    @property
    def revision(self) -> int:
        """Return the viewed revision."""
        return self._point.revision

    def __repr__(self) -> str:
        return f"<StateView of {self.namespace!r} at {self.ref!r}, revision {self.revision}>"

    def without_values(self) -> StateView:
        """Return this view for lists of keys, with a `SealedValue` in place of each value that no key opens."""
        from ..backends.names_only import names_only

        return StateView(names_only(self._backend), self._point, self.ref)

    def load(self, key: str, default: Any = ABSENT) -> Any:
        """Return the value of a key, or `default` if the key has no value.

        Raises:
            KeyNotFound: the key has no value, and no default was given.

        """
        version = self._backend.read([check_key(key)], self._point).get(key)
        if version is not None and version.value is not None:
            return codec.decode(version.value, f"the value of {key[:60]!r}")
        if default is ABSENT:
            raise missing_key(self._backend, key, f" at {self.ref}", self._point)
        return default

    def load_many(self, keys: Iterable[str] | str | None = None, default: Any = ABSENT) -> dict[str, Any]:
        """Return the values of several keys by key. See `StateManager.load_many`."""
        read = partial(self._backend.read, at=self._point)
        return load_found(read, partial(self.raw_entries, ""), Selection(keys), default)

    def entry(self, key: str) -> Entry:
        """Return the value of a key with its revision, time and expiry.

        Raises:
            KeyNotFound: the key has no value.

        """
        version = self._backend.read([check_key(key)], self._point).get(key)
        if version is None:
            raise missing_key(self._backend, key, f" at {self.ref}", self._point)
        return to_entry(version)

    def raw_entries(
        self, prefix: str = "", keys: Iterable[str] | str | None = None, limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[Version]:  # fmt: skip
        """Yield the versions that `entries` shows, their values still encoded."""
        return self._select(self._backend, self._point, prefix, keys, limit, backwards)

    def _select(
        self, state: Backend, point: StateAt, prefix: str, keys: Iterable[str] | str | None, limit: int | None,
        backwards: bool,
    ) -> Iterator[Version]:  # fmt: skip
        from .compare import entries, select

        selection = select(Selection(keys), (state, point))
        if selection.is_names():
            yield from ordered(read_names(state, point, selection, prefix), limit, backwards)
            return
        at_most = limit if selection.patterns is None else None  # others are passed over, so more is read
        versions = entries(state, point, prefix or selection.prefix(), at_most, backwards)
        chosen = (version for version in versions if selection(version.key) and version.key.startswith(prefix))
        yield from islice(chosen, limit)

    def steady_entries(
        self, prefix: str = "", keys: Iterable[str] | str | None = None, limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[Version]:  # fmt: skip
        """Yield as `raw_entries` does. If a view of live is pruned meanwhile, begin again with a later live state.

        For acts that read the view once, and that a user did not ask to read at a revision.
        """
        from .compare import weigh
        from .steady import steady

        keys = keys if keys is None or isinstance(keys, str) else list(keys)
        renew = renew_points([self.ref], [self._point])
        read = partial(self._select, prefix=prefix, keys=keys, limit=limit, backwards=backwards)
        return steady(self._backend, (self._point,), renew, read, weigh)

    def steady_rows(
        self, prefix: str = "", keys: Iterable[str] | str | None = None, limit: int | None = None
    ) -> Iterator[KeySummary]:
        """Yield the keys that `steady_entries` yields, without their values: these are not transferred."""
        from .steady import steady

        keys = keys if keys is None or isinstance(keys, str) else list(keys)
        renew = renew_points([self.ref], [self._point])
        read = partial(self._select_rows, prefix=prefix, keys=keys, limit=limit)
        return steady(self._backend, (self._point,), renew, read, lambda row: len(row.start))

    def _select_rows(
        self, state: Backend, point: StateAt, prefix: str, keys: Iterable[str] | str | None, limit: int | None = None
    ) -> Iterator[KeySummary]:
        from ..backends.names_only import names_only
        from .compare import rows, select

        selection = select(Selection(keys), (names_only(state), point))
        if selection.is_names():
            yield from islice(map(_summary, read_names(names_only(state), point, selection, prefix)), limit)
            return
        at_most = limit if selection.patterns is None else None  # others are passed over, so more is read
        found = rows(state, prefix or selection.prefix(), point, at_most)
        yield from islice((row for row in found if selection(row.key) and row.key.startswith(prefix)), limit)

    def entries(
        self, prefix: str = "", keys: Iterable[str] | str | None = None, *, limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[Entry]:  # fmt: skip
        """Yield entries in key order; only those with a prefix, or chosen by names and globs.

        See `StateManager.entries` for `limit`, `backwards` and the cost.
        """
        return (to_entry(version) for version in self.raw_entries(prefix, keys, limit, backwards))

    def list_keys(self, prefix: str = "", keys: Iterable[str] | str | None = None) -> list[str]:
        """List the keys, sorted; only those with a prefix, or chosen by names and globs. O(keys listed)."""
        return [row.key for row in self._select_rows(self._backend, self._point, prefix, keys)]

    def rows(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, skip: int = 0,
        backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """Return a page of the keys with size and start of each value; see `StateManager.rows`. O(limit)."""
        return self._backend.list_keys(prefix, after, before, limit, self._point, skip, backwards)

    def count(self, low: str = "", high: str = "") -> int:
        """Count the keys from `low` up to, not including, `high`; "" is no bound. O(keys counted)."""
        return self._backend.count(low, high, self._point)

    def __contains__(self, key: object) -> bool:
        return is_key(key) and bool(self.without_values()._backend.read([key], self._point))


def require_keys(keys: Iterable[str] | str | None, *views: StateView) -> None:
    """Check that every key given by name exists in one of the views.

    Raises:
        KeyNotFound: a key exists in none of them.

    """
    from . import compare

    compare.require_keys(Selection(keys), *((view._backend, view._point) for view in views))


def diff(before: StateView, after: StateView, keys: Iterable[str] | str | None = None) -> Diff:
    """Compare two views of a namespace, of two namespaces, or of two stores.

    O(changes) within a namespace, else O(keys); streamed either way.

    Raises:
        NamespaceNotFound: one of two namespaces was never written.

    """
    from .compare import diff_points, diff_stores, select

    left, right = before._backend, after._backend
    if (left.url, left.namespace) == (right.url, right.namespace):
        renew = renew_points([before.ref, after.ref], [before._point, after._point])
        labels = (before.ref, after.ref)
        return diff_points(left, before._point, after._point, labels, Selection(keys), renew)
    check_exists(left)
    check_exists(right)
    selection = select(Selection(keys), (left, before._point), (right, after._point))
    labels = (f"{left.namespace}:{before.ref}", f"{right.namespace}:{after.ref}")
    if left.namespace == right.namespace:
        labels = (f"{before.ref} of {left.url}", f"{after.ref} of {right.url}")
    return diff_stores(before.steady_entries, after.steady_entries, labels, selection)
