"""Searching many names by a word: what matches, and in which order."""

from __future__ import annotations

import pytest

from stateview.states.matching.name_search import NameSearch

NAMES = ["config/limits", "job", "limit", "Limits", "slimmer", "tasks:1", "a.b[c]", "İx"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("lim", ["limit", "Limits", "config/limits", "slimmer"]),
        ("limits", ["Limits", "config/limits"]),
        ("limit", ["limit", "Limits", "config/limits"]),
        ("Lim", ["Limits", "limit", "config/limits", "slimmer"]),
        ("l", ["limit", "Limits"]),
        ("z", []),
        ("ts1", ["tasks:1"]),
        ("cnfg", ["config/limits"]),
        ("limtis", ["Limits", "config/limits"]),
        ("confih", ["config/limits"]),
        ("taskss", ["tasks:1"]),
        ("jbo", []),
        ("[c]", ["a.b[c]"]),
        ("b[c", ["a.b[c]"]),
        ("x", []),
        ("i", ["İx"]),
        ("ix", ["İx"]),
        ("", NAMES),
    ],
)
def test_the_best_come_first_and_a_slip_is_the_last_resort(word: str, found: list[str]) -> None:
    search = NameSearch(NAMES)
    assert [NAMES[number] for number in search(word)] == found


def test_a_word_behind_the_start_alone() -> None:
    search = NameSearch(NAMES)
    assert [NAMES[number] for number in search.inside("lim")] == ["config/limits", "slimmer"]
    assert search.inside("l") == []
    assert NameSearch([])("lim") == []
    assert NameSearch(["x" * 5000])("y" * 5000) == []
