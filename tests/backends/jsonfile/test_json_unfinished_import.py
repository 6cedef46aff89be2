"""An import that the disk interrupts once it is committed is completed by the next commit."""

import errno

import pytest

from stateview import BackendError, StateManager
from stateview.backends.jsonfile import transfer


@pytest.mark.parametrize("broken", ["rename", "fsync_folder", "remove"])
def test_the_next_save_completes_it(tmp_path, monkeypatch, broken):
    with StateManager(f"json:{tmp_path}/source", "n") as source:
        source.save("k", 1)
        source.checkpoint("c")
        source.save("k", 2)
        source.export(tmp_path / "file.jsonl")
    state = StateManager(f"json:{tmp_path}/s", "n")
    real = transfer.finish_swap

    def interrupted(folder):
        with monkeypatch.context() as patch:
            where = transfer.os if broken == "rename" else transfer
            patch.setattr(where, broken, lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
            real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "finish_swap", interrupted)
        with pytest.raises(BackendError, match="its next commit moves them"):
            state.import_from(tmp_path / "file.jsonl")
    assert state.load("k") == 2
    state.save("next", 3)
    assert (state.load("k"), state.load("k", at="c"), state.load("next")) == (2, 1, 3)
    assert not [finding for finding in state.doctor().findings if finding.severity == "error"]
    state.close()
