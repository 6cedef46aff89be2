"""Read all versions of a namespace in pages, and remember a digest of each page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple, TypeVar

import msgspec

from ..backends.protocol import Backend, StoredVersion

VERSIONS_PER_PAGE = 4000
KEYS_PER_CALL = 500
DIGEST_BYTES = 16

T = TypeVar("T")
VersionId = tuple[str, int]  # a key and a revision of it; pages are in this order
_value = attrgetter("value")
_encode = msgspec.msgpack.Encoder().encode


class PageDigest(NamedTuple):
    """Identify the content of a copied page: the versions after one version and up to another, and their digest."""

    after: VersionId
    last: VersionId
    versions: int
    digest: bytes


def version_id(version: StoredVersion) -> VersionId:
    """Return the key and the revision of a version."""
    return version.key, version.revision


def value_bytes(versions: Sequence[StoredVersion]) -> int:
    """Return the size of all values."""
    return sum(map(len, filter(None, map(_value, versions))))


def page_digest(after: VersionId, page: list[StoredVersion]) -> PageDigest:
    """Return the digest of a page that follows the version `after`."""
    return PageDigest(after, version_id(page[-1]), len(page), blake2b(_encode(page), digest_size=DIGEST_BYTES).digest())


def iter_pages(
    backend: Backend, after: VersionId = ("", 0), keys: Sequence[str] | None = None
) -> Iterator[list[StoredVersion]]:
    """Yield all kept versions after a version, in pages; only those of some keys, if given."""
    while page := backend.versions_page(after, VERSIONS_PER_PAGE, keys):
        yield page
        after = version_id(page[-1])


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items. A thread makes each item while the caller works with the item before it.

    A small namespace is one item, for which no thread is started.
    """
    first, second = next(items, None), next(items, None)
    if first is not None:
        yield first
    if second is None:
        return
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        yield second
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            time.sleep(0)  # the thread can send its request before the caller computes
            yield item


def as_of(versions: Iterable[StoredVersion], revision: int) -> list[StoredVersion]:
    """Return the versions as they were at a revision."""
    return [
        msgspec.structs.replace(version, until=0) if version.until > revision else version
        for version in versions if version.revision <= revision
    ]  # fmt: skip
