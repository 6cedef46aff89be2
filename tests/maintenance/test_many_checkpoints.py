"""What goes over all checkpoints takes a time that grows with their number, not with its square."""

import sys

import pytest
import stress

from stateview import StateManager
from stateview.maintenance.doctor import diagnose

ACTS = {
    "doctor": lambda state, _: state.doctor(),
    "recover": lambda state, _: state.recover(),
    "migrate": lambda state, folder: state.migrate_to(f"sqlite:{folder}/copy"),
    "stats": lambda state, _: state.stats(),
    "prune": lambda state, _: state.prune("*", keep=2, dry_run=True),
    "prune of names": lambda state, _: state.prune(state.list_checkpoints(), keep=2, dry_run=True),
    "export": lambda state, folder: state.export(f"{folder}/file.jsonl"),
}


def calls(kind, folder, number):
    """The number of calls, of functions of Python and of C, that each act makes for so many checkpoints."""
    state = StateManager(f"{kind}:{folder}", "n")
    for revision in range(number):
        state.save(f"k{revision % 3}", revision)
        state.checkpoint(f"c{revision}")
    counts = dict.fromkeys(ACTS, 0)
    for name, act in ACTS.items():

        def count(_frame, event, _argument, name=name):
            counts[name] += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            act(state, folder)
        finally:
            sys.setprofile(None)
    state.close()
    return counts


@pytest.mark.parametrize("kind", stress.first(["sqlite", "json"]))
def test_the_work_grows_with_the_number_of_checkpoints(tmp_path, kind):
    calls(kind, tmp_path / "first", 2)  # imports
    few, many = calls(kind, tmp_path / "few", 20), calls(kind, tmp_path / "many", 80)
    for name, count in many.items():
        assert count < 6 * few[name], name


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_change_that_the_index_does_not_list_is_found(tmp_path, kind, monkeypatch):
    state = StateManager(f"{kind}:{tmp_path}", "n")
    for revision in range(3):
        state.save("k", revision)
        state.save("expires", revision, ttl=1000)
        state.checkpoint(f"c{revision}")
    changed_keys = state.backend.changed_keys
    monkeypatch.setattr(
        state.backend, "changed_keys", lambda low, high: [key for key in changed_keys(low, high) if key != "k"]
    )
    found = [finding for finding in diagnose(state.backend) if finding.code == "change-unlisted"]
    assert [finding.subject for finding in found] == ["checkpoint 'c0'", "checkpoint 'c1'"]
    state.close()


def test_an_expired_entry_differs_between_two_checkpoints(tmp_path):
    now = 1_000_000
    state = StateManager(f"sqlite:{tmp_path}", "n")
    state.backend.now = lambda: now
    state.save("k", 1, ttl=10)
    for number in range(4):
        state.checkpoint(f"c{number}")
        now += 6_000_000
    assert not [finding for finding in state.doctor().findings if finding.code == "change-unlisted"]
    changed_keys = state.backend.changed_keys
    state.backend.changed_keys = lambda low, high: [] if low.revision == high.revision else changed_keys(low, high)
    found = [finding for finding in diagnose(state.backend) if finding.code == "change-unlisted"]
    assert [finding.subject for finding in found] == ["checkpoint 'c1'"]
