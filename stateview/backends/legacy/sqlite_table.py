"""The older layout in SQLite: a table `state(key, value, timestamp)`, and `checkpoints(name, state, created_at)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import codec
from ...errors import NOTHING_CHANGED, Damaged
from ...model import check_checkpoint, check_key, now, parse_time
from ..protocol import Version
from .adoption import LegacyState

if TYPE_CHECKING:
    import apsw

_COLUMNS = {"state": ["key", "value", "timestamp"], "checkpoints": ["name", "state", "created_at"]}


def read_tables(connection: apsw.Connection, path: str) -> list[LegacyState]:
    """Return the states of a database of the older layout.

    Raises:
        Damaged: a row does not parse.
        InvalidName: a key, or the name of a checkpoint.

    """
    states = []
    if _has(connection, "checkpoints"):
        for name, text, created in connection.execute("SELECT name, state, created_at FROM checkpoints"):
            rows = _parse(text, f"{path}: checkpoint {check_checkpoint(name)!r}")
            states.append(LegacyState(name, parse_time(created), [_entries(rows, path)]))
    live = _entries(connection.execute("SELECT key, value, timestamp FROM state"), path)
    return [*sorted(states, key=lambda state: state.time), LegacyState("", now(), [live])]


def drop_tables(connection: apsw.Connection) -> None:
    """Drop the tables of the older layout."""
    for name in _COLUMNS:
        if _has(connection, name):
            connection.execute(f"DROP TABLE {name}")


def _has(connection: apsw.Connection, table: str) -> bool:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] == _COLUMNS[table]


def _entries(rows: Any, path: str) -> dict[str, Version]:
    entries = {}
    for key, text, stamp in rows:
        value = codec.encode(_parse(text, f"{path}: the entry {check_key(key)!r}"))
        entries[key] = Version(key, value, 0, parse_time(stamp), 0)
    return entries


def _parse(text: str, what: str) -> Any:
    try:
        return codec.parse_strict(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is not valid JSON: {error}", NOTHING_CHANGED) from error
