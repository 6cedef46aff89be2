"""The two older layouts of JSON files.

The first is a state.json without a history, with `checkpoints/NAME.json` beside it. The second is that of the MVP: a
file KEY.json for each key, and in `checkpoints/NAME` a copy of these files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from ...errors import StateException
from ...model import check_checkpoint, now, to_micros
from ..files.durable_files import file_error, read_file
from ..jsonfile.document import decode_edited, parse_edited
from ..protocol import Version
from .adoption import LegacyState

_ENVELOPE = b'{"value":'
_BYTE_ORDER_MARKS = b"\xef\xbb\xbf\xff\xfe"


def read_state_file(folder: str, content: bytes) -> list[LegacyState]:
    """Return the states of a folder whose state.json has no history.

    Args:
        folder: the folder of the namespace.
        content: the content of its state.json.

    Raises:
        Damaged: a file does not parse.
        InvalidName: the name of a checkpoint.

    """
    saved = os.path.join(folder, "checkpoints")
    paths = {name[:-5]: os.path.join(saved, name) for name in _names(saved) if name.endswith(".json")}
    path = os.path.join(folder, "state.json")
    live = parse_edited(content, path, modified(path))
    return _ordered(paths, lambda path: parse_edited(read_file(path), path, modified(path)), live)


def read_key_files(root: str) -> list[LegacyState]:
    """Return the states of a folder of the MVP; none if it holds no KEY.json. Raises what `read_state_file` raises."""
    if not find_key_files(root):
        return []
    saved = os.path.join(root, "checkpoints")
    paths = {name: os.path.join(saved, name) for name in _names(saved) if os.path.isdir(os.path.join(saved, name))}
    return _ordered(paths, _read_key_files, _read_key_files(root))


def find_key_files(folder: str) -> dict[str, str]:
    """Find the paths of the KEY.json files in a folder, by key, from names and first characters alone."""
    paths = {name[:-5]: os.path.join(folder, name) for name in _names(folder) if name.endswith(".json")}
    return {key: path for key, path in paths.items() if key and os.path.isfile(path) and _has_envelope(path)}


def refers_to_history(folder: str, content: bytes | None) -> str:
    """Return the first file whose entries have revisions, which only a namespace with a history has; "" if none has.

    Args:
        folder: the folder of the namespace.
        content: the content of its state.json; None if there is no such file.

    """
    saved = (os.path.join("checkpoints", name) for name in _names(os.path.join(folder, "checkpoints")))
    for name in ("state.json", *(name for name in saved if name.endswith(".json"))):
        path = os.path.join(folder, name)
        try:
            data = content if name == "state.json" else read_file(path)
            entries = parse_edited(data, path, 0) if data is not None else {}
        except StateException:
            continue  # the code that reads this file for its content reports the error
        if any(version.revision for version in entries.values()):
            return name
    return ""


def modified(path: str) -> int:
    """Return the modification time of a file, in microseconds since 1970."""
    return to_micros(datetime.fromtimestamp(os.stat(path).st_mtime, UTC))


def _ordered(
    paths: dict[str, str], read: Callable[[str], dict[str, Version]], live: dict[str, Version]
) -> list[LegacyState]:
    """Return the states of some checkpoints, by the times of their files, then the live state."""
    states = [LegacyState(check_checkpoint(name), modified(path), [read(path)]) for name, path in paths.items()]
    return [*sorted(states, key=lambda state: state.time), LegacyState("", now(), [live])]


def _read_key_files(folder: str) -> dict[str, Version]:
    entries: dict[str, Version] = {}
    for key, path in find_key_files(folder).items():
        text = decode_edited(read_file(path), path)
        entries.update(parse_edited(b"{%b:%b}" % (msgspec.json.encode(key), text.encode()), path, modified(path)))
    return entries


def _has_envelope(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(128).lstrip(_BYTE_ORDER_MARKS).replace(b"\0", b"")  # reading the file refuses such text
    return b"".join(start.split()).startswith(_ENVELOPE)


def _names(folder: str) -> Iterable[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise file_error(error, folder) from error
