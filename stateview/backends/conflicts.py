"""Refused commits and copies: the checks of a commit's preconditions, and the errors of all backends, worded once."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import may_be_same
from ..errors import NOTHING_CHANGED, Conflict, HistoryPruned, InvalidArgument, NextStep, see
from .protocol import CommitRequest, Head

_LOST = "The server has lost the expected commit, and used its number again. Load the key and try again"


def check_preconditions(
    request: CommitRequest, namespace: str, head: Head, *,
    live_revision: Callable[[str], int], has_checkpoint: Callable[[str], bool], is_kept: Callable[[int], bool],
) -> None:  # fmt: skip
    """Raise an error if a namespace does not meet a commit's preconditions. Nothing may be written before this check.

    Args:
        request: the commit.
        namespace: the namespace's name, for messages.
        head: the namespace's head.
        live_revision: returns the revision of a key's live entry; 0 for a key that is absent or expired.
        has_checkpoint: returns whether a checkpoint with a name exists.
        is_kept: returns whether a state can be read at a revision.

    Raises:
        Conflict: the namespace is not at `base`, a key is not at its expected revision, or a checkpoint exists that
            was to be new.
        HistoryPruned: a new checkpoint names a revision that is not kept.

    """
    check_base(request, namespace, head.revision)
    for key, expected in request.expected.items():
        revision = live_revision(key)
        if revision != expected:
            raise key_conflict_error(key, expected, revision)
    for mark in request.marks:
        if mark.fresh and has_checkpoint(mark.name):
            raise checkpoint_conflict_error(mark.name)
        if mark.revision is not None and not is_kept(mark.revision):
            raise history_pruned_error(namespace, mark.revision, head.floor)


def check_new(request: CommitRequest, namespace: str) -> None:
    """Check the preconditions of a namespace's first commit, before the store is made for it.

    Raises:
        Conflict: the commit expects an entry or a revision.
        HistoryPruned: a new checkpoint names a revision other than 0.

    """
    check_preconditions(
        request, namespace, Head(), live_revision=lambda _key: 0, has_checkpoint=lambda _name: False,
        is_kept=lambda revision: revision == 0,
    )  # fmt: skip


def check_base(request: CommitRequest, namespace: str, revision: int) -> None:
    """Raise `Conflict` if the namespace is not at the revision that the commit was prepared for."""
    check_expected(namespace, request.base, revision)


def lost_revision_error(namespace: str, revision: int) -> Conflict:
    """Return the error for a precondition on the revision of a commit that the server has lost."""
    what = f"revision {revision} of namespace {namespace!r} was lost, and may be another commit by now"
    return Conflict(what, "Load it and try again")


def base_conflict_error(namespace: str, base: int, revision: int) -> Conflict:
    """Return the error for a namespace that is not at the expected revision."""
    return Conflict(
        f"namespace {namespace!r} is at revision {revision}, not at {base} as expected",
        "Look at what changed since, and try again",
    )


def check_expected(namespace: str, expected: int | None, revision: int) -> None:
    """Raise `Conflict` if a revision is expected to be live, and another is."""
    if expected is not None and not may_be_same(expected, revision):
        raise stale_base_error(namespace, expected, revision)


def stale_base_error(namespace: str, base: int, revision: int) -> Conflict:
    """Return the error for a namespace that is not at the expected revision, or at another commit of its number."""
    if base == revision:
        return lost_revision_error(namespace, base)
    return base_conflict_error(namespace, base, revision)


def key_conflict_error(key: str, expected: int, revision: int) -> Conflict:
    """Return the error for a key that is not at its expected revision."""
    if expected == revision:
        return Conflict(f"key {key!r} is at another commit of revision {revision} than expected", _LOST)
    if expected == 0:
        return Conflict(f"key {key!r} exists already, since revision {revision}", "It was to be written only if absent")
    is_now = f"at revision {revision}" if revision else "absent"
    return Conflict(f"key {key!r} is {is_now}, not at revision {expected} as expected", "Load it and try again")


def checkpoint_conflict_error(name: str) -> Conflict:
    """Return the error for a new checkpoint whose name is taken."""
    return Conflict(f"checkpoint {name!r} exists already")


def history_pruned_error(namespace: str, revision: int, floor: int) -> HistoryPruned:
    """Return the error for a revision that is no longer kept, or is none of a namespace that keeps all of its own."""
    if not floor:
        what = f"namespace {namespace!r} has no revision {revision} any more: it was removed or replaced"
        return HistoryPruned(what, see("namespaces"))
    return HistoryPruned(
        f"revision {revision} of namespace {namespace!r} is no longer kept",
        f"Its history reaches back to revision {floor}; older states are kept where a checkpoint names them",
    )


def staging_locked_error(url: str, namespace: str, hint: str = "Wait until it ends, or end its process") -> Conflict:
    """Return the error for a destination that another copy holds."""
    return Conflict(f"a copy into namespace {namespace!r} of {url} is under way", hint)


def destination_exists_error(url: str, namespace: str, revision: int) -> Conflict:
    """Return the error for a copy whose destination exists and is not to be replaced."""
    return Conflict(f"namespace {namespace!r} of {url} exists already, at revision {revision}")


def plain_data_error(namespace: str) -> InvalidArgument:
    """Make the error for a write with a key to a namespace that has plain data."""
    message = f"namespace {namespace!r} is not encrypted, and an encryption key was given"
    return InvalidArgument(message, (NextStep("Encrypt it with ", ("key", "on")), "Or give no key"))


def check_same_keyring(found: bytes | None, staged: bytes | None, namespace: str) -> None:
    """Refuse to replace a sealed namespace by staged data under another keyring.

    Raises:
        Conflict: the keyring of the namespace was changed since the data were staged.

    """
    if found is not None and found != staged:
        message = f"the encryption of namespace {namespace!r} was changed since the copy began"
        raise Conflict(message, (NOTHING_CHANGED, "Run it again"))
