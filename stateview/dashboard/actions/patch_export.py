"""Write a diff to a file as a JSON Patch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any

from ... import codec
from ...errors import StateException
from ..data.diff_model import DiffProgress, DiffSides


def write_patch(
    path: str, sides: DiffSides, keys: Sequence[str] | None, overwrite: bool, progress: DiffProgress
) -> int:
    """Write the RFC 6902 operations that turn one state into the other, and return the number of changed keys.

    The file appears under its name when it is complete. Only its owner can read it, because it holds state.

    Args:
        path: the path of the file.
        sides: the two states.
        keys: the keys that differ. None computes them.
        overwrite: whether an existing file is replaced.
        progress: counts the keys, and can stop the export.

    Raises:
        FileExistsError: the file exists, and `overwrite` is false.
        StateException: the export was stopped. No file is left.
        OSError: the file cannot be written.

    """
    path = os.path.realpath(os.path.expanduser(path))
    if not overwrite:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # reserves the name
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".patch-", dir=os.path.dirname(path))
        with os.fdopen(handle, "wb") as file:
            count = write_operations(file, sides, keys, progress)
        os.replace(temporary, path)
    except BaseException:
        for leftover in (temporary, "" if overwrite else path):
            if leftover and os.path.exists(leftover):
                os.unlink(leftover)
        raise
    return count


def write_operations(
    file: IO[bytes], sides: DiffSides, keys: Sequence[str] | None, progress: DiffProgress,
    check: Callable[[dict[str, Any]], None] = lambda _operation: None,
) -> int:  # fmt: skip
    """Write the operations into an open file, and return the number of changed keys. Arguments as of `write_patch`.

    `check` gets each operation before it is written, and may raise.

    Raises:
        StateException: the export was stopped. The file is incomplete.

    """
    count = 0
    file.write(b"[")
    first = True
    for change in sides.changes(progress) if keys is None else sides.among(keys, progress):
        count += 1
        for operation in change.as_json_patch():
            check(operation)
            file.write(b"\n" if first else b",\n")
            file.write(_encode(operation))
            first = False
    file.write(b"\n]\n")
    if progress.stopped():
        raise StateException("writing the patch was stopped; no file was written")
    return count


def _encode(operation: dict[str, Any]) -> bytes:
    """Encode an operation member by member.

    Its value may have the greatest allowed depth, and an object around such a value would be too deep to encode.
    """
    members = (codec.encode(name) + b":" + codec.encode(value) for name, value in operation.items())
    return b"{" + b",".join(members) + b"}"
