"""Judge whether a namespace may be migrated, and what its destination holds, before anything is written."""

from __future__ import annotations

from msgspec import Struct

from ..backends.protocol import Backend, CheckpointRecord, Head
from ..backends.stored_values import PLAIN, StoredValues, is_sealed
from ..errors import BackendError, Conflict, NextStep, ReadOnly
from ..maintenance.history import commit_of
from ..model import format_time
from ..states.missing import check_exists

MAX_IDENTITY_CHECKS = 100
EDITED_KEYS_PER_PAGE = 10_000
OLDER = "older"  # the lineage of an older layout that is not adopted yet
BRIEF_TTL_MICROSECONDS = 60_000_000  # entries that expire sooner are not compared
_MAX_NAMED_CHECKPOINTS = 5


class DestinationState(Struct, frozen=True):
    """Describe what the destination holds, whether it is the source's state, and why it must not be replaced."""

    head: Head
    contents: str = ""
    already: bool = False
    refusal: Conflict | None = None


def check(source: Backend, destination: Backend, force: bool) -> None:
    """Check whether a migration may begin, with the destination opened read-only.

    Raises:
        NamespaceNotFound: the source does not exist.
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
        Sealed: no key opens the source or the destination.
        BackendError: the source is encrypted, and its copy would not be.

    """
    if is_same_place(source, destination):
        raise Conflict(
            f"namespace {source.namespace!r} of {source.url} is both the source and the destination",
            "Give another store or namespace",
        )
    destination.head()  # learns whether it is encrypted
    _values(source).check_open()
    _values(destination).check_open()
    target = inspect(source, head, destination)
    if target.refusal is not None and not force:
        raise target.refusal
    _check_plain(source, destination, target)
    return target


def _values(backend: Backend) -> StoredValues:
    return getattr(backend, "values", PLAIN)


def is_encrypted(destination: Backend, copied: bool) -> bool:
    """Return whether a copy is encrypted, or would be.

    Args:
        destination: where the copy is, or would be.
        copied: it is there already.

    """
    return getattr(destination, "keyring", lambda: None)() is not None if copied else is_sealed(destination)


def _check_plain(source: Backend, destination: Backend, target: DestinationState) -> None:
    """Refuse if the source is encrypted and its copy would not be, or if the safety checkpoint could not be made."""
    values = _values(destination)
    if not values.plain:
        return
    encrypt = NextStep("Encrypt the destination first, with ", ("key", "on"))
    if target.refusal is not None and not values.ready:
        what = f"namespace {destination.namespace!r} of {destination.url} is not encrypted, and a key was given"
        raise BackendError(what, encrypt)
    if not _values(source).plain and (values.ready or target.already):
        what = f"namespace {source.namespace!r} of {source.url} is encrypted, and its copy would not be"
        raise BackendError(what, encrypt if target.already else "Give the key for the destination, too")


def check_source(source: Backend) -> Head:
    """Check that the source can be migrated, and return its head.

    Raises:
        NamespaceNotFound: the source does not exist.
        ReadOnly: the source has an older layout.
        Conflict: state.json was edited by hand, and no commit has recorded the edit.

    """
    head = source.head()
    if head.lineage == OLDER:
        what = f"namespace {source.namespace!r} of {source.url} is of an older layout"
        raise ReadOnly(what, NextStep("Open it once for writing, such as with ", ("log",), ": it converts the layout"))
    check_exists(source, head)
    check_edits(source, head)
    return head


def check_edits(source: Backend, head: Head) -> None:
    """Refuse if state.json was edited by hand since the last commit: the history does not hold the edit."""
    if head.is_edited:
        what = f"{source.url}: state.json of {source.namespace!r} was edited by hand since its last commit"
        raise Conflict(what, NextStep("Run a command that may write, such as ", ("log",), ": it commits the edit"))


