"""A diff written to a file as a JSON Patch, change by change."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from ... import codec
from ...errors import StateException
from ..data.diff_model import DiffProgress, DiffSides


def write_patch(path: str, sides: DiffSides, keys: Sequence[str] | None, overwrite: bool, walk: DiffProgress) -> int:
    """Write RFC 6902 operations that turn one state into the other, and return how many keys they change.

    The file has its name only once it is whole, and can be read by its owner alone: it holds state.

    Args:
        path: of the file.
        sides: the two states.
        keys: those that differ, if they are known; None finds them again.
        overwrite: whether a file that is there may be replaced.
        walk: told how far it is; may stop it.

    Raises:
        FileExistsError: there is a file, and it may not be replaced.
        StateException: it was stopped; nothing is left of it.
        OSError: it cannot be written.

    """
    path = os.path.realpath(os.path.expanduser(path))
    if not overwrite:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # the name is ours from here on
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".patch-", dir=os.path.dirname(path))
        with os.fdopen(handle, "wb") as file:
            count = 0
            file.write(b"[")
            first = True
            for change in sides.changes(walk) if keys is None else sides.among(keys, walk):
                count += 1
                for operation in change.as_json_patch():
                    file.write(b"\n" if first else b",\n")
                    file.write(_encode(operation))
                    first = False
            file.write(b"\n]\n")
        if walk.stopped():
            raise StateException("writing the patch was stopped; there is no file")
        os.replace(temporary, path)
    except BaseException:
        for left in (temporary, "" if overwrite else path):
            if left and os.path.exists(left):
                os.unlink(left)
        raise
    return count


def _encode(operation: dict[str, Any]) -> bytes:
    """Member by member: a value may be as deep as a value can be, and then an object that holds it is too deep."""
    members = (codec.encode(name) + b":" + codec.encode(value) for name, value in operation.items())
    return b"{" + b",".join(members) + b"}"
