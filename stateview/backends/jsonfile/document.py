"""The format of state.json, `{key: {"value": …, "timestamp": …, "revision": …}}`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ... import codec
from ...errors import NOTHING_CHANGED, Damaged, InvalidName, NextStep, NotSerializable, run
from ...model import check_key, format_time, now, parse_time
from ..protocol import Version, Write

RECOVER = run("recover", after=": it keeps the damaged file and mends from the history")
_CORRECT_IT = ("Correct the file", NOTHING_CHANGED, NextStep("Or run ", RECOVER.command, RECOVER.after))
DELETE = Write(None)
_CLOCK_SLACK_NANOSECONDS = 20_000_000  # by which a file's time may lie behind the clock's


class _Stored(Struct):
    value: Raw
    timestamp: str
    revision: int
    expires: str | None = None


def parse(data: bytes, path: str) -> dict[str, Version]:
    """Parse a state.json whose digest is right. O(size)."""
    try:
        stored = msgspec.json.decode(data, type=dict[str, _Stored])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        # The digest is right, so this is a file of an older layout that was adopted unchanged.
        return parse_edited(data, path, now())
    entries = {}
    for key, item in stored.items():
        expires, value = parse_time(item.expires) if item.expires else 0, codec.pretty(bytes(item.value), -1)
        entries[key] = Version(key, value, item.revision, parse_time(item.timestamp), expires)
    return entries


def serialize(entries: dict[str, Version], blocks: dict[str, bytes]) -> bytes:
    """Return the text of a state.json, with sorted keys and an indentation of two spaces.

    Args:
        entries: the entries, without deletes.
        blocks: a cache of the text of each entry, which this function completes and cleans up.

    """
    for key, version in entries.items():
        if key not in blocks:
            assert version.value is not None
            envelope: dict[str, Any] = {
                "value": Raw(version.value), "timestamp": format_time(version.time), "revision": version.revision,
            }  # fmt: skip
            if version.expires:
                envelope["expires"] = format_time(version.expires)
            block = codec.pretty(msgspec.json.encode({key: envelope}))
            blocks[key] = block[2:-2]  # without the braces and their line ends
    for key in blocks.keys() - entries.keys():
        del blocks[key]
    if not entries:
        return b"{}\n"
    return b"{\n" + b",\n".join(blocks[key] for key in sorted(entries)) + b"\n}\n"


def decode_edited(data: bytes, path: str) -> str:
    """Return the text of a file that a person edits; `Damaged` names the path if it is not plain UTF-8."""
    try:
        return codec.decode_text(data)
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} {codec.text_fault(error)}", (codec.SAVE_AS_UTF8, *_CORRECT_IT[1:])) from error


def parse_edited(data: bytes, path: str, moment: int) -> dict[str, Version]:
    """Parse and check a state.json that a person or an older version wrote.

    Args:
        data: the content.
        path: the path, for messages.
        moment: the time of entries without a timestamp.

    Raises:
        Damaged: the content is not JSON (with line and column), has a key twice, is not of this layout, or holds a key
            or a value that `save` would refuse.

    """
    import json  # slow to import, and rarely needed

    text = decode_edited(data, path)
    try:
        document = codec.parse_strict(text)
    except json.JSONDecodeError as error:
        raise Damaged(f"{path}, line {error.lineno} column {error.colno}: {error.msg}", _CORRECT_IT) from error
    except RecursionError as error:
        raise Damaged(f"{path}: a value is nested over {codec.MAX_DEPTH} levels deep", _CORRECT_IT) from error
    except ValueError as error:
        raise Damaged(f"{path}: {error}", _CORRECT_IT) from error
    if not isinstance(document, dict):
        raise Damaged(f"{path} holds no JSON object", RECOVER)
    entries = {}
    for key, item in document.items():
        try:
            check_key(key)
            if not isinstance(item, dict) or "value" not in item:
                raise Damaged(f'{path}: the entry {key[:60]!r} is not an object with a "value"', RECOVER)
            stamp = item.get("timestamp")
            time = parse_time(stamp) if isinstance(stamp, str) else moment
            expires = item.get("expires")
            revision = item.get("revision")
            entries[key] = Version(
                key, codec.encode(item["value"]), revision if isinstance(revision, int) else 0, time,
                parse_time(expires) if isinstance(expires, str) else 0,
            )  # fmt: skip
        except (NotSerializable, InvalidName) as error:
            raise Damaged(f"{path}: the entry {key[:60]!r}: {error.message}", error.next_steps) from error
        except ValueError as error:
            if isinstance(error, Damaged):
                raise
            raise Damaged(f"{path}: the entry {key[:60]!r} has no valid time: {error}", RECOVER) from error
    return entries


def is_edited(modified: int, written: int) -> bool:
    """Return whether a state.json was modified since stateview wrote it.

    Args:
        modified: the file's modification time, in nanoseconds.
        written: the modification time that stateview gave it.

    """
    if modified == written:
        return False
    is_ahead = written > now() * 1000 + _CLOCK_SLACK_NANOSECONDS  # the clock was set back since: any time may follow
    return is_ahead or modified >= written - _CLOCK_SLACK_NANOSECONDS


def edits(before: dict[str, Version], after: dict[str, Version]) -> dict[str, Write]:
    """Return the writes of an edit, by key."""
    moment = now()
    writes = dict.fromkeys(before.keys() - after.keys(), DELETE)
    for key, version in after.items():
        old = before.get(key)
        if old is None or old.value != version.value or old.expires != version.expires:
            assert version.value is not None
            writes[key] = Write(version.value, max(1, version.expires - moment) if version.expires else 0)
    return dict(sorted(writes.items()))
