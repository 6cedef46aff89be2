"""Handler: edit. Opens a value in `$EDITOR`; an edited text that could not be saved is kept in its file."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from functools import partial
from typing import Any

from ... import codec
from ...backends.files.memory_files import erase, private_folder
from ...errors import NextStep, StateException
from ...model import ABSENT
from ...states.values.value_text import parse_value
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult
from ..values import type_name


def edit(context: Context, args: dict[str, Any]) -> ActionResult:
    """`edit KEY`."""
    key, manager = args["key"], context.manager
    if context.ask is None:
        raise UsageError("edit needs a terminal", NextStep("Use ", ("save", key, "VALUE")))
    before = manager.entry(key) if key in manager else None
    old = b"" if before is None else codec.encode(before.value)
    with EditorFile((codec.pretty(old) if old else b"null") + b"\n", manager.is_encrypted) as file:
        value = _edit_until_valid(context, file.path, key)
        if value is ABSENT:
            return ActionResult(f"nothing was saved{file.keep_edit()}")
        if codec.encode(value) == old:
            return ActionResult(f"{key} is unchanged")
        revision = manager.save(key, value, expected=before.revision if before else 0, reason=f"edit {key}")
    summary = f"saved {key} ({type_name(value)}), revision {revision}"
    return ActionResult(summary, data={"key": key, "revision": revision})


class EditorFile:
    """A file for an editor, in a folder that only this user can read, for use in a `with` block.

    The folder is removed at the end of the block, with all files that the editor left in it. If the block fails and the
    text was edited, the file stays, and the error names it.

    Args:
        data: the text.
        sealed: whether it is of an encrypted namespace. The file lies in memory then, where the system has a folder
            for that, and is overwritten before it is removed.

    """

    def __init__(self, data: bytes, sealed: bool = False) -> None:
        self._data = data
        self._kept = False
        self._folder = private_folder(in_memory=sealed)
        self._remove = erase if sealed else partial(shutil.rmtree, ignore_errors=True)
        self.path = os.path.join(self._folder, "value.json")

    def __enter__(self) -> EditorFile:
        try:
            with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self._data)
        except BaseException:
            self._remove(self._folder)
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        note = self.keep_edit() if error is not None else ""
        if note and isinstance(error, StateException):
            error.next_steps += (f"Your text is kept in {self.path}",)
        elif note:
            print(note.removeprefix("; "), file=sys.stderr)
        if not self._kept:
            self._remove(self._folder)

    def keep_edit(self) -> str:
        """Keep the file if its text was edited, and return the words that name it; "" if it was not."""
        try:
            with open(self.path, "rb") as file:
                self._kept = file.read() != self._data
        except FileNotFoundError:
            self._kept = False
        except OSError:
            self._kept = True  # it may hold the text
        return f"; your text is kept in {self.path}" if self._kept else ""


def editor_command() -> tuple[str, list[str]]:
    """Return the editor that the environment names, and the words that start it.

    Raises:
        UsageError: they cannot be told apart.

    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        return editor, shlex.split(editor)
    except ValueError as error:
        raise UsageError(f"{editor}: {error}", "Correct EDITOR") from error


def _edit_until_valid(context: Context, path: str, key: str) -> Any:
    """Run the editor until the file holds valid JSON, and return the value; ABSENT if the person gives up."""
    editor, command = editor_command()
    while True:
        try:
            ended = subprocess.run([*command, path], check=False)
        except OSError as error:
            raise UsageError(f"{editor}: {error.strerror}", "Set EDITOR to an editor that is installed") from error
        if ended.returncode:
            raise UsageError(f"{editor} ended with exit code {ended.returncode}; nothing was saved")
        try:
            with open(path, "rb") as file:
                value = parse_value(codec.decode_text(file.read()).strip(), must=True)
            codec.encode(value)
            return value
        except FileNotFoundError as error:
            raise UsageError(f"{editor} removed its file {path}; nothing was saved") from error
        except (ValueError, TypeError) as error:
            fault = f"the text {codec.text_fault(error)}" if isinstance(error, UnicodeDecodeError) else error
            print(f"{key}: {fault}", file=sys.stderr)
            assert context.ask is not None
            if not context.ask("edit it again?"):
                return ABSENT
