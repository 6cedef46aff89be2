"""Go over items, each of which is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from ..model import check_key
from ..states.leases import quoted
from .context import inside
from .records import ENDED
from .step import Step

if TYPE_CHECKING:
    from .run import Run

DONE = b"true"


def each(run: Run, name: str, items: Iterable[Any], key: str | Callable[[Any], str | int] | None) -> Iterator[Any]:
    """Give the items as `Run.each` does."""
    step = Step(run, name, run.options)
    done = run.items_done(step.key)
    seen: set[str] = set()
    is_open = False
    for item in items:
        item_name = _key_of(item, key, name)
        item_key = check_key(f"{step.key}/{quoted(item_name)}")
        if item_key in seen:
            message = f"step {name!r} of run {run.name!r}: two items have the key {item_name!r}"
            raise InvalidArgument(message, "Give a key= that differs for each item")
        seen.add(item_key)
        if item_key in done:
            continue
        if not is_open:
            step.begin()
            is_open = True
        with inside(run, f"{name}[{item_name}]"):
            yield item
        run.commit({item_key: DONE}, reason=f"run {run.name}: {name} {item_name} done")
        done.add(item_key)
    record = run.found(step.key)
    if is_open or record is None or record["state"] not in ENDED:
        if not is_open:
            step.begin()
        step.finish(len(seen))
    run.closed(step)


def _key_of(item: Any, key: str | Callable[[Any], str | int] | None, name: str) -> str:
    found = item
    if callable(key):
        found = key(item)
    elif key is not None:
        found = item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        what = (
            f"step {name!r}: an item has the key {found!r}" if key is not None else f"step {name!r}: an item is no key"
        )
        raise InvalidArgument(
            what[:200], "Give key= the name of a field, or a function, that is a text or a whole number"
        )
    return str(found)
