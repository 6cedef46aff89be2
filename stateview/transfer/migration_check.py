"""Judge whether a namespace may be migrated, and what its destination holds, before anything is written."""

from __future__ import annotations

from itertools import zip_longest

from msgspec import Struct

from ..backends.protocol import Backend, Head, StateAt
from ..errors import Conflict, KeyNotFound, NextStep, ReadOnly
from ..model import format_time
from ..states.compare import entries

MAX_IDENTITY_CHECKS = 100
EDITED_KEYS_PER_PAGE = 10_000
OLDER = "older"  # the lineage of an older layout that is not adopted yet
BRIEF_TTL_MICROSECONDS = 60_000_000  # entries that expire sooner are not compared
_MAX_NAMED_NAMESPACES = 10


class DestinationState(Struct, frozen=True):
    """Describe what the destination holds, whether it is the source's state, and why it must not be replaced."""

    head: Head
    held: str = ""
    already: bool = False
    refusal: Conflict | None = None


def check(source: Backend, destination: Backend, force: bool) -> None:
    """Check whether a migration may begin, with the destination opened read-only.

    Raises:
        KeyNotFound: the source does not exist.
        ReadOnly: the source has an older layout; or the destination has, and `force` is not given.
        Conflict: the destination holds another namespace.

    """
    judge_read_only(source, check_source(source), destination, force)


def judge_read_only(source: Backend, head: Head, destination: Backend, force: bool) -> None:
    """Judge the destination before a writable backend touches it.

    An older layout in the destination is an error, unless `force` lets the migration adopt it and keep it aside.
    """
    try:
        judge(source, head, destination, force)
    except ReadOnly:  # an older layout: with `force` it is adopted, then kept aside
        if not force:
            raise


def judge(source: Backend, head: Head, destination: Backend, force: bool) -> DestinationState:
    """Judge the destination, and return its state.

    Raises:
        Conflict: the destination is the source, or holds a namespace that must not be replaced without `force`.

    """
    if is_same_place(source, destination):
        raise Conflict(
            f"namespace {source.namespace!r} of {source.url} is both the source and the destination",
            "Give another store or namespace",
        )
    there = inspect(source, head, destination)
    if there.refusal is not None and not force:
        raise there.refusal
    return there


def check_source(source: Backend) -> Head:
    """Check that the source can be migrated, and return its head.

    Raises:
        KeyNotFound: the source does not exist.
        ReadOnly: the source has an older layout.
        Conflict: state.json was edited by hand, and no commit has recorded the edit.

    """
    head = source.head()
    if head.lineage == OLDER:
        what = f"namespace {source.namespace!r} of {source.url} is of an older layout"
        raise ReadOnly(what, NextStep("Open it once for writing, such as with ", ("log",), ": it converts the layout"))
    if not head.lineage:
        names = ", ".join(source.namespaces()[:_MAX_NAMED_NAMESPACES])
        what = f"there is no namespace {source.namespace!r} in {source.url}"
        hint = f"It has {names}: choose with --namespace, or --all" if names else "Check the path or the URL"
        raise KeyNotFound(what, hint)
    check_edits(source, head)
    return head


def check_edits(source: Backend, head: Head) -> None:
    """Refuse if state.json was edited by hand since the last commit: the history does not hold the edit."""
    if not source.editable_by_hand:
        return
    at = StateAt(head.revision, source.now())
    late = at.time + BRIEF_TTL_MICROSECONDS
    after = ""
    while True:
        shown, kept = (source.scan("", after, EDITED_KEYS_PER_PAGE, when) for when in (None, at))
        if shown != kept:  # expired entries shift the pages, and an edit may spell a value in another way
            break
        if len(shown) < EDITED_KEYS_PER_PAGE:
            return
        after = shown[-1].key
    fingerprints = (
        ((version.key, version.revision, version.time) for version in entries(source, when) if version.visible(late))
        for when in (None, at)
    )
    if all(version == live for version, live in zip_longest(*fingerprints)) or source.head().revision != head.revision:
        return  # no edit, or another writer has committed it
    what = f"{source.url}: state.json of {source.namespace!r} was edited by hand since its last commit"
    raise Conflict(what, NextStep("Run a command that may write, such as ", ("log",), ": it commits the edit"))


def is_same_place(source: Backend, destination: Backend) -> bool:
    """Return whether both backends mean the same namespace, which must never replace itself."""
    if (source.kind, source.namespace) != (destination.kind, destination.namespace):
        return False
    for _ in range(MAX_IDENTITY_CHECKS):
        first, target, again = source.identity(), destination.identity(), source.identity()
        if first.store and target.store:
            return first.store == target.store
        if first.stamp == target.stamp:
            return True
        if first.stamp == again.stamp or not first.revision <= target.revision <= again.revision:
            return False  # the other backend was seen at another state
    return True  # both advanced together through every check


def inspect(source: Backend, head: Head, destination: Backend) -> DestinationState:
    """Describe what the destination holds, and why the source must not replace it, if so."""
    there = destination.head()
    if not there.lineage:
        return DestinationState(there)
    marks = destination.marks()
    where = f"{destination.url} already holds a namespace {destination.namespace!r}"
    counts = f"{_count(there.count, 'key')}, {_count(len(marks), 'checkpoint')}"
    held = f"{counts}, revision {there.revision:,} of {format_time(there.time)}"
    if there.lineage != head.lineage:
        hint = "Give another namespace or store; or --force, which keeps that namespace aside with a checkpoint"
        return DestinationState(there, held, refusal=Conflict(f"{where} of another origin: {held}", hint))
    force = "Go on there; or --force to replace it, which keeps it aside with a checkpoint"
    if there.revision > head.revision:
        return DestinationState(there, held, refusal=Conflict(
            f"{where} in a later state: it was migrated before, and written to since (revision"
            f" {there.revision:,} there, {head.revision:,} in {source.url})", force,
        ))  # fmt: skip
    if not _leads_to(source, destination, head, there):
        return DestinationState(there, held, refusal=Conflict(
            f"{where} of the same origin, which seems to have been written to since (revision"
            f" {there.revision:,} there, {head.revision:,} in {source.url})", force,
        ))  # fmt: skip
    theirs = source.marks()
    renewed = {(mark.name, mark.revision): mark.time for mark in theirs}
    if extra := [
        mark for mark in marks if mark not in theirs and mark.time >= renewed.get((mark.name, mark.revision), 0)
    ]:
        names = ", ".join(f"{mark.name}@{mark.revision}" for mark in extra[:5])
        what = f"{where} in an earlier state, with checkpoints that the source does not have: {names}"
        return DestinationState(there, held, refusal=Conflict(what, force))
    same = there.revision == head.revision and marks == theirs
    return DestinationState(there, held, already=same)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _leads_to(source: Backend, destination: Backend, head: Head, there: Head) -> bool:
    """Return whether the destination holds the state that the source had at that revision."""
    if not there.revision:
        return True
    latest = [commit for backend in (destination, source) for commit in backend.commits(1, there.revision + 1)]
    same = [commit for commit in latest if commit.revision == there.revision]
    if len(same) == 2:
        return same[0] == same[1]
    return there.revision == head.revision  # the whole copy is compared next


def check_same(source: Backend, head: Head) -> None:
    """Refuse if the source is not the same namespace any more."""
    present = source.head()
    if present.lineage == head.lineage and present.revision >= head.revision:
        return
    what = f"namespace {source.namespace!r} of {source.url} was"
    if not present.lineage:
        raise Conflict(f"{what} removed during the migration", "No data is left to migrate")
    raise Conflict(f"{what} replaced during the migration", "Run it again: it starts over")
