"""`join_key` and `split_key`: reversible for any strings, plain for harmless ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateview import InvalidArgument, InvalidName, StateManager, join_key, split_key

ANY = st.text(st.characters() | st.sampled_from("%:*?[#\0\udc80é\U0001f600"), max_size=20)


@given(st.lists(ANY, min_size=1, max_size=4))
def test_any_strings_come_back(parts: list[str]) -> None:
    assert split_key(join_key(*parts)) == tuple(parts)


def test_harmless_parts_are_plain_and_others_are_quoted() -> None:
    assert join_key("task", "42", "a/b c.é-_") == "task:42:a/b c.é-_"
    assert join_key("http://x/#/*", "50%") == "http%3A//x/%23/%2A:50%25"
    assert [join_key(""), join_key("", ""), join_key("t", "")] == ["%", ":", "t:"]
    for wrong in ("a%", "a%zz", "%4", "a%FF", "%%", ""):
        with pytest.raises(InvalidName):
            split_key(wrong)
    with pytest.raises(InvalidName):
        join_key()
    with pytest.raises(InvalidName):
        join_key("x" * 1025)
    with pytest.raises(InvalidArgument):
        join_key("task", 3)  # type: ignore[arg-type]


def test_such_keys_are_stored_and_chosen(store_url: str) -> None:
    with StateManager(store_url, "main") as state:
        parts = [("task", "4", "*"), ("task", "42", "\0"), ("task", "4", "\udc80")]
        for part in parts:
            state.save(join_key(*part), 1)
        assert sorted(map(split_key, state.list_keys())) == sorted(parts)
        assert len(state.delete_prefix(join_key("task", "4", ""))) == 2
