"""The JSON backend alone: edits by hand in special places, and interrupted commits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stateview.backends.jsonfile.backend import JSONBackend
from stateview.backends.protocol import CheckpointWrite, CommitRequest, Write
from stateview.testing import save, state


def test_an_edit_by_hand_is_taken_in_when_history_is_due_to_be_pruned(tmp_path: Path) -> None:
    backend = JSONBackend(str(tmp_path), "main", history=4)
    while backend.head().revision < 20:
        save(backend, "k", b"%d" % backend.head().revision)
    assert backend.head().floor == 0  # the next revision makes the pruning due
    path = Path(backend.state_path)
    content = json.loads(path.read_bytes())
    content["k"]["value"] = "edited"
    path.write_text(json.dumps(content))
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert state(backend) == {"k": b'"edited"'}
    assert (backend.head().revision, backend.head().floor) == (21, 17)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, TimeoutError])  # the second as a signal handler raises it
@pytest.mark.parametrize("new", [True, False], ids=["first", "second"])
def test_an_interrupt_takes_back_no_commit_that_others_have_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    step: int,
    after: bool,
    new: bool,
    interrupt: type[BaseException],
) -> None:
    """Ctrl-C beside any fsync or rename of a commit: the commit is whole or absent, and what was read stays."""
    backend = JSONBackend(str(tmp_path), "main")
    if not new:
        save(backend, "k", b"1")
    before, seen, steps = backend.head().revision, [], [step]

    def interrupting(call: Callable[..., Any]) -> Callable[..., Any]:
        def read_and_raise() -> None:
            seen.append(JSONBackend(str(tmp_path), "main", read_only=True).head().revision)
            raise interrupt

        def interrupted(*args: Any, **options: Any) -> Any:
            steps[0] -= 1
            if steps[0] == -1 and not after:
                read_and_raise()
            result = call(*args, **options)
            if steps[0] == -1 and after:
                read_and_raise()
            return result

        return interrupted

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename"):
            patch.setattr(os, name, interrupting(getattr(os, name)))
        with pytest.raises(interrupt):
            backend.commit(CommitRequest({"k": Write(b"2")}, marks=(CheckpointWrite("c", ""),)))
    found = backend.head().revision
    assert found >= seen[0]
    assert JSONBackend(str(tmp_path), "main").head().revision == found
    assert state(backend).get("k") == (b"2" if found > before else None if new else b"1")
    assert len(backend.marks()) == len(list(tmp_path.glob("main/checkpoints/*.json"))) == found - before
    save(backend, "other", b"3")
    assert state(JSONBackend(str(tmp_path), "main")) == state(backend)
    assert list(backend.diagnose(lambda text: None)) == []
    assert capfd.readouterr().err == ""
