"""Errors and findings as data: the next step that they name, and who puts the store into it."""

from __future__ import annotations

import pickle

from stateview.errors import (
    NOTHING_CHANGED,
    BackendError,
    Damaged,
    NextStep,
    NotSerializable,
    StateException,
    hint_text,
    names_command,
    run,
    see,
)
from stateview.model import Finding, ProgressMessage


def test_a_command_in_a_hint_names_the_store_of_whoever_shows_it() -> None:
    error = Damaged("it is damaged", run("recover", after=": it mends"))
    assert str(error) == "it is damaged. Run 'stateview recover': it mends"
    error.target = ["-s", "json:a b", "-n", "x"]
    assert error.hint == "Run 'stateview -s 'json:a b' -n x recover': it mends"
    error.next_steps = (see("help", "find"),)
    assert error.hint == "See 'stateview help find'"


def test_sentences_of_a_hint_are_joined() -> None:
    error = BackendError("full", (NOTHING_CHANGED, "Free some space."))
    error.next_steps += (see("stats"),)
    assert error.hint == "Nothing was changed. Free some space. See 'stateview stats'"
    assert [names_command(error.next_steps, name) for name in ("stats", "recover")] == [True, False]
    assert hint_text("") == StateException("x").hint == ""


def test_an_error_is_pickled_whole() -> None:
    error = NotSerializable("no", NextStep("Or ", ("undo",)), "$.a")
    error.target = ["-n", "x"]
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.path) == (NotSerializable, "no. Or 'stateview -n x undo'", "$.a")


def test_a_finding_has_its_next_step_as_text() -> None:
    assert Finding("note", "a", "b", "c", run("compact"), "bloat").remedy == "Run 'stateview compact'"
    assert Finding("note", "a", "b").remedy == ""


def test_a_progress_message_is_text_with_its_numbers() -> None:
    message = ProgressMessage.of(1000, 2000, "rows", "table x").about("main")
    assert (message, message.done, message.total) == ("main: table x: 1,000 of 2,000 rows", 1000, 2000)
