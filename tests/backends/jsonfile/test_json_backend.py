"""The JSON backend alone: edits by hand in special places."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stateview.backends.jsonfile.backend import JSONBackend
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
