"""Build the errors for what is not there: name it, and look up what may be meant when somebody reads the error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from .. import settings
from ..backends import full_url
from ..backends.protocol import Backend, Head, StateAt
from ..errors import Hint, NamespaceNotFound, StateException, see
from ..model import did_you_mean, is_key, name_first

_PADDED_DIGITS = 12
NEAR_KEYS = 1000  # keys before and after a missing key, in order, among which similar ones are looked for


def near_hint(
    name: str, names: Callable[[], Iterable[str]], otherwise: Hint, quoted: bool = False
) -> Callable[[], Hint]:
    """Return a hint that looks up similar names when it is read. `otherwise` is the hint if there are none."""

    def hint() -> Hint:
        try:
            return did_you_mean(name, names(), quoted) or otherwise
        except (StateException, OSError):
            return otherwise  # the error is about the name: a store that cannot be read by now does not replace it

    return hint


def near_key_hint(key: str, *states: tuple[Backend, StateAt | None]) -> Callable[[], Hint]:
    """Return the hint for a missing key: the similar ones of each state, of those around its place.

    Beside them are those with the same number at the end, written with other zeros.
    """

    def names() -> set[str]:
        from ..backends.names_only import names_only  # here, since only an error needs it

        rows = [
            row
            for backend, at in states
            for row in (
                *backend.list_keys(before=key, limit=NEAR_KEYS, at=at, backwards=True),
                *backend.list_keys(after=key, limit=NEAR_KEYS, at=at),
            )
        ]
        padded = [names_only(backend).read(_repadded(key), at) for backend, at in states]
        return {row.key for row in rows}.union(*padded)

    return near_hint(key, names, see("keys"), quoted=True)


def _repadded(key: str) -> list[str]:
    """Return a key with other numbers of zeros before its last number: in key order these lie far from it."""
    import re

    match = re.search(r"(?<!\d)0*(\d{1,12})(\D*)\Z", key, re.ASCII)
    if match is None:
        return []
    start, number = key[: match.start()], match[1]
    names = [f"{start}{number.zfill(width)}{match[2]}" for width in range(len(number), _PADDED_DIGITS + 1)]
    return [name for name in names if is_key(name)]


def check_exists(backend: Backend, head: Head | None = None) -> None:
    """Check that a namespace was written once. It may be empty.

    Raises:
        NamespaceNotFound: it was never written.

    """
    if not (head or backend.head()).lineage:
        raise missing_namespace(backend)


def missing_namespace(backend: Backend) -> NamespaceNotFound:
    """Build the error for a namespace that was never written, with those of the store, and what chose the store."""
    what = f"namespace {backend.namespace!r} of {_place(backend)} does not exist"
    return NamespaceNotFound(what, partial(_store_hint, backend, "The store has no namespace: check its path or URL"))


def empty_store(backend: Backend) -> NamespaceNotFound:
    """Build the error for a store without any namespace."""
    what = f"{_place(backend)} has no namespace"
    return NamespaceNotFound(what, partial(_store_hint, backend, "Check its path or URL"))


def _place(backend: Backend) -> str:
    """Return the URL of a store with its full path. The working folder may have changed since it was opened."""
    root = getattr(backend, "root", "")
    return f"{backend.url.partition(':')[0]}:{root}" if root else full_url(backend.url)


def _store_hint(backend: Backend, if_empty: str) -> Hint:
    try:
        names, chosen = backend.namespaces(), settings.choice(backend.url)
        others = [] if names else settings.other_kinds(backend.url)
    except (StateException, OSError):
        return ""
    listed = f"The store has {name_first(names)}: choose one by --namespace" if names else if_empty
    listed = f"But {' and '.join(others)} has namespaces" if others else listed
    return tuple(filter(None, (did_you_mean(backend.namespace, names) or listed, chosen)))
