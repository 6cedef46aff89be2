"""Regular expressions of users: the same matches as Python's `re`, and an end in bounded time and memory."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from stateview import InvalidArgument, StateManager
from stateview.cli.commands.search import find
from stateview.cli.context import Context
from stateview.cli.json_queries import compile_query
from stateview.dashboard.display.result_redaction import redact_result
from stateview.states.conditions import parse_condition
from stateview.states.matching import regular_expressions
from stateview.states.matching.regular_expressions import RegularExpression

SLOW = r"(a|aa)+$"  # tries each of the ways to write a number as ones and twos
TEXT = "a" * 60 + "b"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_expressions, "MAX_SECONDS", 0.05)


@pytest.mark.parametrize(
    "pattern",
    ["a", "^b|c$", "a+?b", "[]x]y", "[^]a]", "(?i)B", "x{2}", "x{,2}y", "{a}", "a{e}", "{}", "{", r"\{a\}", r"\d{2}-\d",
     r"(?P<n>x)\1", r"(?<=a)b", r"(?!a)b", "a{1,2}+", r"\bx", ".", "(?s).y", r"a\Z", "(?x) a # b{99}"],
)  # fmt: skip
def test_the_matches_are_those_of_re(pattern: str) -> None:
    expression = RegularExpression(pattern)
    for text in ("", "a", "ab", "aab", "bc", "]y", "xx", "xy\n", "{a} a{e} {}", "12-3", "aX x", "\ny", ":[x"):
        match = re.search(pattern, text)
        assert expression.search(text) == (match and match.span()), text


@pytest.mark.parametrize(
    "pattern",
    ["[", "(", ")", "*", "a**", "(?z)", "[b-a]", "\\", "a{2,1}", "(?(2)a)", r"\L<x>", "(" * 500 + ")" * 500, "(" * 9999,
     "(a{999}){999}", "(a{999}b{1,9}){9999}", "(?:" * 60 + "a" + "+)" * 60, "a{99999999999999999999}",
     f"a{{{'0' * 20}999999}}"],
)  # fmt: skip
def test_what_is_no_expression_or_too_large_is_one_line(pattern: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RegularExpression(pattern)
    assert "regular expression" in caught.value.message
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_a_search_that_backtracks_ends_wherever_an_expression_is_given(soon: None, folder: Any) -> None:
    with StateManager("json", "default") as state:
        state.save("k", [TEXT])
        for args in ({"pattern": SLOW, "regex": True}, {"jsonpath": f"$[?search(@, '{SLOW}')]"}):
            context = Context({"store": state.backend.url, "namespace": "default"})
            with pytest.raises(InvalidArgument, match="stopped after"):
                list(find(context, args).rows)
            context.close()
    with pytest.raises(InvalidArgument, match="stopped after"):
        parse_condition(["/0", "matches", SLOW]).is_true([TEXT])
    with pytest.raises(InvalidArgument, match="stopped after"):
        list(compile_query("$.x[?match(@, $.y)]")({"x": [TEXT], "y": SLOW}))


def test_many_slow_searches_share_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_expressions, "MAX_TOTAL_SECONDS", 0.1)
    expression = RegularExpression(SLOW)
    start = time.thread_time()
    with pytest.raises(InvalidArgument, match=r"stopped after 0\.1 s"):
        for _ in range(1000):
            expression.search("a" * 24 + "b")
    assert time.thread_time() - start < 5


@pytest.mark.parametrize("by_find", [True, False])
def test_an_expression_has_one_bound_for_all_that_a_command_does_with_it(
    by_find: bool, folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(regular_expressions, "_translate", lambda pattern, _dot: made.append(pattern) or pattern)
    if by_find:
        with StateManager("json", "default") as state:
            state.save("k", "a long text")
        context = Context({"namespace": "default"})
        table = redact_result(find(context, {"pattern": "lo+ng", "regex": True}), {"pattern": "lo+ng"}, ("x",))
        assert [table.excerpt(row[2], 60) for row in table.rows] == ['"a long text"']
        context.close()
    else:
        condition = parse_condition(["matches", "lo+ng"])
        assert condition.is_true("a long text") and not condition.is_true("a short text")
        assert str(condition) == "matches lo+ng"
    assert made == ["lo+ng"]


def test_other_threads_run_during_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_expressions, "MAX_SECONDS", 0.3)
    caught: list[InvalidArgument] = []

    def search() -> None:
        try:
            RegularExpression(SLOW).search(TEXT)
        except InvalidArgument as error:
            caught.append(error)

    worker = threading.Thread(target=search)
    interval = sys.getswitchinterval()
    worker.start()
    turns = 0
    while worker.is_alive():
        time.sleep(interval)
        turns += 1
    assert caught and turns > 5  # a search that held the interpreter would leave one or two


@pytest.mark.stress
def test_a_process_ends(folder: Any) -> None:
    with StateManager("json", "default") as state:
        state.save("k", TEXT)
    for words in (["find", SLOW, "--regex"], ["assert", "k", "matches", SLOW], ["wait", "k", "matches", SLOW]):
        done = subprocess.run(
            [sys.executable, "-m", "stateview", *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2, done
        assert "stopped after 1.0 s" in done.stderr and done.stderr.count("\n") == 1
