"""Handler: edit. Opens a value in `$EDITOR`; text that could not be saved is kept in its file."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from typing import Any

from ... import codec
from ...errors import NextStep, StateException
from ...model import ABSENT
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult
from ..values import parse_value, type_name


def edit(context: Context, args: dict[str, Any]) -> ActionResult:
    """`edit KEY`."""
    key, manager = args["key"], context.manager
    if context.ask is None:
        raise UsageError("edit needs a terminal", NextStep("Use ", ("save", key, "VALUE")))
    before = manager.entry(key) if key in manager else None
    old = b"" if before is None else codec.encode(before.value)
    path = _write_temporary(codec.pretty(old) if old else b"null")
    value = _edit_until_valid(context, path, key)
    if value is ABSENT:
        return ActionResult(f"nothing was saved; your text is kept in {path}")
    if codec.encode(value) == old:
        os.unlink(path)
        return ActionResult(f"{key} is unchanged")
    try:
        revision = manager.save(key, value, expected=before.revision if before else 0, reason=f"edit {key}")
    except StateException as error:
        error.next_steps += (f"Your text is kept in {path}",)
        raise
    os.unlink(path)
    summary = f"saved {key} ({type_name(value)}), revision {revision}"
    return ActionResult(summary, data={"key": key, "revision": revision})


def _write_temporary(data: bytes) -> str:
    descriptor, path = tempfile.mkstemp(prefix="stateview-", suffix=".json")  # mode 0600
    with open(descriptor, "wb") as file:
        file.write(data + b"\n")
    return path


def _edit_until_valid(context: Context, path: str, key: str) -> Any:
    """Run the editor until the file holds valid JSON, and return the value; ABSENT if the person gives up."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    while True:
        try:
            ended = subprocess.run([*shlex.split(editor), path], check=False)
        except OSError as error:
            raise UsageError(f"{editor}: {error.strerror}", "Set EDITOR to an editor that is installed") from error
        if ended.returncode:
            raise UsageError(
                f"{editor} ended with exit code {ended.returncode}; nothing was saved", f"Your text is kept in {path}"
            )
        try:
            with open(path, "rb") as file:
                value = parse_value(codec.decode_text(file.read()).strip(), must=True)
            codec.encode(value)
            return value
        except (ValueError, TypeError) as error:
            fault = f"the text {codec.text_fault(error)}" if isinstance(error, UnicodeDecodeError) else error
            print(f"{key}: {fault}", file=sys.stderr)
            assert context.ask is not None
            if not context.ask("edit it again?"):
                return ABSENT
