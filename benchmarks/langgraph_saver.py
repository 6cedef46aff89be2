"""What `StateviewSaver` costs beside LangGraph's own `SqliteSaver`, at the same durability, on one growing thread.

Each turn is one message more, one commit of the checkpoint, and one of the writes that led to it. Both sides sync each
commit to the disk.

On Redis the other side is `ValkeySaver` of `langgraph-checkpoint-aws`, which needs no modules of the server. A second
table has no limits: its other side is `PlainRedisSaver` of this folder, the least that a saver can do.
(The file cannot be called `langgraph.py`: Python would import it in place of LangGraph.)
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import redis
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph_checkpoint_aws.checkpoint.valkey import ValkeySaver
from plain_redis_saver import PlainRedisSaver
from storage_acts import folder_bytes
from timing import Row, in_turns, redis_server, show, slower
from valkey import Valkey

from stateview.langgraph import StateviewSaver

WORDS = [f"word{number}" for number in range(2000)]
STORAGE_LIMIT = 0.1
LIMIT = 1.5


def message(number: int) -> Any:
    text = " ".join(random.Random(number).choices(WORDS, k=60))
    return (AIMessage if number % 2 else HumanMessage)(text, id=f"m{number}")


class Side:
    """A saver with one thread."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        self.saver = saver
        self.messages: list[Any] = []
        self.configs: list[Any] = [{"configurable": {"thread_id": "main", "checkpoint_ns": ""}}]

    @property
    def last(self) -> Any:
        return self.configs[-1]

    def put(self) -> None:
        step = len(self.configs)
        self.messages.append(message(step))
        versions = {"messages": step, "topic": 1}
        made: Any = {
            "v": 4, "id": str(uuid6(clock_seq=step)), "ts": "2026-01-01T00:00:00+00:00", "updated_channels": None,
            "channel_values": {"messages": list(self.messages), "topic": "words"}, "channel_versions": versions,
            "versions_seen": {"agent": {"messages": step - 1}},
        }  # fmt: skip
        changed: Any = {"messages": step} if step > 1 else versions
        self.configs.append(self.saver.put(self.last, made, {"source": "loop", "step": step, "parents": {}}, changed))

    def put_writes(self) -> None:
        writes = [("messages", [message(len(self.configs))])]
        self.saver.put_writes(self.last, writes, f"task-{random.random()}", "~__pregel_pull, agent")

    def turn(self) -> None:
        self.put()
        self.put_writes()

    def get_live(self) -> None:
        found = self.saver.get_tuple(self.configs[0])
        assert found is not None
        assert len(found.checkpoint["channel_values"]["messages"]) == len(self.messages)

    def get_past(self) -> None:
        number = len(self.configs) // 2
        found = self.saver.get_tuple(self.configs[number])
        assert found is not None
        assert len(found.checkpoint["channel_values"]["messages"]) == number

    def list(self) -> None:
        assert len([*self.saver.list(self.configs[0], limit=10)]) == min(10, len(self.configs) - 1)

    def list_filtered(self) -> None:
        assert len([*self.saver.list(self.configs[0], filter={"step": 3})]) == 1


