"""States by time: `@2h`, `@yesterday`, `@2026-11-28T10:00` wherever a ref stands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stress import examples

from stateview import HistoryPruned, InvalidName, RefNotFound, StateManager
from stateview.backends.protocol import CommitRequest, Write
from stateview.cli.commands.checkpoints import restore
from stateview.cli.context import Context
from stateview.model import Commit, format_time, now, to_micros
from stateview.refs import parse_moment, parse_ref
from stateview.states.moments import pinned

pytestmark = pytest.mark.usefixtures("folder")

HOUR = 3_600_000_000


def ref_of(moment: int) -> str:
    return f"@{format_time(moment)}"


def commit(state: StateManager, moment: int, **values: Any) -> None:
    """Commit at a time; None deletes."""
    writes = {
        key: Write(None if value is None else json.dumps(value).encode(), time=0) for key, value in values.items()
    }
    state.backend.commit(CommitRequest(writes, time=moment, reason=f"save {' '.join(values)}"))


def content(state: StateManager, ref: str | int) -> dict[str, Any]:
    return state.load_many(at=ref)


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    """Five commits, 50, 40, … 10 hours ago, which save k=1, … k=5. Each reads as of its hour."""
    start = now()
    with StateManager(store_url, "w", author="ann") as state:
        for number in range(1, 6):
            commit(state, start - (60 - 10 * number) * HOUR, k=number, **{f"only{number}": number})
        yield state


# --- the grammar ------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
def test_the_grammar_of_times() -> None:
    clock = to_micros(datetime(2026, 11, 29, 23, 30, tzinfo=UTC))  # 00:30 of the 30th in Berlin
    for text, wanted in {
        "2h": datetime(2026, 11, 29, 21, 30, tzinfo=UTC), "90s": datetime(2026, 11, 29, 23, 28, 30, tzinfo=UTC),
        "30m": datetime(2026, 11, 29, 23, tzinfo=UTC), "30min": datetime(2026, 11, 29, 23, tzinfo=UTC),
        "1.5d": datetime(2026, 11, 28, 11, 30, tzinfo=UTC), "1w": datetime(2026, 11, 22, 23, 30, tzinfo=UTC),
        "today": datetime(2026, 11, 29, 23, tzinfo=UTC), "yesterday": datetime(2026, 11, 28, 23, tzinfo=UTC),
        "2026-11-28": datetime(2026, 11, 27, 23, tzinfo=UTC), "2026-07-01": datetime(2026, 6, 30, 22, tzinfo=UTC),
        "2026-11-28T10:00": datetime(2026, 11, 28, 9, tzinfo=UTC),
        "2026-11-28T10:00:05": datetime(2026, 11, 28, 9, 0, 5, tzinfo=UTC),
        "2026-11-28T10:00:05.123456": datetime(2026, 11, 28, 9, 0, 5, 123456, tzinfo=UTC),
        "2026-11-28T10:00Z": datetime(2026, 11, 28, 10, tzinfo=UTC),
        "2026-11-28T10:00-05:00": datetime(2026, 11, 28, 15, tzinfo=UTC),
    }.items():  # fmt: skip
        assert parse_moment(text, clock) == to_micros(wanted), text
        assert parse_ref(f"@{text}").time == text and parse_ref(f"@{text}~3").back == 3


@pytest.mark.parametrize("ref", ["@", "@x", "@2x", "@h", "@-2h", "@2026-13-01", "@2h~", "@2h~x", "@ 2h", "@2h@3",
                                 "@12", "@0001-01-01", "@tomorrow", "cp@2h", "live@2h"])  # fmt: skip
def test_what_is_no_time_is_refused_with_examples(ref: str) -> None:
    try:
        parse_ref(ref)
    except InvalidName as error:
        assert ("2026-11-28T10:00" in str(error)) or ref in ("@12", "live@2h")
    else:
        assert ref == "@0001-01-01", "it is one where the zone is UTC"


def test_a_revision_is_no_time() -> None:
    with pytest.raises(InvalidName, match=r"A revision is written without '@': 12"):
        parse_ref("@12")


# --- the states -------------------------------------------------------------------------------------------------------


def test_the_state_of_a_time_is_that_of_the_newest_commit_until_then(state: StateManager) -> None:
    times = [to_micros(commit.time) for commit in reversed(state.log())]
    for number, moment in enumerate(times, 1):
        for ref, revision in ((ref_of(moment - 1), number - 1), (ref_of(moment), number), (ref_of(moment + 1), number)):
            view = state.at(ref)
            assert (view.revision, view.load("k", 0)) == (revision, revision), ref
            assert state.load("k", 0, at=ref) == revision
    assert [state.at(ref).revision for ref in ("@51h", "@45h", "@0s", "@15h~1", "@15h~4")] == [0, 1, 5, 3, 0]
    assert content(state, "@51h") == {} == content(state, "@1970-01-02") == content(state, "@99999w")
    with pytest.raises(RefNotFound, match="@15h~5"):
        state.at("@15h~5")


def test_a_time_without_an_offset_is_local(state: StateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = state.log()[2].time + timedelta(minutes=1)
    for zone, hours in (("UTC", 0), ("XYZ-9", 9)):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        local = (moment + timedelta(hours=hours)).strftime("@%Y-%m-%dT%H:%M:%S")
        assert state.at(local).revision == 3
    monkeypatch.undo()
    time.tzset()


def test_a_checkpoints_name_and_a_time_never_mean_each_other(state: StateManager) -> None:
    state.checkpoint("2h", at=2)
    state.checkpoint("yesterday", at=2)
    assert [state.at(ref).revision for ref in ("2h", "2h@2", "yesterday", "@2h", "yesterday~1")] == [2, 2, 2, 5, 1]


def test_a_time_in_the_future_is_refused(state: StateManager) -> None:
    for ref in ("@2999-01-01", ref_of(now() + HOUR)):
        with pytest.raises(RefNotFound, match=r"in the future: the clock .* shows 20"):
            state.at(ref)
    commit(state, now() + HOUR, k=6)  # by a clock that was ahead
    assert state.at(ref_of(now() + HOUR // 2)).revision == 5
    with pytest.raises(RefNotFound, match="in the future"):
        state.at(ref_of(now() + 2 * HOUR))


def test_expiry_is_judged_at_the_time(store_url: str) -> None:
    with StateManager(store_url, "w") as state:
        start = now() - 2 * HOUR
        state.backend.commit(CommitRequest({"lease": Write(b"1", ttl=HOUR)}, time=start))
        for _ in range(2):
            assert content(state, ref_of(start + HOUR - 1)) == {"lease": 1}
            assert content(state, ref_of(start + HOUR)) == {}
            state.save("other", 1)  # deletes the expired entry


def test_a_namespace_that_was_never_written_has_no_past(store_url: str) -> None:
    with StateManager(store_url, "never") as state:
        assert (state.at("@2h").revision, state.list_keys(at="@2h")) == (0, [])


def test_pruned_states_are_refused_and_kept_ones_are_not(state: StateManager) -> None:
    state.checkpoint("kept", at=2)
    state.compact(3)
    times = [to_micros(commit.time) for commit in reversed(state.log())]
    assert state.log()[-1].revision == 4
    assert content(state, ref_of(times[0]))["k"] == 4 and content(state, "kept")["k"] == 2
    for ref in ("@2020-01-01", "@35h", ref_of(times[0] - 1)):
        with pytest.raises(HistoryPruned, match=f"All states from @{format_time(times[0])[:19]}"):
            state.at(ref)
    state.compact(state.revision)
    assert content(state, "@0s")["k"] == 5
    with pytest.raises(HistoryPruned):
        state.at("@35h")


def test_the_search_reads_few_commits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager("sqlite:s", "w") as state:
        start = now() - 1000 * HOUR
        for number in range(1, 301):
            commit(state, start + number * HOUR, k=number)
        reads = []
        original = state.backend.commits

        def commits(limit: int = 100, below: int = 0) -> list[Commit]:
            reads.append(limit)
            return original(limit, below)

        monkeypatch.setattr(state.backend, "commits", commits)
        assert state.at(ref_of(start + 123 * HOUR)).revision == 123
        assert len(reads) <= 10 and set(reads) == {1}
        reads.clear()
        moment = format_time(start + 123 * HOUR)
        assert [commit.revision for commit in state.log(3, until=moment, grep="save")] == [123, 122, 121]
        assert len(reads) <= 11, "what is later than the end of a page is not read"


def test_a_writer_that_prunes_during_the_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a pruned commit is not known, so a search that met one is no answer."""
    with StateManager("sqlite:s", "w") as state:
        start = now() - 100 * HOUR
        for number in range(1, 41):
            commit(state, start + number * HOUR, k=number)
        original = state.backend.commits

        def commits(limit: int = 100, below: int = 0) -> list[Commit]:
            monkeypatch.setattr(state.backend, "commits", original)
            state.compact(30)
            return original(limit, below)

        monkeypatch.setattr(state.backend, "commits", commits)
        with pytest.raises(HistoryPruned):
            state.at(ref_of(start + 5 * HOUR))
        assert state.at(ref_of(start + 31 * HOUR)).revision == 31


