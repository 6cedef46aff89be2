"""Check histories: could operations that overlapped in time have happened one after the other, each at one instant?

The search is that of Wing and Gong, with Lowe's memory of what was tried. The keys of a store are independent, so each
is checked alone. Every write has an identity of its own, which is the value that it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

NEVER = 2**63  # the end of an operation of which no end was seen: it may take effect later, or not at all


class Operation(NamedTuple):
    """An operation on a key, by one process.

    Attributes:
        process: who did it.
        key: the key.
        kind: `load`, `fresh` (a load that is never stale), `save`, `update` or `delete`.
        start, end: when it began and returned, in nanoseconds of a clock common to all; `NEVER` if it is not known how
            it ended.
        wrote: the identity of the value that a save or an update writes.
        found: the identity that a load returned, an update was given, or a save expected; "" for no value.
        outcome: of a save with `expecting`, and of a delete: whether it took effect.
        expecting: whether a save was only to replace `found`.
        revision: that a save or an update returned; 0 if it is not known.

    """

    process: int
    key: str
    kind: str
    start: int
    end: int = NEVER
    wrote: str = ""
    found: str = ""
    outcome: bool = True
    expecting: bool = False
    revision: int = 0


class State(NamedTuple):
    """A key: the identity of its value, and the last revision that is known."""

    value: str = ""
    revision: int = 0


def apply(state: State, operation: Operation) -> State | None:
    """Return the state after an operation; None if the operation cannot have ended so in this state."""
    known = operation.end != NEVER
    changed = State(operation.wrote, max(operation.revision, state.revision))
    if known and operation.revision and operation.revision <= state.revision:
        return None
    if operation.kind in ("load", "fresh"):
        return state if operation.found == state.value else None
    if operation.kind == "delete":
        return state._replace(value="") if not known or operation.outcome == (state.value != "") else None
    if operation.kind == "save" and operation.expecting:
        matches = operation.found == state.value
        if not known:
            return changed if matches else state
        if operation.outcome != matches:
            return None
        return changed if matches else state
    if operation.kind == "update" and known and operation.found != state.value:
        return None
    return changed


def linearize(operations: Iterable[Operation]) -> tuple[list[Operation], list[Operation]]:
    """Find an order of the operations on one key in which each has the outcome that it had.

    Returns:
        the longest order that was found, and the operations that could not be added to it: none if all is well.

    """
    every = sorted(operations, key=lambda operation: operation.start)
    needed = sum(1 << number for number, one in enumerate(every) if one.end != NEVER)
    tried: set[tuple[int, State]] = set()
    order: list[int] = []
    longest: list[int] = []
    stack: list[tuple[int, State, Iterator[int]]] = [(0, State(), _next(every, 0))]
    while stack:
        done, state, candidates = stack[-1]
        if done & needed == needed:
            return [every[number] for number in order], []
        for number in candidates:
            after = apply(state, every[number])
            mark = done | 1 << number
            if after is not None and (mark, after) not in tried:
                tried.add((mark, after))
                order.append(number)
                stack.append((mark, after, _next(every, mark)))
                if len(order) > len(longest):
                    longest = order.copy()
                break
        else:
            stack.pop()
            if order:
                order.pop()
    blocked = {number for number in range(len(every)) if every[number].end != NEVER} - set(longest)
    return [every[number] for number in longest], [every[number] for number in sorted(blocked)]


def _next(every: Sequence[Operation], done: int) -> Iterator[int]:
    """Yield the operations that may come next: none of the others ended before they began."""
    number = (~done & (done + 1)).bit_length() - 1  # the first that is not done
    ends = NEVER
    while number < len(every) and every[number].start <= ends:
        if not done >> number & 1:
            ends = min(ends, every[number].end)
            yield number
        number += 1


def check_linearizable(operations: Iterable[Operation]) -> None:
    """Raise AssertionError unless the operations on each key are linearizable."""
    by_key = sorted(operations, key=lambda operation: operation.key)
    for key, group in groupby(by_key, key=lambda operation: operation.key):
        order, blocked = linearize(group)
        if blocked:
            lines = "\n".join(map(str, [*order[-6:], "-- after which none of these can come:", *blocked[:6]]))
            raise AssertionError(f"the history of key {key!r} is not linearizable:\n{lines}")


def check_sessions(operations: Iterable[Operation]) -> None:
    """Raise AssertionError if a plain load shows a value from before an own write, an older one, or one of the future.

    Each process alone must see its own writes, and never go back, whatever the others see meanwhile.
    """
    every = sorted(operations, key=lambda operation: operation.start)
    writes = {one.wrote: one for one in every if one.wrote}
    deletes = [one for one in every if one.kind == "delete"]
    seen: dict[tuple[int, str], int] = {}
    for one in every:
        place = one.process, one.key
        at_least = seen.get(place, 0)
        if one.kind == "load" and one.end != NEVER:
            write = writes.get(one.found)
            assert not one.found or (write is not None and write.key == one.key), f"nobody wrote what was found: {one}"
            assert write is None or write.start <= one.end, f"it was found before it was written: {one}"
            revision = write.revision if write is not None else 0
            assert not revision or revision >= at_least, f"an older value than revision {at_least} was found: {one}"
            if not one.found and at_least:
                last = next(write for write in writes.values() if write.revision == at_least)
                gone = any(other.key == one.key and other.end > last.start for other in deletes)
                assert gone, f"nobody deleted what was not found: {one}"
            seen[place] = max(at_least, revision)
        elif one.revision:
            seen[place] = max(at_least, one.revision)
