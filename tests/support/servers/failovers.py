"""Failovers of Redis under processes that commit, and what became of each commit.

Each process counts with all others (`update`), saves a key of its own, and replaces a key of all only if nobody else
did (`expected`). Every value names its commit. So the history of the new primary tells which commits it has, and how
often.

`python tests/support/servers/failovers.py TOPOLOGY KIND FAILOVERS` prints a row of the table in
`references/backends.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import redis_servers
import redis_topologies
from redis_servers import until
from redis_topologies import HASTE, Topology

from stateview import KeyNotFound, StateException, StateManager

WORKERS = 4
ACTS = 100  # of each process between two failovers
CUT_SECONDS = 0.05  # before the kill
WAIT_SECONDS = 120.0  # for the acts of a process that a failover holds up
EVERYTHING = 10_000_000  # revisions that are kept
PASSING = ("BackendUnavailable", "CommitUnknown", "Conflict", "NotReplicated", "Rewound")  # errors of a failover
KEPT = ("BackendUnavailable", "Rewound")  # after which `guarded` still expects the revision that it knew
COUNT, GUARDED = "count", "guarded"
HEADINGS = ("kind", "failovers", "acknowledged", "lost", "applied twice", "handed out twice", "`Rewound`")


class Act(NamedTuple):
    """What a process did.

    Attributes:
        kind: `count`, `own`, `guarded`; or `read`, which looks at `guarded`.
        token: names the commit.
        end: when it returned, in nanoseconds of a clock common to all.
        error: the name of the error; "" if it was acknowledged.
        number: what the shared counter handed out.
        basis: the token that `guarded` was to replace.

    """

    kind: str
    token: str
    end: int = 0
    error: str = ""
    number: int = 0
    basis: str = ""


class Outcome(NamedTuple):
    """What became of the commits.

    Attributes:
        failovers: how many primaries were made to fail.
        unasked: how many more were replaced, since they were slow. What was committed there meanwhile is lost.
        acknowledged: commits that returned without an error.
        lost: the tokens of those that the last primary does not have.
        twice: the tokens of commits that it has more than once.
        handed_out_twice: numbers that the counter gave to two callers.
        rewound: how often a process was told.
        untold: processes that went on without being told, each with the token that it had lost.
        stolen: tokens of commits that replaced another value than the one they expected.
        errors: how often a call ended with an error, by its name.

    """

    failovers: int
    unasked: int
    acknowledged: int
    lost: list[str]
    twice: list[str]
    handed_out_twice: list[int]
    rewound: int
    untold: list[tuple[int, str]]
    stolen: list[str]
    errors: dict[str, int]

    def row(self, kind: str) -> str:
        """A row of the table of counts."""
        lists = len(self.lost), len(self.twice), len(self.handed_out_twice)
        cells = [kind, str(self.failovers), *(f"{number:,}" for number in (self.acknowledged, *lists, self.rewound))]
        return f"| {' | '.join(cells)} |"


class Worker:
    """A process that commits until it is told to stop, and writes down what it was answered."""

    def __init__(self, url: str, number: int, folder: Path, options: dict[str, Any]) -> None:
        self.number, self.folder = number, folder
        self.log = os.open(folder / f"{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.state = StateManager(url, "main", author=f"p{number}", history=EVERYTHING, **{"timeout": 60, **options})
        self.known: tuple[int, str] | None = None  # the revision and the token of `guarded`

    def run(self) -> None:
        count = 0
        while not (self.folder / "stop").exists():
            for kind in (COUNT, "own", GUARDED):
                count += 1
                self.act(Act(kind, f"{self.number}:{count}"))
        for _ in range(3):  # once more after the last failover; the first call may be told of it
            count += 1
            self.act(Act("own", f"{self.number}:{count}"))

    def act(self, act: Act) -> None:
        if act.kind == GUARDED:
            if self.known is None:
                self.tell(Act("read", ""), self.read)
            if self.known is None:
                return  # it was told of a failover
            act = act._replace(basis=self.known[1])
        self.tell(act, getattr(self, act.kind))

    def tell(self, act: Act, do: Callable[[Act], Act]) -> None:
        """Do an act, and write down how it ended."""
        try:
            act = do(act)
        except StateException as error:
            name = type(error).__name__
            if name not in PASSING:
                raise
            act = act._replace(error=name)
            if name not in KEPT:
                self.known = None
        os.write(self.log, json.dumps(act._replace(end=time.monotonic_ns())).encode() + b"\n")

    def count(self, act: Act) -> Act:
        number, _ = self.state.update(COUNT, lambda before: [before[0] + 1, act.token], default=[0, ""])
        return act._replace(number=number)

    def own(self, act: Act) -> Act:
        self.state.save(f"own-{self.number}", act.token)
        return act

    def guarded(self, act: Act) -> Act:
        assert self.known is not None
        self.known = self.state.save(GUARDED, act.token, expected=self.known[0]), act.token
        return act

    def read(self, act: Act) -> Act:
        try:
            found = self.state.entry(GUARDED)
            self.known = found.revision, found.value
        except KeyNotFound:
            self.known = 0, ""
        return act


class Workers:
    """Processes that commit while servers fail."""

    def __init__(self, url: str, folder: Path, number: int = WORKERS, **options: Any) -> None:
        self.folder = folder
        self.logs = [folder / f"{one}.log" for one in range(number)]
        self.children = []
        for one in range(number):
            child = os.fork()
            if not child:
                code = 1
                try:
                    Worker(url, one, folder, options).run()
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            self.children.append(child)

    def acts(self) -> list[list[Act]]:
        """What each process did so far."""
        texts = [log.read_bytes() if log.exists() else b"" for log in self.logs]
        return [[Act(*json.loads(line)) for line in text[: text.rfind(b"\n") + 1].splitlines()] for text in texts]

    def wait(self, acts: int = ACTS) -> None:
        """Wait until each process did so many more acts."""
        until(lambda: all(log.exists() for log in self.logs))
        ends = [log.read_bytes().count(b"\n") + acts for log in self.logs]
        for log, end in zip(self.logs, ends, strict=True):
            until(lambda log=log, end=end: log.read_bytes().count(b"\n") >= end, WAIT_SECONDS)  # type: ignore[misc]

    def stop(self) -> None:
        (self.folder / "stop").touch()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]
        assert codes == [0] * len(codes), codes


# --- kinds of failovers -----------------------------------------------------------------------------------------------


def clean(servers: Topology) -> None:
    """Kill the primary when the replica has all; what was not answered by then is sent again."""
    servers.catch_up("main")
    servers.kill("main")


def killed(servers: Topology) -> None:
    """Kill the primary at any instant: it may have answered what it had not sent to the replica."""
    servers.kill("main")


def lagging(servers: Topology) -> None:
    """Kill the primary some time after its replicas were cut off."""
    servers.cut("main")
    time.sleep(CUT_SECONDS)
    servers.kill("main")


def partly(servers: Topology) -> None:
    """Kill the primary some time after its replicas but one were cut off."""
    primary = servers.primary("main")
    assert primary is not None
    servers.cut("main", len(servers.replicas(primary)) - 1)
    time.sleep(CUT_SECONDS)
    servers.kill("main")


@dataclass(frozen=True)
class Kind:
    """A way to fail, with options of the manager and of the servers."""

    fail: Callable[[Topology], None]
    manager: dict[str, Any] = field(default_factory=dict)
    servers: tuple[str, ...] = ()


KINDS = {
    "clean": Kind(clean),
    "killed": Kind(killed),
    "lagging": Kind(lagging),
    "lagging, wait_replicas=1": Kind(lagging, {"wait_replicas": 1}),
    "partly lagging, wait_replicas=1": Kind(partly, {"wait_replicas": 1}),
    "lagging, min-replicas-to-write 1": Kind(lagging, servers=("--min-replicas-to-write", "1")),
}


def open_topology(name: str, path: str, kind: Kind) -> AbstractContextManager[Topology]:
    """Start servers by the name of their topology."""
    if name == "cluster":
        return redis_topologies.cluster(path, 3, 1, *kind.servers, patience=HASTE)
    if name == "sentinels":
        return redis_topologies.sentinels(path, 2, 3, *kind.servers, patience=HASTE)
    return redis_topologies.pair(path, 1, *kind.servers)


def fail_over(servers: Topology, kind: Kind, folder: Path, failovers: int = 1, workers: int = WORKERS) -> Outcome:
    """Let processes commit through some failovers of the servers, and tell what became of the commits."""
    with StateManager(servers.url, "main", history=EVERYTHING) as state:
        state.save("before", 1)
    together = Workers(servers.url, folder, workers, **kind.manager)
    moments: list[int] = []
    before = servers.failovers()
    try:
        together.wait()
        for _ in range(failovers):
            kind.fail(servers)
            moments.append(time.monotonic_ns())
            servers.promoted("main")
            servers.mend()
            moments.append(time.monotonic_ns())
            together.wait()
    finally:
        together.stop()
    unasked = servers.failovers() - before - failovers
    return judge(servers.url, together.acts(), moments)._replace(failovers=failovers, unasked=unasked)


def fail_over_as_asked(topology: str, path: str, kind: Kind, folder: Path, failovers: int = 1) -> Outcome:
    """Do the same on new servers, and again where a machine was so slow that a live primary was replaced."""
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir()
        with open_topology(topology, path, kind) as servers:
            outcome = fail_over(servers, kind, place, failovers)
        if not outcome.unasked:
            return outcome
    raise AssertionError(f"{topology}: the machine is so slow that live primaries are replaced")


# --- what became of the commits ---------------------------------------------------------------------------------------


def judge(url: str, acts: list[list[Act]], moments: list[int]) -> Outcome:
    """Compare what the processes were told with the history of the present primary.

    Args:
        url: the store URL.
        acts: what each process did.
        moments: when each primary was lost, and when all servers agreed on the next, in nanoseconds of the clock.

    """
    histories = read_histories(url, len(acts))
    applied = Counter(token for tokens in histories.values() for token in tokens if token)
    every = [act for of_one in acts for act in of_one if act.kind != "read"]
    acknowledged = [act for act in every if not act.error]
    numbers = Counter(act.number for act in acknowledged if act.kind == COUNT)
    guarded = histories[GUARDED]
    followed = dict(zip(guarded[1:], guarded, strict=False))  # of each token, the one that it replaced
    errors = Counter(act.error for of_one in acts for act in of_one if act.error)
    return Outcome(
        failovers=0,
        unasked=0,
        acknowledged=len(acknowledged),
        lost=[act.token for act in acknowledged if not applied[act.token]],
        twice=[token for token, times in applied.items() if times > 1],
        handed_out_twice=[number for number, times in numbers.items() if times > 1],
        rewound=errors["Rewound"],
        untold=[(number, token) for number, one in enumerate(acts) for token in untold(one, applied, moments)],
        stolen=[
            act.token for act in acknowledged
            if act.kind == GUARDED and act.token in followed and followed[act.token] != act.basis
        ],
        errors=dict(errors),
    )  # fmt: skip


def read_histories(url: str, workers: int) -> dict[str, list[str]]:
    """The tokens of all versions of each key, oldest first; "" comes before the first."""
    found: dict[str, list[str]] = {}
    with StateManager(url, "main", timeout=60) as state:
        for key in (COUNT, GUARDED, *(f"own-{number}" for number in range(workers))):
            values = [entry.value for entry in state.history(key, EVERYTHING)]
            found[key] = ["", *(value[1] if key == COUNT else value for value in reversed(values))]
    return found


def untold(acts: Iterable[Act], applied: Counter[str], moments: list[int]) -> list[str]:
    """The lost tokens of a process after which it committed on the next primary and had not been told."""
    found: list[str] = []
    lost, lost_before = "", 0  # a token, and how many of the moments were before it
    for act in acts:
        passed = sum(moment <= act.end for moment in moments)
        if act.error == "Rewound":
            lost = ""
        elif not act.error and act.kind != "read":
            if lost and passed > lost_before and applied[act.token]:
                found.append(lost)
                lost = ""
            if not applied[act.token]:
                lost, lost_before = act.token, passed
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topology", choices=("cluster", "sentinels", "pair"))
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("failovers", type=int)
    parser.add_argument("--server", help="the redis-server; the first that the tests find")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes that commit ({WORKERS})")
    given = parser.parse_args()
    path = given.server or next(iter(redis_servers.find().values()))
    kind = KINDS[given.kind]
    with open_topology(given.topology, path, kind) as servers, tempfile.TemporaryDirectory() as folder:
        outcome = fail_over(servers, kind, Path(folder), given.failovers, given.workers)
    print(outcome.row(f"{given.topology}, {given.kind}"))
    more = f"untold: {len(outcome.untold)}, stolen: {len(outcome.stolen)}, unasked: {outcome.unasked}"
    print(f"{more}, errors: {outcome.errors}", file=sys.stderr)


if __name__ == "__main__":
    main()