# --- everywhere -------------------------------------------------------------------------------------------------------


def test_every_command_that_takes_a_ref_takes_a_time(
    state: StateManager, store_url: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    def done(*words: str) -> str:
        code, out, err = run("-s", store_url, "-n", "w", *words)
        assert code == 0, (words, err)
        return out

    assert done("load", "k", "--at", "@35h") == "2\n"
    assert done("keys", "--at", "@35h").split() == ["k", "only1", "only2"]
    assert json.loads(done("entry", "k", "--at", "@35h", "--format", "json"))["revision"] == 2
    assert "only3" not in done("find", "only*", "--at", "@35h") and "only2" in done("find", "only*", "--at", "@35h")
    assert json.loads(done("blame", "k", "--at", "@35h", "--format", "json"))["revision"] == 2
    lines = done("diff", "@35h", "@25h", "--summary").split()
    assert {"only3", "k"} <= set(lines) and "only4" not in lines
    assert (
        json.loads(done("bisect", "k", ">", "2", "--since", "@45h", "--until", "@15h", "--format", "json"))["revision"]
        == 3
    )
    assert done("assert", "3", "==", "@25h") == done("shell", "-c", "assert @25h != @35h") == ""
    done("export", "out.json", "--at", "@35h")
    assert json.loads(Path("out.json").read_text()) == {"k": 2, "only1": 1, "only2": 2}
    done("checkpoint", "then", "--at", "@35h")
    assert content(state, "then")["k"] == 2
    done("fork", "f", "--at", "@35h")
    with StateManager(store_url, "f") as fork:
        assert content(fork, "live") == {"k": 2, "only1": 1, "only2": 2}
    assert "only3" in done("restore", "@35h", "--dry-run", "--keys", "only*")
    done("restore", "@35h")
    assert content(state, "live") == {"k": 2, "only1": 1, "only2": 2}
    reason = state.log(1)[0].reason
    assert reason.startswith("restore @20") and state.at(reason.removeprefix("restore ")).revision == 2
    done("undo")
    assert content(state, "live")["k"] == 5


def test_the_exit_codes(state: StateManager, store_url: str, run: Callable[..., tuple[int, str, str]]) -> None:
    for ref, wanted in (("@x", 2), ("@2999-01-01", 1), ("@15h~9", 1)):
        code, out, err = run("-s", store_url, "-n", "w", "load", "k", "--at", ref)
        assert (code, out) == (wanted, "") and ref in err, err


def test_a_pinned_ref_means_the_same_later(state: StateManager) -> None:
    backend = state.backend
    assert [pinned(backend, ref) for ref in ("live", 3, "a@3~1")] == ["live", 3, "a@3~1"]
    ref = pinned(backend, "@15h~1")
    assert isinstance(ref, str) and ref.endswith("~1") and pinned(backend, ref) == ref
    assert state.at(ref).revision == 3 and pinned(backend, "@99999w") == "@1970-01-01T00:00:00+00:00"


def test_the_time_of_a_restore_is_that_of_its_preview(state: StateManager, store_url: str) -> None:
    """However long the person thinks, `@15h` is the state that was shown."""
    asked = []

    def ask(_question: str) -> bool:
        asked.append(context.manager.backend.now())
        return True

    context = Context({"store": store_url, "namespace": "w"}, ask=ask, show=lambda _result: None)
    restore(context, {"ref": "@15h"})
    context.close()
    moment = parse_moment(state.log(1)[0].reason.removeprefix("restore @"), now())
    assert state.load("k") == 4 and moment + 15 * HOUR <= asked[0]


# --- against a recorded list ------------------------------------------------------------------------------------------


GAPS = st.integers(1, 3) | st.integers(1, 2 * HOUR)
VALUES = st.none() | st.integers(0, 9)
COMMITS = st.lists(
    st.tuples(GAPS, st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1)), min_size=1, max_size=12
)


