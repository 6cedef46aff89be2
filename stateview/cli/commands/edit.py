"""Handler: edit. A value in `$EDITOR`, and nothing that was typed lost."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from typing import Any

from ... import codec
from ...errors import Conflict
from ...model import ABSENT
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult
from ..values import parse_value, type_name


def edit(context: Context, given: dict[str, Any]) -> ActionResult:
    """`edit KEY`."""
    key, manager = given["key"], context.manager
    if context.ask is None:
        raise UsageError("edit needs a terminal", f"Use 'save {key} VALUE'")
    before = manager.entry(key) if key in manager else None
    old = b"" if before is None else codec.encode(before.value)
    path = _start(codec.pretty(old) if old else b"null")
    try:
        value = _until_valid(context, path, key)
        if value is not ABSENT and codec.encode(value) != old:
            revision = manager.save(key, value, expected=before.revision if before else 0, reason=f"edit {key}")
            os.unlink(path)
            return ActionResult(
                f"saved {key} ({type_name(value)}), revision {revision}", data={"key": key, "revision": revision}
            )
    except Conflict as error:
        error.next_steps += (f"What you wrote is kept in {path}",)
        raise
    if value is ABSENT:
        return ActionResult(f"nothing was saved; what you wrote is kept in {path}")
    os.unlink(path)
    return ActionResult(f"{key} is unchanged")


def _start(data: bytes) -> str:
    descriptor, path = tempfile.mkstemp(prefix="stateview-", suffix=".json")  # mode 0600
    with open(descriptor, "wb") as file:
        file.write(data + b"\n")
    return path


def _until_valid(context: Context, path: str, key: str) -> Any:
    """What the file says when the person is content; ABSENT if they give up."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    while True:
        try:
            done = subprocess.run([*shlex.split(editor), path], check=False)
        except OSError as error:
            raise UsageError(f"{editor}: {error.strerror}", "Set EDITOR to an editor that is installed") from error
        if done.returncode:
            raise UsageError(
                f"{editor} ended with {done.returncode}; nothing was saved", f"What you wrote is kept in {path}"
            )
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        try:
            value = parse_value(text.strip(), must=True)
            codec.encode(value)
            return value
        except (UsageError, ValueError, TypeError) as error:
            print(f"{key}: {error}", file=sys.stderr)
            assert context.ask is not None
            if not context.ask("edit it again?"):
                return ABSENT
