"""Find the keys that differ between two states: by revisions in one namespace, by a merge in key order over two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .. import codec
from ..backends.protocol import Backend, Changes, KeySummary, StateAt, Version
from ..errors import BackendError, HistoryPruned, KeyNotFound
from ..model import ABSENT, is_key
from .changes import Change, Diff
from .matching.patterns import Selection
from .missing import near_key_hint
from .steady import Renew, steady

KEYS_PER_PAGE = 500
ROWS_PER_PAGE = 1000  # keys without their values
FIRST_PAGE_KEYS = 8  # later pages grow or shrink by this factor
HELD_BYTES = 100_000  # of values that a diff keeps, to be iterated again without a read
HELD_AT_ONCE = 64  # changes that a diff keeps although only the first of them was looked at
LIGHT_PAGE_BYTES = 8_000_000  # a page below this size lets the next page grow

Pair = tuple[str, Version | None, Version | None]


def weigh(version: Version | None) -> int:
    """Return the bytes of a value."""
    return 0 if version is None or version.value is None else len(version.value)


def _weigh_pair(pair: Pair) -> int:
    return weigh(pair[1]) + weigh(pair[2])


def changed_keys(backend: Backend, before: StateAt, after: StateAt) -> list[str]:
    """List the keys that may differ, in either order of the states."""
    low, high = (before, after) if before.revision <= after.revision else (after, before)
    return backend.changed_keys(low, high)


def read_pairs(
    backend: Backend, keys: Iterable[str], before: StateAt, after: StateAt, source: Backend | None = None
) -> Iterator[Pair]:
    """Yield the versions of keys in two states, page by page: small pages first, and for large values.

    `source` keeps the later state, if that is of another namespace.
    """
    page: list[str] = []
    limit = FIRST_PAGE_KEYS

    def read() -> Iterator[Pair]:
        nonlocal limit
        old, new = backend.read(page, before), (source or backend).read(page, after)
        weight = sum(len(version.value or b"") for side in (old, new) for version in side.values())
        limit = (
            min(KEYS_PER_PAGE, limit * FIRST_PAGE_KEYS)
            if weight < LIGHT_PAGE_BYTES
            else max(1, limit // FIRST_PAGE_KEYS)
        )
        return ((key, old.get(key), new.get(key)) for key in page)

    for key in keys:
        page.append(key)
        if len(page) >= limit:
            yield from read()
            page.clear()
    if page:
        yield from read()


def changed_pairs(
    backend: Backend, before: StateAt, after: StateAt, selection: Callable[[str], bool]
) -> Iterator[Pair]:
    """Yield the versions, in two states, of the selected keys that may differ, in key order."""
    low, high = (before, after) if before.revision <= after.revision else (after, before)
    if not hasattr(backend, "changes"):
        try:
            keys = backend.changed_keys(low, high)
        except HistoryPruned as error:
            if hasattr(backend, "reading"):  # see `KeepsPresentAlone`: to begin again, as `steady` does, is of no use
                raise BackendError(error.message, error.next_steps) from error
            raise
        yield from read_pairs(backend, filter(selection, keys), before, after)
        return
    found: Changes = backend.changes(low, high)
    olds, news = (found.low, found.high) if low is before else (found.high, found.low)
    for key in filter(selection, found.keys[: found.read]):
        yield key, olds.pop(key, None), news.pop(key, None)
    yield from read_pairs(backend, filter(selection, found.keys[found.read :]), before, after)


def change(key: str, old: Version | None, new: Version | None) -> Change | None:
    """Return the change of a key between two versions; None if both hold the same JSON."""
    if old is None and new is None:
        return None
    before = ABSENT if old is None or old.value is None else codec.decode(old.value, f"the value of {key[:60]!r}")
    after = ABSENT if new is None or new.value is None else codec.decode(new.value, f"the value of {key[:60]!r}")
    if old is None or new is None:
        kind = "added" if old is None else "removed"
        return Change(key, kind, before, after, old.revision if old else 0, new.revision if new else 0)  # type: ignore[arg-type]
    if old.value == new.value or codec.canonical(before) == codec.canonical(after):
        return None
    return Change(key, "changed", before, after, old.revision, new.revision)


def select(selection: Selection, *states: tuple[Backend, StateAt | None]) -> Selection:
    """Return a selection in which patterns that are names of keys, in one of the states, mean those keys alone.

    One read for each state, and only if a pattern has wildcards.
    """

    def existing(patterns: list[str]) -> Iterator[str]:
        names = list(filter(is_key, patterns))
        for start in range(0, len(names), KEYS_PER_PAGE):
            for backend, point in states:
                yield from backend.read(names[start : start + KEYS_PER_PAGE], point)

    return selection.among(existing)


def diff_points(
    backend: Backend, before: StateAt, after: StateAt, labels: tuple[str, str], selection: Callable[[str], bool],
    renew: Renew | None = None,
) -> Diff:  # fmt: skip
    """Compare two states of one namespace. O(changes). For `renew` see `steady`.

    A small diff is read once: `list()` asks for its length before it iterates, and a command whether it is empty.
    """
    held: list[Pair] | None = None

    def pairs(state: Backend, low: StateAt, high: StateAt) -> Iterator[Pair]:
        chosen = select(selection, (state, low), (state, high)) if isinstance(selection, Selection) else selection
        return changed_pairs(state, low, high, chosen)

    def read() -> Iterator[Pair]:
        nonlocal held
        light: list[Pair] = []
        size = 0
        found = steady(backend, (before, after), renew, pairs, _weigh_pair)
        for pair in found:  # without a yield: whoever looks at the first change alone ends this iterator there
            size += 1 + _weigh_pair(pair)
            light.append(pair)
            if len(light) == HELD_AT_ONCE or size > HELD_BYTES:
                break
        else:
            held = light
        yield from light
        if size > HELD_BYTES:
            light.clear()
        for pair in found:
            size += 1 + _weigh_pair(pair)
            if size <= HELD_BYTES:
                light.append(pair)
            yield pair
        held = light if size <= HELD_BYTES else None

    def source() -> Iterator[Change]:
        for key, old, new in read() if held is None else held:
            if (old is None or new is None or old.revision != new.revision) and (difference := change(key, old, new)):
                yield difference

    return Diff(*labels, source)


def diff_stores(
    before: Callable[[], Iterator[Version]],
    after: Callable[[], Iterator[Version]],
    labels: tuple[str, str],
    selection: Callable[[str], bool],
) -> Diff:
    """Compare the entries of two namespaces or stores. O(keys), streamed in bounded memory."""

    def source() -> Iterator[Change]:
        for pair in _merge(before(), after()):
            if selection(pair[0]) and (difference := change(*pair)):
                yield difference

    return Diff(*labels, source)


def merge_join(left: tuple[Backend, StateAt], right: tuple[Backend, StateAt]) -> Iterator[Pair]:
    """Yield each key of two states with its version in both, in key order. O(keys), in bounded memory."""
    return _merge(entries(*left), entries(*right))


def _merge(olds: Iterator[Version], news: Iterator[Version]) -> Iterator[Pair]:
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.key < new.key):
            assert old is not None
            yield old.key, old, None
            old = next(olds, None)
        elif old is None or new.key < old.key:
            yield new.key, None, new
            new = next(news, None)
        else:
            yield old.key, old, new
            old, new = next(olds, None), next(news, None)


def entries(
    backend: Backend, at: StateAt | None, prefix: str = "", limit: int | None = None, backwards: bool = False
) -> Iterator[Version]:
    """Yield all versions of a state, or the first `limit`, in key order or `backwards`, read page by page.

    A page is one round trip, or two if backwards.
    """
    place, left = "", limit
    some = None if backwards else getattr(backend, "scan_some", None)  # see `ScansSome`
    while left is None or left > 0:
        size = KEYS_PER_PAGE if left is None else min(left, KEYS_PER_PAGE)
        if backwards:
            keys = [row.key for row in backend.list_keys(prefix, "", place, size, at, backwards=True)]
            found = backend.read(keys, at) if keys else {}
            yield from (found[key] for key in reversed(keys) if key in found)
            ends = keys[:1]
        else:
            page = (some or backend.scan)(prefix, place, size, at)
            keys = ends = [version.key for version in page]
            yield from page
        if not keys or (len(keys) < size and some is None):
            return
        place, left = ends[-1], None if left is None else left - len(keys)


def rows(backend: Backend, prefix: str, at: StateAt | None = None, limit: int | None = None) -> Iterator[KeySummary]:
    """Yield the keys with a prefix, or the first `limit`, without values; of live, each page as when it is read."""
    after, left = "", limit
    while left is None or left > 0:
        size = ROWS_PER_PAGE if left is None else min(left, ROWS_PER_PAGE)
        page = backend.list_keys(prefix, after, limit=size, at=at)
        yield from page
        if len(page) < size:
            return
        after, left = page[-1].key, None if left is None else left - size


def require_keys(selection: Selection, *states: tuple[Backend, StateAt]) -> None:
    """Check that every key given by name exists in one of the states.

    Raises:
        KeyNotFound: a key exists in none of them.

    """
    names = selection.exact()
    existing = {key for backend, point in states if names for key in backend.read(names, point)}
    for name in names:
        if name not in existing:
            hint = near_key_hint(name, *states)
            raise KeyNotFound(f"key {name!r} is in neither of the two states", hint)
