"""The commits that adopt the states of an older layout."""

from __future__ import annotations

from stateview.backends.legacy.adoption import LegacyState, adoption_requests
from stateview.backends.protocol import CheckpointWrite, Version, Write


def entry(key: str, value: bytes, time: int = 0, expires: int = 0) -> dict[str, Version]:
    return {key: Version(key, value, 0, time, expires)}


def test_each_commit_holds_the_changes_and_names_the_state_before() -> None:
    early = entry("same", b"1") | entry("changed", b"1") | entry("gone", b"1")
    live = entry("same", b"1") | entry("changed", b"2") | entry("new", b"1")
    first, second = adoption_requests([LegacyState("early", 50, [early]), LegacyState("", 90, [live])])
    assert (first.writes, first.marks, first.time) == ({key: Write(b"1") for key in early}, (), 50)
    assert second.writes == {"changed": Write(b"2"), "new": Write(b"1"), "gone": Write(None)}
    assert second.marks == (CheckpointWrite("early", "adopted", None, 50),)


def test_an_entry_that_was_saved_again_is_another_version_if_the_layout_has_times() -> None:
    def second(time: int) -> list[dict[str, Write]]:
        states = [LegacyState("early", 50, [entry("k", b"1", 40)]), LegacyState("", 90, [entry("k", b"1", time)])]
        return [request.writes for request in adoption_requests(states)][1:]

    assert second(40) == second(0) == [{}]  # the checkpoint alone
    assert second(80) == [{"k": Write(b"1", 0, 80)}]


def test_pages_become_commits_and_the_last_deletes() -> None:
    pages = [entry("a", b"1"), entry("b", b"1")]
    first, second = adoption_requests([LegacyState("", 0, pages)], [Version("old", b"1", 3, 0)])
    assert first.writes == {"a": Write(b"1")}
    assert second.writes == {"b": Write(b"1"), "old": Write(None)}


def test_an_expiry_counts_from_the_time_of_the_state() -> None:
    (request,) = adoption_requests([LegacyState("", 90, [entry("later", b"1", 40, 100) | entry("past", b"1", 40, 60)])])
    assert {key: write.ttl for key, write in request.writes.items()} == {"later": 10, "past": 1}


def test_no_state_and_nothing_new_make_no_commit() -> None:
    assert adoption_requests([]) == []
    assert adoption_requests([LegacyState("", 9, [entry("a", b"1")])], entry("a", b"1").values()) == []
