"""Write the stores of this folder: by a release whose lists on Redis had a member for each version.

Run it with that release installed: `python make.py FOLDER redis://HOST:PORT/DB`, with an empty database. FOLDER then
holds `2.json.xz` and `3.json.xz`, of the formats 2 and 3: the commands that write the keys, the state at each revision,
and two scripts of that release. The second store is sealed with `KEY`.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parents[1] / "whole_versions"))
from make import dump, fill

from stateview import StateManager
from stateview.backends.redis.scripts.commit import COMMIT
from stateview.backends.redis.scripts.common import framed
from stateview.backends.redis.scripts.read import CHANGED
from stateview.sealing.keys import Secret, UserKey

KEY = UserKey(Secret(bytes(range(32)))).printed()


def write(url: str, path: Path, key: str | None) -> None:
    """Write one store."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    with StateManager(url, "main", encryption_key=key, author="a@example.org") as state:
        fill(state)
        states = {
            revision: {entry.key: entry.value for entry in state.at(revision).entries()}
            for revision in range(1, state.revision + 1)
        }
        scripts = {"commit": COMMIT, "changed": framed(CHANGED)}
        content = {"commands": dump(url), "states": states, "scripts": scripts}
    path.write_bytes(lzma.compress(json.dumps(content).encode()))


if __name__ == "__main__":
    write(sys.argv[2], Path(sys.argv[1]) / "2.json.xz", None)
    write(sys.argv[2], Path(sys.argv[1]) / "3.json.xz", KEY)
