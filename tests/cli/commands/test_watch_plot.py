"""Watching keys and places, as lines and as a table at a terminal; a number drawn over its history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from terminal import Terminal

from stateview import StateManager
from stateview.cli.chart import chart

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def state() -> Iterator[StateManager]:
    with StateManager("sqlite:st", "w") as manager:
        manager.save("job", {"tokens": 0, "state": "new"})
        manager.save("task:1", {"state": "new"})
        manager.save("phase", "plan")
        manager.checkpoint("begun")
        for tokens in (10, 40, 25):
            manager.save("job", tokens, path="/tokens")
        manager.save("task:1", {"state": "done", "tries": 1})
        manager.delete("phase")
        yield manager


WHERE = ("-s", "sqlite:st", "-n", "w")


def test_the_places_that_change_are_lines(state: StateManager, run: Run) -> None:
    def lines(*words: str) -> list[str]:
        code, out, _ = run(*WHERE, "watch", *words, "--since", "begun", "--timeout", "0.05")
        assert code == 0
        return out.splitlines()

    assert lines("job#/tokens") == ["job\t/tokens\t25"]
    assert lines("job#/state", "/none") == []
    assert lines("task:*", "/state", "/tries") == ['task:1\t/state\t"done"', "task:1\t/tries\t1"]
    assert lines("/state") == ['task:1\t/state\t"done"']
    assert [json.loads(line)["key"] for line in lines("task:*", "phase")] == ["phase", "task:1"]
    out = lines("job#/tokens", "phase", "task:1", "/tries", "--format", "jsonl")
    assert [json.loads(line) for line in out] == [
        {"key": "job", "path": "/tokens", "value": 25},
        {"key": "phase", "path": "", "deleted": True},
        {"key": "task:1", "path": "/tries", "value": 1},
    ]
    assert lines("job#/tokens", "/state", "--count", "1") == ["job\t/tokens\t25"]
    assert run(*WHERE, "watch", "job#/~x")[0] == 2
    assert run(*WHERE, "watch", "--table", "--count", "1")[0] == 2
    assert run(*WHERE, "watch", "--table", "--timeout", "0.05") == (0, "", "")


def test_a_table_that_is_kept_up_to_date(state: StateManager) -> None:
    terminal = Terminal("watch", "--table", "task:*", "job#/tokens", "/state", *WHERE, columns=70, rows=12)
    terminal.until(lambda text: "job#/tokens" in text and 'task:1       "done"' in text and "Ctrl-C ends" in text)
    state.save("job", 26, path="/tokens")
    state.save("task:2", {"state": "\x1b[2Jx"})
    state.delete("task:1")
    text = terminal.until(lambda text: "~ job#/tokens" in text and "+ task:2" in text and "- task:1" in text)
    assert "26" in text and b"\x1b[2Jx" not in terminal.raw
    terminal.resize(30, 4)  # two rows of three, cut at the edge
    terminal.until(lambda text: "1 more row " in text)
    terminal.resize(90, 12)
    terminal.until(lambda text: "more row" not in text and " s ago" in text)
    terminal.type("x\x03")
    assert terminal.end() == 0
    assert "+ task:2" in terminal.text and "ended" in terminal.text and "\nx" not in terminal.text


def test_a_number_over_its_history(state: StateManager, run: Run) -> None:
    code, out, _ = run(*WHERE, "plot", "job#/tokens")
    assert code == 0 and [line.split("\t")[::2] for line in out.splitlines()] == [
        ["1", "0"], ["4", "10"], ["5", "40"], ["6", "25"],
    ]  # fmt: skip
    _, out, _ = run(*WHERE, "plot", "job#/tokens", "--since", "begun", "--format", "pretty")
    assert out.splitlines()[0] == "job#/tokens  3 versions, 10 → 25"
    assert out.splitlines()[1] == "40 ┤    ████" and out.splitlines()[-1].lstrip().startswith("r4 ")
    _, out, _ = run(*WHERE, "plot", "job#/tokens", "--limit", "1", "--format", "json")
    assert json.loads(out)[0]["value"] == 25
    state.save("mixed", 1)
    state.save("mixed", "two")
    assert "1 version, 1 → 1, 1 version without a number" in run(*WHERE, "plot", "mixed", "--format", "pretty")[1]
    code, _, err = run(*WHERE, "plot", "phase")
    assert code == 2 and "no version of 'phase' is a number" in err
    assert run(*WHERE, "plot", "nothing")[0] == 1


def test_the_numbers_of_a_value_that_is_no_number_are_named(state: StateManager, run: Run) -> None:
    state.save("a b", {"n": True, "deep": {"x": [{"~/": 1.5}], "y": 2, "z": 3}, "text": "1", "at": 4})
    state.save("a b", [], path="/last")
    assert run(*WHERE, "plot", "a b")[2].endswith("Give 'a b#/at' or 'a b#/deep/y' or 'a b#/deep/z'\n")
    assert run(*WHERE, "plot", "a b#/deep/x")[2].endswith("Give 'a b#/deep/x/0/~0~1'\n")
    assert "'stateview -s sqlite:st -n w load phase'" in run(*WHERE, "plot", "phase")[2]
    state.delete("a b")
    assert run(*WHERE, "plot", "a b")[2].endswith("Give 'a b#/at' or 'a b#/deep/y' or 'a b#/deep/z'\n")


@pytest.mark.parametrize(
    ("values", "first", "last"),
    [
        ([1, 2], "2 ┤    ████", "0 ┤████████"),
        ([5, 5], "5 ┤", "0 ┤████████"),
        ([1000.5, 1000.75], "1000.75 ┤    ████", " 1000.5 ┤▁▁▁▁████"),
        ([-3, 3], " 3 ┤    ████", "-3 ┤▁▁▁▁████"),
        ([0], "0 ┤", "0 ┤████"),
        (list(range(1000)), "999 ┤", "  0 ┤"),
    ],
)
def test_the_axis_of_a_chart(values: list[float], first: str, last: str) -> None:
    lines = chart(values, 40)
    assert lines[0].startswith(first) and lines[-1].startswith(last)
    assert all(len(line) <= 40 for line in lines) and len(lines) == 8
    assert len(chart(values, 40, 20)) == 20


def bars(values: list[float], columns: int) -> list[str]:
    """Return the rows of a chart, the lowest first, without the axis."""
    return [line.partition("┤")[2] for line in reversed(chart(values, columns))]


def test_a_spike_among_many_numbers_reaches_the_top() -> None:
    values = [10.0] * 300
    values[150] = 1000
    rows = bars(values, 66)
    assert len(rows[0]) == 60 and rows[0] == "▁" * 60
    assert [row.rstrip() for row in rows[1:]] == [" " * 30 + "░"] * 7


def test_numbers_that_alternate_are_shaded_from_the_least_to_the_greatest() -> None:
    rows = bars([4.0, 8.0] * 100, 42)
    assert rows == ["█" * 39] * 4 + ["░" * 39] * 4
    falling = bars([number % 2 * 20.0 - 10 for number in range(200)], 43)
    assert set(falling[0]) == {"▁"} and set("".join(falling[1:])) == {"░"}


def test_a_chart_takes_the_height_of_the_terminal(state: StateManager) -> None:
    terminal = Terminal("plot", "job#/tokens", *WHERE, columns=100, rows=50)
    text = terminal.until(lambda text: " … r6 " in text)
    assert terminal.end() == 0
    assert sum("┤" in line for line in text.splitlines()) == 23
