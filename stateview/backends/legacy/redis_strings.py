"""The older layout in Redis: strings `state:NAMESPACE:KEY` and `checkpoint:NAMESPACE:NAME`. The strings stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ... import codec
from ...errors import NOTHING_CHANGED, Damaged
from ...model import check_checkpoint, check_key
from ..protocol import Version
from .adoption import LegacyState

Find = Callable[[str], Iterable[dict[str, bytes]]]  # pages of the strings whose names start with a prefix, by name


def read_strings(find: Find, namespace: str, url: str) -> Iterator[LegacyState]:
    """Yield the states of a namespace; no state if there is no string. The live state is read page by page.

    Raises:
        Damaged: a string is not JSON, or a checkpoint is not an object.
        InvalidName: a key, or the name of a checkpoint.

    """
    stem = f"checkpoint:{namespace}:"
    checkpoints = {name: text for page in find(stem) for name, text in page.items()}
    for name, text in sorted(checkpoints.items()):
        yield LegacyState(check_checkpoint(name.removeprefix(stem)), 0, [_checkpoint(text, name, url)])
    pages = _live_pages(find, f"state:{namespace}:", url)
    first = next(pages, None)
    if checkpoints or first:
        yield LegacyState("", 0, _chain(first or {}, pages))


def _chain(first: dict[str, Version], pages: Iterator[dict[str, Version]]) -> Iterator[dict[str, Version]]:
    yield first
    yield from pages


def _live_pages(find: Find, stem: str, url: str) -> Iterator[dict[str, Version]]:
    for page in find(stem):
        yield {
            key: Version(key, codec.normal(text, f"{url}: the older {name[:80]!r}"), 0, 0, 0)
            for name, text in page.items()
            if check_key(key := name.removeprefix(stem))
        }


def _checkpoint(text: bytes, name: str, url: str) -> dict[str, Version]:
    what = f"{url}: the older {name[:80]!r}"
    try:
        content = codec.parse_strict(text.decode())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is not valid JSON: {error}", NOTHING_CHANGED) from error
    if not isinstance(content, dict):
        raise Damaged(f"{what} is not a JSON object", NOTHING_CHANGED)
    return {check_key(key): Version(key, codec.encode(value), 0, 0, 0) for key, value in content.items()}
