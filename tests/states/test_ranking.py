"""How a typed word matches names, and in which order the matches come."""

from __future__ import annotations

import pytest

from stateview.states.matching.ranking import (
    EXACT,
    INSIDE,
    LETTERS,
    PREFIX,
    WORD_START,
    is_subsequence,
    match_positions,
    ranked,
    ranker,
    score,
)


@pytest.mark.parametrize(
    ("word", "name", "kind"),
    [
        ("job", "job", EXACT),
        ("job", "JOB", EXACT),
        ("job", "jobs", PREFIX),
        ("lim", "config/limits", WORD_START),
        ("lim", "sublim/limits", WORD_START),
        ("imi", "config/limits", INSIDE),
        ("cl", "config/limits", LETTERS),
        ("lc", "config/limits", None),
        ("", "config/limits", PREFIX),
        ("i", "İx", PREFIX),
    ],
)
def test_a_match_is_of_the_best_kind_that_fits(word: str, name: str, kind: int | None) -> None:
    rank = ranker(word)(name)
    assert (None if rank is None else rank.kind) == kind


def test_the_best_matches_come_first_and_equals_keep_their_order() -> None:
    names = ["s.t.e.p", "misstep", "the:step", "steps", "a step", "Step", "step"]
    assert ranked("step", names, lambda name: [name]) == [
        "step", "Step", "steps", "the:step", "a step", "misstep", "s.t.e.p",
    ]  # fmt: skip
    assert ranked("", names, lambda name: [name]) == names


def test_the_best_of_several_names_counts_and_the_first_among_equals() -> None:
    commits = [("12", "fix the limits", "dev"), ("13", "dev tools", "ana"), ("14", "", "dev")]
    assert [commit[0] for commit in ranked("dev", commits, lambda commit: commit)] == ["12", "14", "13"]


def test_letters_in_their_order_are_found_and_words_rank_first() -> None:
    assert is_subsequence("abc", "xAxxBxxC")
    assert not is_subsequence("abc", "acb")
    assert match_positions("step", "s:t:step") == [4, 5, 6, 7]
    assert match_positions("rs", "run:step") == [0, 4]
    assert match_positions("İ".lower()[0], "xİ") == [1], "a letter whose lower case is two is still one place"
    best = sorted(["tests/e_p", "the:step", "stxexxp", "step"], key=lambda text: -score("step", text))
    assert best == ["step", "the:step", "tests/e_p", "stxexxp"]
