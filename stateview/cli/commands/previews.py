"""What `--dry-run` shows of commands that write keys: the diff of a transaction that is not committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...arguments import may_be_same
from ...backends.conflicts import key_conflict_error
from ...errors import NOTHING_CHANGED, Conflict
from ...states.transaction import Transaction
from ..context import Context
from ..exit_codes import UsageError
from ..results import DiffResult
from .checkpoints import DRY_RUN


def preview(
    context: Context, args: dict[str, Any], keys: Iterable[str], act: Callable[[Transaction], object]
) -> DiffResult:
    """Return what an act would change, after the checks that `--expected` and `--previewed` ask for.

    Args:
        context: the context of the command.
        args: the arguments of the command.
        keys: the keys that it writes.
        act: writes into a transaction.

    Raises:
        Conflict: a key is not at the expected revision, or was written since the previewed one.
        UsageError: a transaction is open.

    """
    if context.transaction is not None:
        raise UsageError("--dry-run does not go with a transaction", "'diff' shows what 'commit' would change")
    transaction = context.manager.begin()
    for key in keys:
        revision = transaction.revision(key)
        if not may_be_same(args.get("expected", revision), revision):
            raise key_conflict_error(key, args["expected"], revision)
        if revision > args.get("previewed", revision):
            raise Conflict(f"key {key!r} was written since revision {args['previewed']}", NOTHING_CHANGED)
    act(transaction)
    changes = transaction.diff()
    return DiffResult(DRY_RUN if changes else "", diff=changes, empty="it would change no value")
