"""TLS with a certificate authority of the user's own: by the options of the store URL, on every connection."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
import redis
import redis_servers
from conftest import REDIS
from own_ca import OwnCA
from redis_servers import until

from stateview import BackendError, StateManager

Start = Callable[..., tuple[int, str]]


def speaks_tls(path: str) -> bool:
    """Return whether a server was built with TLS: it names the file that is missing, else TLS itself."""
    command = [path, "--port", "0", "--tls-port", "1"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    return "tls-cert-file" in said


@pytest.fixture(scope="module")
def path() -> str:
    found = next((path for path in REDIS.values() if speaks_tls(path)), None)
    if found is None:
        pytest.skip(f"no redis-server here was built with TLS: {', '.join(REDIS.values())}")
    return found


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OwnCA:
    return OwnCA(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def start(path: str, ca: OwnCA) -> Iterator[Start]:
    """Starts a server that speaks TLS, and returns its port for TLS and its plain URL."""
    with ExitStack() as stack:

        def start(files: tuple[Path, Path], asks: str = "no", *options: str) -> tuple[int, str]:
            port = redis_servers.free_port()
            words = ["--tls-port", str(port), "--tls-cert-file", str(files[0]), "--tls-key-file", str(files[1])]
            words += ["--tls-ca-cert-file", str(ca.path), "--tls-auth-clients", asks, *options]
            return port, stack.enter_context(redis_servers.running(path, *words))

        yield start


@pytest.fixture(scope="module")
def server(start: Start, ca: OwnCA) -> tuple[int, str]:
    return start(ca.issue("server"))


def refusal(url: str) -> str:
    """Return the error of a first load."""
    with StateManager(url, "main") as state, pytest.raises(BackendError) as caught:
        state.load("k")
    return str(caught.value)


def test_state_is_saved_loaded_cached_and_watched(server: tuple[int, str], ca: OwnCA) -> None:
    port, plain = server
    url = f"rediss://127.0.0.1:{port}/3?ssl_ca_certs={ca.path}"
    with StateManager(url, "main") as state, StateManager(url, "main") as other:
        for number in range(20):
            state.save("k", number)
            assert other.load("k") == other.load("k") == number
        with redis.Redis.from_url(plain) as admin:
            until(lambda: state.load("k") == 19 and state.backend._link.tracking.get("k"))  # type: ignore[attr-defined]
            assert [one for one in admin.client_list() if "t" in one["flags"]]
            before = admin.info("stats")["total_commands_processed"]
            assert {state.load("k") for _ in range(50)} == {19}
            after = admin.info("stats")["total_commands_processed"]
        assert after - before < 40, "loads come from memory, by announcements over TLS"
        timer = threading.Timer(0.1, state.save, ("watched", "value"))
        timer.start()
        assert [change.after for change in islice(other.watch(timeout=20), 1)] == ["value"]
        timer.join()
        assert state.checkpoint("c") == "c" and state.namespaces() == ["main"]


def test_a_connection_that_the_server_ends_is_opened_again(server: tuple[int, str], ca: OwnCA) -> None:
    port, plain = server
    url = f"rediss://127.0.0.1:{port}/4?ssl_ca_certs={ca.path}"
    with StateManager(url, "main") as state, redis.Redis.from_url(plain) as admin:
        for number in range(1, 12):
            assert state.save("k", number) == number
            assert state.load("k") == number
            admin.client_kill_filter(_type="normal", skipme=True)


def test_what_is_wrong_with_the_certificate_of_the_server_is_said(
    server: tuple[int, str], start: Start, ca: OwnCA
) -> None:
    assert "ssl_ca_certs=PATH" in refusal(f"rediss://127.0.0.1:{server[0]}")
    elsewhere = start(ca.issue("elsewhere", "10.1.2.3"))[0]
    assert "the address that the server's certificate names" in refusal(
        f"rediss://127.0.0.1:{elsewhere}?ssl_ca_certs={ca.path}"
    )
    expired = start(ca.issue("expired", expired=True))[0]
    assert "Renew" in refusal(f"rediss://127.0.0.1:{expired}?ssl_ca_certs={ca.path}")


def test_a_server_that_asks_for_a_certificate(start: Start, ca: OwnCA) -> None:
    port, _ = start(ca.issue("strict"), "yes")
    certificate, key = ca.issue("client")
    trusted = f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca.path}"
    assert "ssl_certfile=PATH&ssl_keyfile=PATH" in refusal(trusted)
    with StateManager(f"{trusted}&ssl_certfile={certificate}&ssl_keyfile={key}", "main") as state:
        assert state.save("k", 1) == 1
        assert state.load("k") == 1
    other_key = ca.issue("other")[1]
    assert "ssl_" in refusal(f"{trusted}&ssl_certfile={certificate}&ssl_keyfile={other_key}")


def test_a_cluster_over_tls(start: Start, ca: OwnCA) -> None:
    port, plain = start(ca.issue("node"), "no", "--cluster-enabled", "yes", "--tls-cluster", "yes")
    with redis.Redis.from_url(plain) as node:
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while node.cluster("info")["cluster_state"] != "ok":
            time.sleep(0.02)
    url = f"redis+cluster://127.0.0.1:{port}?ssl=true&ssl_ca_certs={ca.path}"
    with StateManager(url, "main") as state:
        assert state.save("k", 1) == 1
        assert state.load("k") == 1
