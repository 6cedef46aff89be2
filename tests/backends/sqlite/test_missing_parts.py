"""A part of a database that is missing is damage to whoever meets it, never an empty answer."""

import shutil

import pytest
import stress

from stateview import Damaged, StateManager
from stateview.backends.sqlite.connections import page_checksums as pages

TABLES = ("meta", "entries", "versions", "touched", "commits", "marks")
INDEXES = ("entries_expires", "versions_expires", "marks_revision")
DEFAULT = (
    ("DELETE FROM touched", ("load", "keys", "update", "log", "at", "count")),
    ("DELETE FROM commits WHERE revision = 7", ("load", "keys", "update", "at", "count")),
    ("DELETE FROM entries WHERE key = 'k1'", ("update", "diff", "log", "at", "count")),
)
ASKED = {
    "load": lambda state: state.load("k1", "DEFAULT"),
    "keys": lambda state: [key for key in state.list_keys() if not key.startswith("large")],
    "diff": lambda state: [change.key for change in state.diff("c", "d")],
    "log": lambda state: len(state.log(1000)),
    "at": lambda state: state.load("k1", at="c"),
    "count": lambda state: state.head().count,
    "update": lambda state: state.update("count", lambda value: value + 1, 0),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store too large to be checked whole when it is opened, and the right answers."""
    folder = tmp_path_factory.mktemp("missing")
    with StateManager(f"sqlite:{folder}/s", "n", durability="normal") as state:
        for number in range(5):
            state.save(f"k{number}", number)
        state.save("count", 41)
        state.checkpoint("c")
        state.save("k1", "later")
        state.delete("k3")
        with state.transaction() as tx:
            tx.save("k0", "later")
            tx.save("k2", "later")
        state.checkpoint("d")
        for number in range(40):
            state.save(f"large{number}", "v" * 4000)
    shutil.copytree(folder / "s", folder / "asked")
    with StateManager(f"sqlite:{folder}/asked", "n") as state:
        return folder, {name: question(state) for name, question in ASKED.items()}


@pytest.mark.parametrize(
    ("statement", "may_be_right"),
    stress.only(
        [
            *((f"DROP TABLE {table}", ()) for table in TABLES),
            *((f"DROP INDEX {index}", ()) for index in INDEXES),
            *((f"DELETE FROM {table}", ()) for table in TABLES if table not in ("touched", "marks")),
            ("DELETE FROM commits WHERE revision = (SELECT max(revision) FROM commits)", ()),
            *DEFAULT,
        ],
        *DEFAULT,
    ),
)
def test_a_missing_part_is_damage_or_the_answer_is_right(store, tmp_path, statement, may_be_right):
    folder, right = store
    for name, question in ASKED.items():
        shutil.copytree(folder / "s", tmp_path / name)
        db = pages.connect(str(tmp_path / name / "n" / "state.db"))
        db.execute(statement)
        db.close()
        with StateManager(f"sqlite:{tmp_path / name}", "n") as state:
            if name in may_be_right:
                assert question(state) == right[name]
                continue
            with pytest.raises(Damaged):
                question(state)
