"""The growing list of `storage.py` in other stores. A peer that is not installed returns None."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from storage_acts import folder_bytes

_SETTINGS = ("user.name=bench", "user.email=bench@localhost", "gc.auto=0", "maintenance.auto=false", "pack.threads=1")
_OPTIONS = [word for setting in _SETTINGS for word in ("-c", setting)]


def langgraph(folder: Path, whole: list[dict[str, Any]]) -> int | None:
    """One checkpoint a step, and no record of the writes that led to it, which a graph would add."""
    try:
        from langgraph.checkpoint.base import empty_checkpoint
        from langgraph.checkpoint.sqlite import SqliteSaver
    except ImportError:
        return None
    folder.mkdir()
    with SqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
        config: Any = {"configurable": {"thread_id": "main", "checkpoint_ns": ""}}
        for step in range(1, len(whole) + 1):
            versions = {"messages": step}
            made: Any = {
                **empty_checkpoint(), "channel_values": {"messages": whole[:step]}, "channel_versions": versions,
            }  # fmt: skip
            config = saver.put(config, made, {"source": "loop", "step": step, "parents": {}}, versions)
        found = saver.get(config)
        assert found is not None
        assert found["channel_values"]["messages"] == whole
    return folder_bytes(folder)


def diskcache(folder: Path, whole: list[dict[str, Any]]) -> int | None:
    """A key for each version, since it keeps no history itself."""
    try:
        from diskcache import Cache
    except ImportError:
        return None
    with Cache(str(folder), size_limit=1 << 40) as cache:
        for step in range(1, len(whole) + 1):
            cache.set(("messages", step), whole[:step])
        assert len(cache) == len(whole)
    return folder_bytes(folder)


def git(folder: Path, whole: list[dict[str, Any]]) -> tuple[int, int] | None:
    """One commit a save of a JSON file with one message a line; the bytes with loose objects, and after `git gc`."""
    if shutil.which("git") is None:
        return None
    folder.mkdir()

    def run(*words: str) -> None:
        subprocess.run(["git", *_OPTIONS, *words], cwd=folder, check=True)

    run("init", "-q")
    for step in range(1, len(whole) + 1):
        (folder / "state.json").write_text("[\n" + ",\n".join(map(json.dumps, whole[:step])) + "\n]\n")
        if step == 1:
            run("add", "state.json")
        run("commit", "-q", "-a", "-m", f"step {step}")
        if step % 10 == 0:
            run("tag", f"step-{step}")
    loose = folder_bytes(folder)
    run("gc", "-q", "--prune=now")
    return loose, folder_bytes(folder)
