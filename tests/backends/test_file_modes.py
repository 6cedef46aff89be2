"""Files and folders get the mode that the umask says, so that a group can share a store, or nobody else can read it."""

import os
import stat

import pytest
import stress

from stateview import StateManager


@pytest.mark.parametrize("kind", ["json", "sqlite"])
@pytest.mark.parametrize("mask", stress.first([0o002, 0o077]))
def test_what_the_umask_says(tmp_path, kind, mask):
    def wrong():
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
        assert any(path.is_file() for path in modes)
        return {
            str(path): f"{mode:o}"
            for path, mode in modes.items()
            if mode != (0o777 if path.is_dir() else 0o666) & ~mask
        }

    before = os.umask(mask)
    try:
        state = StateManager(f"{kind}:{tmp_path}/s", "n")
        state.save("k", 1)
        state.checkpoint("c")
        assert not wrong()
        state.export(tmp_path / "file.jsonl")
        StateManager(f"{kind}:{tmp_path}/s", "imported").import_from(tmp_path / "file.jsonl")
        state.migrate_to(f"{kind}:{tmp_path}/migrated")
        state.compact()
        assert not wrong()
        state.close()
        path = tmp_path / "s/n" / ("state.db" if kind == "sqlite" else "state.json")
        path.write_bytes(path.read_bytes()[: -700 if kind == "sqlite" else -3])
        state.recover()
        assert not wrong()
        state.close()
    finally:
        os.umask(before)
