"""Write the stores of this folder: by a release that kept every superseded version whole.

Run it with that release installed: `python make.py FOLDER`. FOLDER then holds `json.tar.xz` and `sqlite.tar.xz`. Each
has the store (`store/`), its export (`export.jsonl`), and the plain export at each revision (`at/REVISION.json`).
"""

from __future__ import annotations

import random
import sys
import tarfile
import time
from pathlib import Path

from stateview import StateManager

WORDS = ("plan", "build", "test", "fix", "review", "merge", "deploy", "wait", "retry", "read", "write", "tool", "call",
         "error", "file", "line", "token")  # fmt: skip
FAR = 100 * 365 * 86400  # seconds


def fill(state: StateManager) -> None:
    """Write a past of every kind."""
    chance = random.Random(5)
    messages = [{"id": number, "text": " ".join(chance.choices(WORDS, k=20))} for number in range(45)]
    state.save("messages", messages)  # 6 KB
    state.save("small", {"n": 1})
    state.checkpoint("start", note="before “anything”\nhappened")
    for step in range(40):
        messages[step]["text"] = " ".join(chance.choices(WORDS, k=20))
        state.save("messages", messages, reason=f"step {step}" if step % 2 else None)
        if step == 20:
            state.delete("messages")
        if step % 16 == 0:
            state.checkpoint("moving", note=f"step {step}")
    state.save("lease", {"owner": "ä"}, ttl=FAR)
    state.save("brief", "x" * 600, ttl=0.05)
    time.sleep(0.1)
    with state.transaction(reason="several") as several:
        several.save("notes/ü", "y" * 700)
        several.save("small", 10**30)
        several.delete("brief")
    state.delete("notes/ü")
    state.checkpoint("end")
    state.undo()


def write(kind: str, folder: Path) -> None:
    """Write one store and what is read from it into an archive."""
    place = folder / kind
    with StateManager(f"{kind}:{place / 'store'}", "main", author="a@example.org") as state:
        fill(state)
        state.export(place / "export.jsonl")
        (place / "at").mkdir()
        for revision in range(1, state.revision + 1):
            state.export(place / "at" / f"{revision}.json", at=revision)
    with tarfile.open(folder / f"{kind}.tar.xz", "w:xz") as archive:
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.name != "lock":
                archive.add(path, path.relative_to(place))


if __name__ == "__main__":
    for kind in ("json", "sqlite"):
        write(kind, Path(sys.argv[1]))