@settings(max_examples=examples(32))
@given(commits=COMMITS, floor=st.integers(0, 6), data=st.data())
def test_each_time_reads_what_was_recorded(
    new_store: Callable[[str], str], kind: str, commits: list[Any], floor: int, data: st.DataObject
) -> None:
    check_times(new_store(kind), commits, floor, data)


@pytest.mark.stress
@settings(max_examples=examples(100))
@given(commits=COMMITS, floor=st.integers(0, 6), data=st.data())
def test_many_times_read_what_was_recorded(
    new_store: Callable[[str], str], kind: str, commits: list[Any], floor: int, data: st.DataObject
) -> None:
    check_times(new_store(kind), commits, floor, data)


def check_times(url: str, commits: list[Any], floor: int, data: st.DataObject) -> None:
    moment, model = now() - 48 * HOUR, dict[str, Any]()
    recorded: list[tuple[int, dict[str, Any]]] = [(0, {})]
    with StateManager(url, "w") as state:
        for gap, values in commits:
            moment += gap
            commit(state, moment, **values)
            model = {key: value for key, value in {**model, **values}.items() if value is not None}
            recorded.append((moment, model))
        floor = min(floor, len(commits))
        if floor:
            state.compact(floor)
        times = [moment + step for moment, _ in recorded[1:] for step in (-1, 0, 1)]
        first = recorded[1][0]  # what is drawn must not depend on the clock
        times += [first + step for step in data.draw(st.lists(st.integers(-10, moment - first + 10), max_size=3))]
        for when in times:
            revision = max(number for number, (moment, _) in enumerate(recorded) if moment <= when)
            if revision <= floor and floor and (revision < floor or floor < len(commits)):
                with pytest.raises(HistoryPruned):
                    state.at(ref_of(when))
            else:
                assert (state.at(ref_of(when)).revision, content(state, ref_of(when))) == (
                    revision,
                    recorded[revision][1],
                )
