"""`wait`: a condition on a value, as text or as a function. The command uses the same code."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from stateview import ABSENT, InvalidArgument, Sealed, StateManager, WaitTimeout
from stateview.sealing.keys import UserKey


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        yield manager


def test_what_is_true_already_is_returned_at_once(state: StateManager) -> None:
    assert state.wait("k", "missing", timeout=0) is ABSENT
    state.save("k", {"a b": [1, "x y"], "n": None})
    for condition in (
        "exists", " exists ", "/a b/0 == 1", "/a b/1 == x y", '/a b/1 == "x y"', "/n == null", "/n/x missing", "!= 5",
        "/a b contains x y", "/a b/0 < 2", "/a b/1 matches ^x\\s",
    ):  # fmt: skip
        assert state.wait("k", condition, timeout=0) == {"a b": [1, "x y"], "n": None}, condition
    assert state.wait("k", lambda value: value["n"] is None, timeout=0)["a b"] == [1, "x y"]


def test_it_is_woken_by_another_writer(state: StateManager) -> None:
    seen = []

    def write() -> None:
        with StateManager(state._opened["backend"], "main") as other:
            other.save("other", 1)
            other.save("k", 1)
            other.save("k", 2)

    def is_two(value: object) -> bool:
        if not seen:
            threading.Thread(target=write).start()
        seen.append(value)
        return value == 2

    begun = time.monotonic()
    assert state.wait("k", is_two, timeout=60) == 2
    assert time.monotonic() - begun < 30
    assert seen[0] is ABSENT
    assert len(seen) <= 5  # one look for each commit: it does not spin


def test_the_expiry_of_a_key_ends_a_wait(state: StateManager) -> None:
    state.save("lease", "a", ttl=0.05)
    assert state.wait("lease", "missing", timeout=60) is ABSENT
    assert state.revision == 1


def test_a_wait_that_ends_with_its_time_tells_the_last_value(state: StateManager) -> None:
    with pytest.raises(WaitTimeout, match=r"waited 0\.01 s for 'k' exists") as caught:
        state.wait("k", "exists", timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.value is ABSENT
    state.save("k", None)
    with pytest.raises(WaitTimeout) as caught:
        state.wait("k", lambda value: value is ABSENT, timeout=0)
    assert caught.value.value is None
    with pytest.raises(ZeroDivisionError):
        state.wait("k", lambda _value: 1 / 0)


def test_what_is_no_condition_is_said_before_the_store_is_read(state: StateManager) -> None:
    for condition in ("", "done", "==", "k == 1", "exists 1", "/~ exists", "== {", "matches ["):
        with pytest.raises(InvalidArgument):
            state.wait("k", condition, timeout=0)


def test_that_a_sealed_value_exists_needs_no_key(store_url: str) -> None:
    with StateManager(store_url, "sealed", encryption_key=UserKey.generate().printed(), quiet=True) as state:
        state.save("k", 1)
    with StateManager(store_url, "sealed") as reader:
        reader.wait("k", "exists", timeout=0)
        reader.wait("none", "missing", timeout=0)
        for condition in ("== 1", lambda _value: True):
            with pytest.raises(Sealed):
                reader.wait("k", condition, timeout=0)
