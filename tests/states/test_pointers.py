"""JSON Pointers: RFC 6901's rules, and every place that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stateview import InvalidName, KeyNotFound, StateManager
from stateview.cli.commands import assertions, checkpoints, keys
from stateview.cli.completion import candidates
from stateview.cli.context import Context
from stateview.model import ABSENT
from stateview.states.conditions import parse_condition
from stateview.states.values.pointers import escape_token, resolve_pointer, split_pointer

# Section 5 of the RFC: a member for each of the signs that could be taken for syntax.
DOCUMENT: dict[str, Any] = {
    "foo": ["bar", "baz"],
    **dict(zip(["", *["a/b", "c%d", "e^f", "g|h", "i\\j", 'k"l'], " ", "m~n"], range(9), strict=True)),
}
RESOLVED = {
    "": DOCUMENT, "/foo": ["bar", "baz"], "/foo/0": "bar", "/foo/1": "baz", "/": 0, "/a~1b": 1, "/c%d": 2, "/e^f": 3,
    "/g|h": 4, "/i\\j": 5, '/k"l': 6, "/ ": 7, "/m~0n": 8,
}  # fmt: skip
NOTHING = (
    "/foo/2", "/foo/-", "/foo/00", "/foo/01", "/foo/-1", "/foo/+1", "/foo/1.0", "/foo/1e0", "/foo/ 1", "/foo/",
    "/foo/bar", "/foo/\u0661", "/foo/99999999999999999999", "/Foo", "/foo/0/0", "/a/b", "/m~01n", "/m~00n", "/%20",
    "//", "/foo//0",
)  # fmt: skip
INVALID = ("foo", " /foo", "#/foo", "0", "~0", "/m~n", "/~", "/~2", "/foo~", "/foo/~~01", "/~~", "/none/~x", "/foo/0/~")


@pytest.fixture
def state(folder: Path) -> StateManager:
    return StateManager("json", "default")


def test_the_examples_of_the_rfc() -> None:
    for pointer, value in RESOLVED.items():
        assert resolve_pointer(DOCUMENT, pointer) == value, pointer
        assert "".join("/" + escape_token(token) for token in split_pointer(pointer)) == pointer
    for pointer in NOTHING:
        assert resolve_pointer(DOCUMENT, pointer) is ABSENT, pointer
    for token in ("~1", "~0", "~01", "/~", "~~//", ""):
        assert split_pointer(f"/{escape_token(token)}") == [token]
        assert resolve_pointer({token: {token: 5}}, f"/{escape_token(token)}" * 2) == 5


@pytest.mark.parametrize("pointer", INVALID)
def test_what_is_no_pointer_is_an_error_wherever_one_is_taken(state: StateManager, pointer: str) -> None:
    state.save("m", {"m~n": 1, "foo": [0]})
    state.checkpoint("c")
    state.save("m", {"m~n": 2, "foo": [1]})
    context = Context({"store": state.backend.url, "namespace": "default"})
    acts: list[Callable[[], Any]] = [
        lambda: resolve_pointer(DOCUMENT, pointer),
        lambda: state.blame("m", pointer),
        lambda: state.blame("none", pointer),
        lambda: state.restore_checkpoint("c", paths={"m": [pointer]}),
        lambda: keys.load(context, {"key": "m", "path": pointer}),
        lambda: keys.load(context, {"key": "none", "path": pointer, "default": "1"}),
        lambda: checkpoints.restore(context, {"ref": "c", "path": [f"m#{pointer}"]}),
    ]
    if pointer.startswith("/"):  # else it is no path of a condition
        acts += [
            lambda: parse_condition([pointer, "exists"]),
            lambda: assertions.wait(context, {"key": "none", "condition": [pointer, "missing"]}),
        ]
    if not pointer.startswith("~"):  # a sign, and the pointer after it
        for act in acts:
            with pytest.raises(InvalidName, match="is not a JSON Pointer"):
                act()
    assert candidates(["load", "m", pointer + "/"], context) == []
    context.close()
    assert state.load("m") == {"m~n": 2, "foo": [1]}


def test_a_change_is_restored_by_its_pointer_with_and_without_a_sign(state: StateManager) -> None:
    state.save("m", {"m~n": 1})
    state.checkpoint("c")
    for pointer in ("/m~0n", "~/m~0n"):
        state.save("m", {"m~n": 2})
        state.restore_checkpoint("c", paths={"m": pointer})
        assert state.load("m") == {"m~n": 1}
    with pytest.raises(KeyNotFound):
        state.restore_checkpoint("c", paths={"m": ["/none"]})
