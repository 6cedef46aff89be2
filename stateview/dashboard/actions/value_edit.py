"""A value as text that a person edits: how it is written for that, judged, edited elsewhere, and saved. No widgets."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, NamedTuple

from textual.app import SuspendNotSupported

from ... import codec
from ...backends.protocol import Version
from ...cli.exit_codes import UsageError
from ...cli.values import type_name
from ...errors import BackendError, NotSerializable, StateException
from ...manager import StateManager
from ..display.redaction import is_redacted, masked_places
from ..display.text import format_size, one_line

if TYPE_CHECKING:
    from ..app import Dashboard

INLINE_CHARACTERS = 256_000  # characters that are edited on the screen; above, only in an editor
_UNSEEN = re.compile(r"[^\n -~]")


class ValidationResult(NamedTuple):
    """What a text is as JSON: its bytes as they would be stored (None: it is none), and what to say of it.

    `place` is the line and column of an error, both from 0, where they are known.
    """

    data: bytes | None
    said: str
    place: tuple[int, int] | None = None


class Draft(NamedTuple):
    """A value to be edited, as it was read: its text, the revision of its key (0: no such key), its expiry.

    `deadline` is on the clock of `time.monotonic()`; None: it does not expire.
    """

    text: str
    revision: int = 0
    deadline: float | None = None

    @property
    def ttl(self) -> float | None:
        """Seconds until it expires, more than none; None: it does not."""
        return None if self.deadline is None else max(0.001, self.deadline - time.monotonic())


def as_text(data: bytes) -> str:
    """Return an encoded value as indented JSON, with what a person would not see, or a terminal would obey, escaped."""
    return _UNSEEN.sub(_spelled, codec.pretty(data).decode())


def _spelled(match: re.Match[str]) -> str:
    sign = match[0]
    if sign.isprintable():
        return sign
    units = sign.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def judge(text: str) -> ValidationResult:
    """Whether a text is a value that can be saved. O(length)."""
    try:
        value = codec.parse_strict(text)
        data = codec.encode(value)
    except JSONDecodeError as error:
        if not text.strip():
            return ValidationResult(None, 'a JSON value is missing; a text stands in "quotes"', (0, 0))
        said = error.msg[:1].lower() + error.msg[1:]
        if error.msg == "Expecting value":
            said += '; a text stands in "quotes"'
        where = f"line {error.lineno:,}, column {error.colno:,}"
        return ValidationResult(None, f"{where}: {said}", (error.lineno - 1, error.colno - 1))
    except RecursionError:
        return ValidationResult(None, f"it is nested over {codec.MAX_DEPTH} levels deep")
    except (ValueError, NotSerializable) as error:
        return ValidationResult(None, str(error))
    return ValidationResult(data, f"{_kind(value)} · {format_size(len(data))}")


def _kind(value: Any) -> str:
    name = type_name(value)
    return f"{name} of {len(value):,}" if isinstance(value, (dict, list)) else name


def refusal(board: Dashboard, key: str | None) -> str:
    """Why nothing can be edited now, and what to do about it; empty where it can. Reads nothing."""
    try:
        board.manager.check_writable()
    except StateException as error:
        return str(error)
    if board.at is not None:
        return f"this is the state as of {one_line(board.at)}, which stays as it is: esc goes back to live"
    if key is not None and is_redacted(key, board.redact):
        return f"masked values are not edited on the screen; in a terminal: {board.command_line(['edit', key])}"
    return ""


def read_draft(board: Dashboard, key: str) -> Draft | None:
    """Return the live value of a key as text; None where there is none. Reads the backend.

    Raises:
        UsageError: there are masked values in it.
        Damaged: it cannot be decoded.

    """
    manager = board.manager
    version = manager.backend.get(key)
    if version is None:
        return None
    value = codec.decode(version.value or b"null", f"the value of {key[:60]!r}")
    place = next(masked_places(value, board.redact), None)
    if place is not None:
        raise UsageError(
            f"it holds a masked value at {place}, so it is not edited on the screen",
            f"In a terminal: {board.command_line(['edit', key])}",
        )
    return draft_of(manager, version)


def draft_of(manager: StateManager, version: Version) -> Draft:
    """Return a version as text."""
    data = version.value or b"null"
    left = (version.expires - manager.backend.now()) / 1_000_000 if version.expires else 0.0
    return Draft(as_text(data), version.revision, time.monotonic() + left if version.expires else None)


def save_words(key: str, data: bytes, draft: Draft) -> list[str]:
    """Return the command that saves a value, if the key is still as it was read; its expiry goes along."""
    ttl = [] if draft.ttl is None else ["--ttl", f"{draft.ttl:.3f}"]
    text = data.decode()
    plain = ["--"] if key.startswith("-") or text.startswith("-") else []
    return ["save", "--json", "--expected", str(draft.revision), *ttl, *plain, key, text]


def in_editor(app: Dashboard, text: str) -> str:
    """Return a text as it comes back from `$VISUAL`, `$EDITOR` or vi, which gets the terminal until it ends.

    The file is readable by this user alone, and gone afterwards, as is what the editor left beside it.

    Raises:
        UsageError: there is no terminal to give away, no such editor, or it ended with an error: nothing is taken.
        BackendError: the file cannot be written or read.

    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        command = shlex.split(editor)
    except ValueError as error:
        raise UsageError(f"{editor}: {error}", "Mend EDITOR") from error
    folder = ""
    try:
        folder = tempfile.mkdtemp(prefix="stateview-")  # mode 0700
        path = os.path.join(folder, "value.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode(errors="surrogatepass") + b"\n")
        with app.suspend():
            ended = _wait_for([*command, path])
        if isinstance(ended, OSError):
            raise UsageError(f"{editor}: {ended.strerror}", "Set EDITOR to an editor that is installed")
        if ended:
            raise UsageError(f"{editor} ended with {ended}: what was written in it is not taken")
        with open(path, "rb") as file:
            return file.read().decode().removesuffix("\n")
    except SuspendNotSupported:
        raise UsageError("there is no terminal here to give to an editor", "Run 'stateview edit' in one") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"what the editor wrote is not UTF-8 text, at byte {error.start}; it is not taken") from error
    except OSError as error:
        raise BackendError(f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for(command: list[str]) -> int | OSError:
    """Run a program, for which alone Ctrl-C is. Its exit code, or why it did not start.

    Nothing may be raised while the app steps aside: it would not come back.
    """
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)  # not SIG_IGN, which it would inherit
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        return error
    finally:
        signal.signal(signal.SIGINT, before)


def keep_in_file(text: str) -> str:
    """Put a text that would be lost into a file for this user alone; returns its path.

    Raises:
        OSError: it cannot be written.

    """
    descriptor, path = tempfile.mkstemp(prefix="stateview-", suffix=".json")  # mode 0600
    with open(descriptor, "wb") as file:
        file.write(text.encode(errors="surrogatepass"))
    return path