def is_same_place(source: Backend, destination: Backend) -> bool:
    """Return whether both backends mean the same namespace, which must never replace itself."""
    if (source.kind, source.namespace) != (destination.kind, destination.namespace):
        return False
    for _ in range(MAX_IDENTITY_CHECKS):
        before, target, after = source.identity(), destination.identity(), source.identity()
        if before.store and target.store:
            return before.store == target.store
        if before.stamp == target.stamp:
            return True
        if before.stamp == after.stamp or not before.revision <= target.revision <= after.revision:
            return False  # the destination's state is none that the source passed between its two identities
    return True  # both advanced together through every check


def inspect(source: Backend, head: Head, destination: Backend) -> DestinationState:
    """Describe what the destination holds, and why the source must not replace it, if so."""
    present = destination.head()
    if not present.lineage:
        return DestinationState(present)
    marks, source_marks = destination.marks(), source.marks()
    counts = f"{_count(present.count, 'key')}, {_count(len(marks), 'checkpoint')}"
    contents = f"{counts}, revision {present.revision:,} of {format_time(present.time)}"
    holds = f"{destination.url} already holds a namespace {destination.namespace!r}"
    revisions = f"revision {present.revision:,} at the destination, {head.revision:,} in {source.url}"
    hint = "Continue there, or give --force to replace that namespace: it is kept aside, with a checkpoint"
    refusal = None
    if present.lineage != head.lineage:
        hint = "Give another namespace or store, or --force: that namespace is then kept aside, with a checkpoint"
        refusal = Conflict(f"{holds} of another origin: {contents}", hint)
    elif hasattr(source, "reading"):  # its revisions are those of this process, see `KeepsPresentAlone`
        hint = "Give --force to copy it again: that namespace is then kept aside, with a checkpoint"
        refusal = Conflict(f"{holds} that was copied from there before: {contents}", hint)
    elif present.revision > head.revision:
        what = f"{holds} in a later state: it was migrated before, and written to since ({revisions})"
        refusal = Conflict(what, hint)
    elif not _is_ancestor(source, destination, head, present):
        may = "seems to have been written to since"
        if commit_of(source, present.revision) is None:
            may = "may have been written to since: that commit is pruned at the source"
        what = f"{holds} of the same origin, which {may} ({revisions})"
        refusal = Conflict(what, hint)
    elif extra := _extra_marks(marks, source_marks):
        names = ", ".join(f"{mark.name}@{mark.revision}" for mark in extra[:_MAX_NAMED_CHECKPOINTS])
        what = f"{holds} in an earlier state, with checkpoints that the source does not have: {names}"
        refusal = Conflict(what, hint)
    already = refusal is None and present.revision == head.revision and marks == source_marks
    return DestinationState(present, contents, already, refusal)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _extra_marks(marks: list[CheckpointRecord], source_marks: list[CheckpointRecord]) -> list[CheckpointRecord]:
    """Return the destination's checkpoints that the source does not have, and did not renew after the migration."""
    renewed = {(mark.name, mark.revision): mark.time for mark in source_marks}
    return [
        mark for mark in marks if mark not in source_marks and mark.time >= renewed.get((mark.name, mark.revision), 0)
    ]


def _is_ancestor(source: Backend, destination: Backend, head: Head, present: Head) -> bool:
    """Return whether the destination holds the state that the source had at that revision."""
    if not present.revision:
        return True
    copied, original = commit_of(destination, present.revision), commit_of(source, present.revision)
    if copied is not None and original is not None:
        return copied == original
    return present.revision == head.revision  # the whole copy is compared next


def check_same(source: Backend, head: Head) -> None:
    """Refuse if the source is not the same namespace any more."""
    present = source.head()
    if present.lineage == head.lineage and present.revision >= head.revision:
        return
    what = f"namespace {source.namespace!r} of {source.url} was"
    if not present.lineage:
        raise Conflict(f"{what} removed during the migration", "No data is left to migrate")
    raise Conflict(f"{what} replaced during the migration", "Run it again: it starts over")