def sqlite_saver(path: Path) -> SqliteSaver:
    path.mkdir(parents=True)
    connection = sqlite3.connect(path / "checkpoints.db", check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    return SqliteSaver(connection)


def rows(
    ours: Side, theirs: Side, turns: int, rounds: int, storage: Callable[[], tuple[int, int]] | None = None,
    limit: float | None = LIMIT,
) -> Iterator[Row]:  # fmt: skip
    for side in (ours, theirs):
        for _ in range(turns - len(side.messages)):
            side.turn()
    if storage is not None:
        ours.saver.close()  # type: ignore[attr-defined]
        our_bytes, their_bytes = storage()
        ratio = our_bytes / their_bytes
        shown = f"{our_bytes / 1e6:.2f} MB", f"{their_bytes / 1e6:.2f} MB"
        ok = "yes" if ratio <= STORAGE_LIMIT or turns < 500 else "NO"
        yield Row(f"storage, {turns} turns", *shown, f"{ratio:.3f}×", f"≤ {STORAGE_LIMIT}× at 500", ok)
    for name in ("put", "put_writes", "get_live", "get_past", "list", "list_filtered"):
        times = in_turns(getattr(ours, name), getattr(theirs, name), rounds, calls=2)
        yield slower(f"{name}, {turns} turns", *times, limit=limit)


def sizes(ours: Path, theirs: Path) -> tuple[int, int]:
    """The bytes of the files of both sides, with their write-ahead logs taken in."""
    with sqlite3.connect(theirs / "checkpoints.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder_bytes(ours), folder_bytes(theirs)


def redis_memory(port: int, ours: BaseCheckpointSaver[Any], theirs: BaseCheckpointSaver[Any]) -> Row:
    """What the two databases of a server take: each is emptied in turn."""
    with redis.Redis(port=port) as client:
        steps = [int(client.info("memory")["used_memory"])]
        for saver in (ours, theirs):
            saver.delete_thread("main")
            client.execute_command("MEMORY", "PURGE")
            steps.append(int(client.info("memory")["used_memory"]))
    our_bytes, their_bytes = steps[0] - steps[1], steps[1] - steps[2]
    ratio = our_bytes / their_bytes
    shown = f"{our_bytes / 1e6:.2f} MB", f"{their_bytes / 1e6:.2f} MB"
    return Row(
        "memory of the thread",
        *shown,
        f"{ratio:.3f}×",
        f"≤ {STORAGE_LIMIT}× at 500",
        "yes" if ratio <= STORAGE_LIMIT else "NO",
    )


def delete_row(ours: BaseCheckpointSaver[Any], theirs: BaseCheckpointSaver[Any], rounds: int) -> Row:
    numbers = (count(), count())
    savers = (ours, theirs)
    made: list[str] = ["", ""]

    def before(side: int) -> None:
        made[side] = f"short-{next(numbers[side])}"
        one = Side(savers[side])
        one.configs[0]["configurable"]["thread_id"] = made[side]
        for _ in range(5):
            one.turn()

    times = in_turns(lambda: ours.delete_thread(made[0]), lambda: theirs.delete_thread(made[1]), rounds, before=before)
    return slower("delete_thread, 5 turns", *times, limit=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 turns, fewer rounds")
    quick = parser.parse_args().quick
    turns, rounds = (100, 5) if quick else (500, 15)
    folder = Path(tempfile.mkdtemp())
    try:
        for mode in ("namespaces", "keys"):
            ours, theirs = folder / f"ours-{mode}", folder / f"theirs-{mode}"
            with StateviewSaver(f"sqlite:{ours}", threads=mode, quiet=True) as saver:
                other = sqlite_saver(theirs)
                found = rows(Side(saver), Side(other), turns, rounds, partial(sizes, ours, theirs))
                print(f"\nSQLite, threads={mode!r}, beside SqliteSaver\n")
                print(show([*found, delete_row(saver, other, rounds)]))
        with redis_server() as port:
            if port is None:
                return
            others: list[tuple[BaseCheckpointSaver[Any], float | None]] = [
                (ValkeySaver(Valkey(port=port, db=1)), LIMIT),
                (PlainRedisSaver(f"redis://localhost:{port}/1"), None),
            ]
            for other_saver, limit in others:
                with StateviewSaver(f"redis://localhost:{port}/0", quiet=True) as saver:
                    found = rows(Side(saver), Side(other_saver), turns, rounds, limit=limit)
                    print(f"\nRedis, beside {type(other_saver).__name__}\n")
                    print(show([*found, delete_row(saver, other_saver, rounds)]))
                    print(show([redis_memory(port, saver, other_saver)]))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
