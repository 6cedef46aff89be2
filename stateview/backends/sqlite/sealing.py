"""The keyring of a namespace, in a table that only a sealed database has.

Without it nothing can be opened, so a second table has a copy, on another page. Only `recover` looks for that.
Triggers refuse plain values and texts, from whoever opened the database before it was sealed. While the database is
being unsealed there are none.
"""

from __future__ import annotations

import apsw

from ...errors import Conflict
from ...sealing.keyring import State, decode
from .schema import FORMAT

_TABLES = ("keyring", "keyring_copy")
_CREATE = ";".join(
    f"CREATE TABLE {name} (id INTEGER PRIMARY KEY CHECK (id = 1), document BLOB NOT NULL) STRICT" for name in _TABLES
)
_REFUSE = "BEGIN SELECT RAISE(ABORT, 'the namespace is sealed'); END"
_TRIGGERS = f"""
CREATE TRIGGER IF NOT EXISTS sealed_entries BEFORE INSERT ON entries
    WHEN substr(NEW.value, 1, 12) != '{{"$sealed":"' {_REFUSE};
CREATE TRIGGER IF NOT EXISTS sealed_commits BEFORE INSERT ON commits
    WHEN (NEW.reason != '' AND substr(NEW.reason, 1, 8) != '$sealed:')
        OR (NEW.author != '' AND substr(NEW.author, 1, 8) != '$sealed:') {_REFUSE};
CREATE TRIGGER IF NOT EXISTS sealed_marks BEFORE INSERT ON marks
    WHEN NEW.note != '' AND substr(NEW.note, 1, 8) != '$sealed:' {_REFUSE}"""
_TRIGGER_NAMES = ("sealed_entries", "sealed_commits", "sealed_marks")
_DROP_TABLES = ";".join(f"DROP TABLE {name}" for name in _TABLES)
_DROP_TRIGGERS = ";".join(f"DROP TRIGGER IF EXISTS {name}" for name in _TRIGGER_NAMES)


def is_sealed(db: apsw.Connection) -> bool:
    """Return whether a database has the number of a format with a keyring."""
    return int(db.pragma("user_version")) > 2 * FORMAT


def read_keyring(db: apsw.Connection) -> bytes | None:
    """Return the keyring document; None if there is none."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'keyring'").fetchone():
        return None
    document: bytes | None = db.execute("SELECT document FROM keyring").get
    return document


def put_keyring(db: apsw.Connection, document: bytes | None, former: bytes | None) -> None:
    """Store or remove the keyring document, in the caller's transaction, see `KeepsKeyring`."""
    if read_keyring(db) != former:
        raise Conflict("the keyring of the namespace was changed meanwhile", "Try again")
    version = int(db.pragma("user_version"))
    if document is None and former is not None:
        db.execute(f"{_DROP_TABLES}; {_DROP_TRIGGERS}")
        db.pragma("user_version", version - FORMAT)
    elif former is not None:
        for name in _TABLES:
            db.execute(f"UPDATE {name} SET document = ?", (document,))
        db.execute(_DROP_TRIGGERS if state(document) == "unsealing" else _TRIGGERS)
    elif document is not None:
        create(db)
        for name in _TABLES:
            db.execute(f"INSERT INTO {name} VALUES (1, ?)", (document,))


def state(document: bytes | None) -> State:
    """Return the state of the namespace of a keyring document."""
    return decode(document or b"").state


def needed(db: apsw.Connection) -> set[str]:
    """Return the names of the tables and triggers that a sealed database must have."""
    document = read_keyring(db)
    has_triggers = document is not None and state(document) != "unsealing"
    return {*_TABLES, *(_TRIGGER_NAMES if has_triggers else ())}


def create(db: apsw.Connection) -> None:
    """Create the table of the keyring, without a document, and the table of deltas, which the format has as well."""
    from . import packed

    packed.create(db)
    db.execute(f"{_CREATE};{_TRIGGERS}")
    db.pragma("user_version", int(db.pragma("user_version")) + FORMAT)
