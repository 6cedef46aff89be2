"""`stateview serve`: who is let in, what the page shows in a real browser, and that no program is left over."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self

import pytest
from browser import PATIENCE, Browser, Page
from terminal import Terminal
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stateview import StateManager

SERVE = """
import json, sys
from stateview.cli.context import Context
from stateview.cli.exit_codes import exit_code
from stateview.dashboard.web.command import serve, serve_command
from stateview.errors import StateException

command, options, given = json.loads(sys.argv[1])

def show(result):
    print(result.text, end="", flush=True)
    print(result.summary, file=sys.stderr, flush=True)

try:
    context = Context(options, show=show)
    done = serve_command(context, given, command) if command else serve(context, given)
except StateException as error:
    print(error, file=sys.stderr)
    sys.exit(exit_code(error))
sys.exit(done.code)
"""

# A small Textual program: it paints, answers keys, copies, hands out a file, and can crash.
TINY = """
import io, os, sys
from textual.app import App
from textual.widgets import Footer, Static

class Tiny(App):
    BINDINGS = [("x", "say"), ("q", "quit"), ("c", "copy"), ("f", "file"), ("e", "fail")]
    ENABLE_COMMAND_PALETTE = False
    def compose(self):
        yield Static(f"process {os.getpid()}.", markup=False)
        yield Static("", id="size")
        yield Footer()
    def on_resize(self, event):
        self.query_one("#size").update(f"size {event.size.width}x{event.size.height}.")
    def action_say(self):
        os.system("echo what another process writes")  # must not get among the packets
        self.mount(Static("pressed x"))
    def action_copy(self):
        self.copy_to_clipboard("copied ✓")
    def action_file(self):
        self.deliver_text(io.StringIO("hello ✓"), save_filename="hello.txt")
    def action_fail(self):
        raise RuntimeError("out of luck")

tiny = Tiny()
tiny.run()
sys.exit(tiny.return_code)
"""

# What Textual's driver writes, without Textual: who it is, then nothing until it is ended.
PLAIN = """
import json, os, signal, subprocess, sys
def say(kind, text):
    data = text.encode()
    sys.stdout.buffer.write(kind + len(data).to_bytes(4, "big") + data)
    sys.stdout.flush()
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("__GANGLION__", flush=True)
found = {name: value for name, value in os.environ.items() if name.startswith(("STATEVIEW_", "COLUMNS", "ROWS"))}
child = subprocess.Popen(["sleep", "1000"]).pid if "parent" in sys.argv else None
say(b"D", json.dumps({"process": os.getpid(), "child": child, "found": found}))
if "loud" in sys.argv:
    while True:
        say(b"D", "x" * 65536)
while "stubborn" in sys.argv:
    signal.pause()
sys.stdin.buffer.read()
for path in [word for word in sys.argv[1:] if os.sep in word]:
    open(path, "w").close()
"""


class Serving:
    """A running `stateview serve`."""

    def __init__(
        self, command: list[str], options: dict[str, Any] | None = None, given: dict[str, Any] | None = None, **env: str
    ) -> None:
        self._start(["-c", SERVE, json.dumps([command, options or {}, {"port": 0, **(given or {})}])], env)

    @classmethod
    def dashboard(cls, *words: str) -> Self:
        """`stateview serve`, as it is typed."""
        one = cls.__new__(cls)
        one._start(["-m", "stateview", "serve", "--port", "0", *words], {})
        return one

    def _start(self, words: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        url = self.process.stdout.readline().strip()
        assert url, self.process.stderr.read()
        self._take_url(url)
        self.told = ""
        while "works once" not in self.told:
            self.told += self.line()
        self._sockets = ExitStack()

    @classmethod
    def at(cls, text: str) -> Self:
        """A server that a terminal shows, by the last URL there."""
        one = cls.__new__(cls)
        one._take_url(re.findall(r"http://127\S+", text)[-1])
        one._sockets = ExitStack()
        return one

    def _take_url(self, url: str) -> None:
        self.url, self.cookie = url, ""
        self.port = int(url.rsplit(":", 1)[1].partition("/")[0])
        self.token = url.partition("token=")[2]

    def renew(self) -> None:
        """Ask for a new URL."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        self._take_url(self.process.stdout.readline().strip())
        while "lets no other browser in" not in self.line():
            pass  # lines about pages

    def line(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", host: list[str] | None = None, **fields: str) -> tuple[int, str, Any]:
        """One request by hand; its status, text and header fields."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name in [f"127.0.0.1:{self.port}"] if host is None else host:
                connection.putheader("Host", name)
            for field, value in fields.items():
                connection.putheader(field.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers
        finally:
            connection.close()

    def enter(self) -> str:
        """Use the token; the cookie."""
        if not self.cookie:
            status, _, fields = self.get(f"/?token={self.token}")
            assert status == 303
            self.cookie = fields["Set-Cookie"].partition(";")[0]
        return self.cookie

    def open(self, origin: str | None = "", cookie: str | None = "", host: str = "") -> ClientConnection:
        """A WebSocket as our page opens it, or with another origin, cookie or host; None leaves it out."""
        cookie = self.enter() if cookie == "" else cookie
        one = connect(
            f"ws://{host or f'127.0.0.1:{self.port}'}/socket",
            sock=socket.create_connection(("127.0.0.1", self.port), PATIENCE),
            origin=self.origin if origin == "" else origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": cookie} if cookie else {},
            open_timeout=PATIENCE,
            close_timeout=1,
            max_size=None,
        )
        return self._sockets.enter_context(one)

    def page(self, columns: int = 80, rows: int = 24) -> tuple[ClientConnection, dict[str, Any]]:
        """A WebSocket with PLAIN behind it, and what that said."""
        page = self.open()
        page.send(json.dumps({"type": "size", "columns": columns, "rows": rows}))
        return page, json.loads(page.recv(timeout=PATIENCE))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()
        self._sockets.close()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def refused(serving: Serving, **given: Any) -> int:
    """The status with which a WebSocket is refused."""
    with pytest.raises(InvalidStatus) as caught:
        serving.open(**given)
    return caught.value.response.status_code


def lives(process: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone(process: int) -> None:
    """Wait until a process is there no more."""
    until(lambda: not lives(process), f"process {process} is left over")


def resting(process: int) -> None:
    """Wait until a process has not run for a while."""
    seen = [-1, 0]

    def still() -> bool:
        with open(f"/proc/{process}/schedstat") as file:
            ran = int(file.read().split()[0])
        seen[:] = [ran, seen[1] + 1 if ran == seen[0] else 0]
        return seen[1] >= 25

    until(still, f"process {process} goes on and on")


def until(test: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.py"
    path.write_text(TINY)
    return [sys.executable, str(path)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("plain") / "plain.py"
    path.write_text(PLAIN)
    return [sys.executable, str(path)]


@pytest.fixture
def serving(plain: list[str]) -> Iterator[Serving]:
    """A server of PLAIN whose token has not been used."""
    with Serving(plain) as one:
        yield one


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def test_nothing_is_answered_without_the_token_or_its_cookie(serving: Serving) -> None:
    paths = ("/", "/page.html", "/page.mjs", "/page.css", "/xterm.mjs", "/xterm.css", "/socket", "/nothing", "/?token=")
    wrong = f"stateview_{serving.port}={'a' * 43}"
    for path in paths:
        tried: list[dict[str, Any]] = [{}, {"Cookie": wrong}, {"Cookie": f"stateview_{serving.port}"}]
        for fields in tried:
            status, text, _ = serving.get(path, **fields)
            assert (status, text.startswith("Refused: ")) == (403, True), (path, fields, text)
            assert "xterm" not in text
    assert serving.get(f"/page.mjs?token={serving.token}")[0] == 403  # it opens the page, and nothing else
    assert refused(serving, cookie=None) == 403
    assert refused(serving, cookie=wrong) == 403
    assert "Set-Cookie" not in serving.get("/")[2]
    assert serving.get("/page.mjs", Cookie=serving.enter())[0] == 200  # all of this had left the token unused


def test_a_wrong_token_is_refused_and_leaves_the_right_one_as_it_was(serving: Serving) -> None:
    for token in ("a" * 43, serving.token[:-1], serving.token + "a", "%ff", "é".encode().hex()):
        status, text, fields = serving.get(f"/?token={token}")
        assert status == 403 and "wrong token" in text and "Set-Cookie" not in fields
    serving.enter()


def test_the_token_is_exchanged_once_for_a_cookie_of_that_browser(serving: Serving) -> None:
    status, _, fields = serving.get(f"/?token={serving.token}")
    assert (status, fields["Location"]) == (303, "/")
    name, *attributes = fields["Set-Cookie"].split("; ")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert serving.token not in name
    status, text, fields = serving.get(f"/?token={serving.token}")
    assert status == 403 and "used already" in text and "press u" in text and "Set-Cookie" not in fields
    # In the browser that used it, the same URL leads to the page.
    status, _, fields = serving.get(f"/?token={serving.token}", Cookie=f"other=1; {name}")
    assert (status, fields["Location"]) == (303, "/")
    assert serving.get("/", Cookie=name)[0] == 200


def test_a_new_url_lets_another_browser_in_and_the_old_one_none(serving: Serving) -> None:
    first = serving.enter()
    old, before = serving.token, serving.url
    serving.renew()
    assert serving.url != before and serving.url.startswith(before.partition("token=")[0])
    status, text, fields = serving.get(f"/?token={old}")
    assert status == 403 and "wrong token" in text and "Set-Cookie" not in fields
    second = serving.enter()
    assert second != first and second.partition("=")[0] == first.partition("=")[0]
    for cookie in (first, second):  # both load the page again
        assert serving.get("/", Cookie=cookie)[0] == 200
        assert serving.get(f"/?token={old}", Cookie=cookie)[0] == 303
    assert serving.get(f"/?token={serving.token}")[0] == 403
    serving.renew()
    unused = serving.token
    serving.renew()
    assert serving.get(f"/?token={unused}")[0] == 403 and serving.enter() not in (first, second)


def test_without_a_terminal_each_page_that_comes_or_goes_is_a_line(serving: Serving) -> None:
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
    first, _ = serving.page()
    assert re.fullmatch(rf"{stamp} 127\.0\.0\.1 opened a page \(read-only\); 1 page open\n", serving.line())
    second, _ = serving.page()
    assert serving.line().endswith("opened a page (read-only); 2 pages open\n")
    first.close()
    assert re.fullmatch(rf"{stamp} 127\.0\.0\.1 closed its page after \d+ s; 1 page open\n", serving.line())
    second.close()
    assert serving.line().endswith("; 0 pages open\n")


def test_a_terminal_lists_the_open_pages_and_takes_the_key_for_a_new_url(folder: Path) -> None:
    with StateManager("sqlite:st", "build") as state:
        state.save("phase", 1)
    terminal = Terminal("serve", "sqlite:st", "-n", "build", "--write", "--port", "0", rows=12)
    try:
        serving = Serving.at(terminal.until("0 pages open, writes are allowed · u: new URL · Ctrl-C: end"))
        first = serving.open()
        text = terminal.until("1 page open, writes are allowed")
        assert re.search(r"\n  127\.0\.0\.1 +since \d\d:\d\d:\d\d\n", text) and "0 pages open" not in text
        terminal.type("xu")
        renewed = Serving.at(terminal.until(lambda text: text.count("?token=") == 2 and "1 page open" in text))
        assert renewed.token != serving.token and serving.get(f"/?token={serving.token}")[0] == 403
        second = renewed.open()
        text = terminal.until("2 pages open")
        assert text.count("since") == 2 and "\nx" not in text
        first.close()
        second.close()
        terminal.until("0 pages open")
        terminal.resize(30, 12)  # the list is cut to it
        third = renewed.open()
        text = terminal.until("1 page open")
        assert "?token=" in text and "\n1 page open, writes are allow\n" in text
        third.close()
        terminal.type("\x03")
        assert terminal.end() == 0
        assert "open" not in terminal.text.partition("every page")[2]
    finally:
        terminal.kill()


def test_only_the_names_served_are_answered(serving: Serving) -> None:
    cookie = serving.enter()
    port = serving.port
    for name in ("127.0.0.1", "localhost", "LocalHost", "[::1]"):
        assert serving.get("/", host=[f"{name}:{port}"], Cookie=cookie)[0] == 200, name
    wrong = ("evil.example", "localhost.evil.example", "127.0.0.2", "localhost.", "a@127.0.0.1", "0.0.0.0", "")
    for hosts in (
        [],
        ["127.0.0.1"],
        [f"127.0.0.1:{port + 1}"],
        [f"127.0.0.1:{port}"] * 2,
        *([f"{w}:{port}"] for w in wrong),
    ):
        for path in ("/", "/page.mjs", f"/?token={serving.token}"):
            status, text, _ = serving.get(path, host=hosts, Cookie=cookie)
            assert status == 421 and "not served by this name" in text, (hosts, path)
    assert refused(serving, host=f"evil.example:{port}") == 421
    assert refused(serving, host=f"evil.example:{port}", origin=f"http://evil.example:{port}") == 421


def test_a_socket_opens_only_for_our_own_page(serving: Serving) -> None:
    port = serving.port
    wrong = ("http://evil.example", f"https://127.0.0.1:{port}", f"http://localhost:{port}", "http://127.0.0.1", "null")
    for origin in (None, f"http://127.0.0.1:{port + 1}", *wrong):
        assert refused(serving, origin=origin) == 403, origin
    for origin in wrong:
        for path in ("/", "/page.mjs"):
            assert serving.get(path, Cookie=serving.enter(), Origin=origin)[0] == 403
    serving.open(host=f"localhost:{port}", origin=f"http://localhost:{port}")


def test_the_page_and_its_files_carry_the_headers_that_hold_them_in(serving: Serving) -> None:
    cookie = serving.enter()
    for path, kind in (("/", "text/html"), ("/page.mjs", "text/javascript"), ("/xterm.css", "text/css"), ("/no", None)):
        _, _, fields = serving.get(path, Cookie=cookie)
        assert kind is None or fields["Content-Type"] == f"{kind}; charset=utf-8"
        assert fields["X-Content-Type-Options"] == "nosniff"
        assert fields["Referrer-Policy"] == "no-referrer"
        assert fields["Cache-Control"] == "no-store"
        (policy,) = fields.get_all("Content-Security-Policy")
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    script = serving.get("/", Cookie=cookie)[2]["Content-Security-Policy"].split("script-src ")[1].split(";")[0]
    assert script == "'self'"
    for path in ("/../gate.py", "/%2e%2e/gate.py", "//etc/passwd", "/LICENSE.xterm", "/static/page.mjs"):
        assert serving.get(path, Cookie=cookie)[0] == 404, path


def test_what_is_no_request_of_a_browser_is_dropped_without_a_word(serving: Serving) -> None:
    cookie = serving.enter()
    for method in ("HEAD", "DELETE"):
        try:
            assert serving.get("/", method, Cookie=cookie)[0] == 405
        except http.client.RemoteDisconnected:
            pass  # by an older release of websockets
    for junk in (b"\x16\x03\x01 no TLS here\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000, b"GET"):
        with socket.create_connection(("127.0.0.1", serving.port), PATIENCE) as raw:
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            assert b"200" not in raw.recv(4096)
    upgrade: dict[str, Any] = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": serving.origin}
    assert serving.get("/socket", Cookie=cookie, **upgrade)[0] == 400  # a handshake that is not whole
    serving.end()
    assert serving.process.stderr is not None and serving.process.stderr.read() == ""


def test_a_page_has_a_program_that_ends_with_it(serving: Serving) -> None:
    page, said = serving.page(columns=101, rows=33)
    assert (said["found"]["COLUMNS"], said["found"]["ROWS"]) == ("101", "33")
    other, also = serving.page()
    assert lives(said["process"]) and lives(also["process"])
    page.close()
    gone(said["process"])
    assert lives(also["process"])
    other.close()


def test_a_program_has_time_to_end_by_itself(plain: list[str], tmp_path: Path) -> None:
    tidied = tmp_path / "tidied"
    with Serving([*plain, str(tidied)]) as serving:
        page, _ = serving.page()
        page.close()
        until(tidied.exists, "it was killed at once")
        tidied.unlink()
        serving.page()
        assert serving.end() == 0 and tidied.exists()


@pytest.mark.parametrize("how", ["stubborn", "loud", "parent"])
def test_a_program_that_does_not_end_is_killed(plain: list[str], how: str) -> None:
    with Serving([*plain, how]) as serving:
        page, said = serving.page()
        page.socket.close()  # without a goodbye
        gone(said["process"])
        page, said = serving.page()
        resting(said["process"])  # the loud one until the page, which reads nothing, takes what is under way
        began = time.monotonic()
        assert serving.end(signal.SIGINT) == 0
        assert time.monotonic() - began < 20
        assert not lives(said["process"])
        if said["child"]:
            gone(said["child"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_the_server_is_quick_and_leaves_nothing(plain: list[str], number: int) -> None:
    with Serving(plain) as serving:
        pages = [serving.page() for _ in range(3)]
        idle = socket.create_connection(("127.0.0.1", serving.port))  # as browsers open ahead
        began = time.monotonic()
        assert serving.end(number) == 0
        assert time.monotonic() - began < 20
        for page, said in pages:
            assert not lives(said["process"])
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    page.recv(timeout=PATIENCE)
            assert caught.value.rcvd is not None and caught.value.rcvd.reason == "stateview serve has ended"
        idle.close()


def test_programs_end_even_when_the_server_is_killed(tiny: list[str]) -> None:
    with Serving(tiny) as serving:
        page = serving.open()
        page.send('{"type": "size", "columns": 80, "rows": 24}')
        shown = b""
        while b"process " not in shown:
            message = page.recv(timeout=PATIENCE)
            assert isinstance(message, bytes)
            shown += message
        process = int(shown.split(b"process ")[1].split(b".")[0])
        serving.end(signal.SIGKILL)
        gone(process)


def test_the_most_pages_at_once_is_said(serving: Serving) -> None:
    pages = [serving.page() for _ in range(16)]
    more = serving.open()
    with pytest.raises(ConnectionClosed) as caught:
        more.recv(timeout=PATIENCE)
    assert caught.value.rcvd is not None and "16 pages are open already" in caught.value.rcvd.reason
    closed, said = pages.pop()
    closed.close()
    gone(said["process"])
    pages.append(serving.page())


NO_MESSAGES = (
    "no JSON",
    '{"type": "quit"}',
    '{"type": "size", "columns": 0, "rows": 24}',
    '{"type": "size", "columns": 80, "rows": 1e9}',
    '{"type": "size", "columns": "80", "rows": 24}',
)


def test_what_is_no_message_of_the_page_ends_it(serving: Serving) -> None:
    before_its_size = (b"x", '{"type": "attention", "what": "focus"}')
    early: list[Any] = [(serving.open(), None, message) for message in (*before_its_size, *NO_MESSAGES)]
    for page, said, message in [*early, *((*serving.page(), message) for message in NO_MESSAGES)]:
        page.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            page.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1008, message
        if said is not None:
            gone(said["process"])


def test_a_password_goes_by_the_environment_and_not_by_the_command_line(plain: list[str]) -> None:
    store = "redis://:hunter2@localhost:6379/0"
    options = {"store": "json", "namespace": "build", "author": "ann"}
    with Serving(plain, options, {"store": store}, STATEVIEW_AUTHOR="other") as serving:
        _, said = serving.page()
        for name, value in (("STORE", store), ("NAMESPACE", "build"), ("AUTHOR", "ann")):
            assert said["found"][f"STATEVIEW_{name}"] == value
        seen = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(said["process"])], capture_output=True, text=True, check=True
        )
        assert "plain.py" in seen.stdout and "hunter2" not in seen.stdout
        page = serving.get("/", Cookie=serving.enter())[1]
        assert "<title>build · redis://:***@localhost:6379/0 · stateview</title>" in page
        assert "hunter2" not in page + serving.told + serving.url


def test_a_title_is_text(plain: list[str]) -> None:
    with Serving(plain, given={"store": "json:</title><script>alert(1)</script>"}) as serving:
        assert "<script>alert" not in serving.get("/", Cookie=serving.enter())[1]


def test_a_port_in_use_is_an_error_that_says_what_to_do(serving: Serving, plain: list[str]) -> None:
    for given, words in (
        ({"port": serving.port}, (f"port {serving.port} of 127.0.0.1", "--port", "0: any free port")),
        ({"port": 65536}, ("65536", "--port")),
        ({"host": "no such host"}, ("no such host", "--host")),
        ({"host": "192.0.2.1"}, ("192.0.2.1", "--host")),
        ({"store": "nonsense"}, ("nonsense",)),
    ):
        words_given = json.dumps([plain, {}, {"port": 0, **given}])
        done = subprocess.run(
            [sys.executable, "-c", SERVE, words_given], check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode in (2, 3) and not done.stdout, done
        assert "Traceback" not in done.stderr
        for word in words:
            assert word in done.stderr


def test_write_and_read_only_do_not_go_together() -> None:
    words = json.dumps([[], {"read_only": True}, {"port": 0, "write": True}])
    done = subprocess.run(
        [sys.executable, "-c", SERVE, words], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2 and "--read-only" in done.stderr


def test_another_host_than_the_loopback_is_warned_of_and_served(plain: list[str]) -> None:
    with Serving(plain, given={"host": "0.0.0.0"}) as serving:
        assert "not encrypted" in serving.told and "ssh -L" in serving.told
        assert serving.url.startswith(f"http://{socket.gethostname()}:")
        cookie = serving.enter()  # by 127.0.0.1, the address at which it arrives
        for host, status in (
            (f"127.0.0.1:{serving.port}", 200),
            (f"{socket.gethostname()}:{serving.port}", 200),
            (f"evil.example:{serving.port}", 421),
            (f"192.0.2.1:{serving.port}", 421),  # an address, and not the one that it came to
        ):
            assert serving.get("/", host=[host], Cookie=cookie)[0] == status, host
    with Serving(plain) as serving:
        assert "not encrypted" not in serving.told
        assert serving.url.startswith("http://127.0.0.1:")


def test_a_browser_paints_the_program_and_its_keys_reach_it(browser: Browser, tiny: list[str]) -> None:
    with Serving(tiny) as serving:
        page = browser.open()
        page.resize(1000, 600)
        page.go(serving.url)
        shown = page.until(lambda text: "process " in text and "size " in text)
        assert "pressed x" not in shown
        page.press("x")
        page.until("pressed x")
        page.resize(500, 400)

        def size() -> tuple[int, int]:
            columns, rows = re.findall(r"size (\d+)x(\d+)\.", page.until("size "))[0]
            return int(columns), int(rows)

        large = size()
        page.resize(500, 400)
        until(lambda: size() != large, "it stays as large as it was")
        width, height = size()
        assert 40 < width < 70 and 15 < height < 30
        assert len(set(page.picture())) > 100  # bytes of a PNG; a blank one has few
        # The token is neither in the address nor in the history, and nothing came from elsewhere or was refused.
        assert page.url == f"{serving.origin}/"
        assert page.run("history.length") <= 2
        loaded = page.run("performance.getEntriesByType('resource').map((one) => one.name)")
        assert len(loaded) >= 5 and all(url.startswith((f"{serving.origin}/", "data:")) for url in loaded)
        assert page.complaints == []
        # A second tab of the browser, and loading again, need no token.
        other = browser.open(f"{serving.origin}/")
        other.until("process ")
        other.press("x")
        other.until("pressed x")
        serving.renew()  # for browsers that have not come yet
        other.reload()
        other.until(lambda text: "process " in text and "pressed x" not in text)
        other.close()
        assert page.run("document.cookie") == ""
        page.close()


def test_a_traceback_is_for_the_server_and_not_for_the_page(tiny: list[str]) -> None:
    with Serving(tiny) as serving:
        page = serving.open()
        page.send('{"type": "size", "columns": 80, "rows": 24}')
        while b"process " not in (page.recv(timeout=PATIENCE) or b""):  # type: ignore[operator]
            pass
        page.send(b"f")  # delivers a file, after which it goes on
        while not isinstance(message := page.recv(timeout=PATIENCE), str):
            pass
        assert json.loads(message)["name"] == "hello.txt"
        page.send(b"e")
        while not isinstance(message := page.recv(timeout=PATIENCE), str):
            pass
        said = "The error is in the terminal, or the log, of the server."
        assert json.loads(message) == {"type": "ended", "code": 1, "text": said}
        serving.end()
        assert serving.process.stderr is not None
        told = serving.process.stderr.read()
        assert "a page has ended with exit code 1:\n" in told and "RuntimeError: out of luck" in told


def test_a_browser_gets_what_is_copied_and_the_files_that_are_handed_out(
    browser: Browser, tiny: list[str], tmp_path: Path
) -> None:
    with Serving(tiny) as serving:
        page = browser.open(serving.url)
        page.until("process ")
        allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        page.call("Browser.grantPermissions", permissions=allowed)
        page.call("Page.bringToFront")
        page.press("c")
        until(lambda: page.run("navigator.clipboard.readText()") == "copied ✓", "it is not copied")
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        page.press("f")
        file = tmp_path / "hello.txt"
        until(lambda: file.exists() and file.read_text() == "hello ✓", "it is not saved")
        assert page.complaints == []
        page.close()


def test_a_browser_says_why_the_program_ended_and_opens_it_again(browser: Browser, tiny: list[str]) -> None:
    with Serving(tiny) as serving:
        page = browser.open(serving.url)
        page.until("process ")
        page.press("e")
        shown = page.until(lambda text: "has ended (exit code 1)" in text and "terminal, or the log" in text)
        assert "out of luck" not in shown
        page.press("Escape", code=27)
        page.press("Enter", "\r", 13)
        page.until(lambda text: "process " in text and "has ended" not in text)
        page.press("q")
        page.until("The dashboard has ended.")
        page.press("Enter", "\r", 13)
        page.until(lambda text: "process " in text and "has ended" not in text)
        serving.end()
        page.until("stateview serve has ended.")
        page.close()


def test_a_page_of_another_origin_gets_nothing_by_the_browsers_cookie(
    browser: Browser, tiny: list[str], tmp_path: Path
) -> None:
    # Another port of 127.0.0.1 is the same site: the cookie is sent, and only the Origin tells the page from ours.
    (tmp_path / "index.html").write_text("<!doctype html><title>foreign</title>elsewhere")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None:
            pass

    elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=elsewhere.serve_forever, daemon=True).start()
    try:
        with Serving(tiny) as serving:
            ours = browser.open(serving.url)
            ours.until("process ")
            opened = f"""new Promise((done) => {{
                const socket = new WebSocket("ws://127.0.0.1:{serving.port}/socket");
                socket.onopen = () => done("opened");
                socket.onerror = () => done("refused");
            }})"""
            assert ours.run(opened) == "opened"
            page = browser.open(f"http://127.0.0.1:{elsewhere.server_port}/")
            page.until("elsewhere")
            assert page.run(opened) == "refused"
            fetched = f'fetch("{serving.origin}/", {{credentials: "include"}}).then((a) => a.text(), () => "refused")'
            assert page.run(fetched) == "refused"
            framed = f"""new Promise((done) => {{
                const frame = document.createElement("iframe");
                frame.src = "{serving.origin}/";
                frame.onload = () => {{
                    try {{ done(frame.contentDocument ? "blank" : "held back"); }} catch {{ done("held back"); }}
                }};
                document.body.append(frame);
            }})"""
            page.run(framed)
            until(
                lambda: any("frame-ancestors" in one for one in page.complaints) or page.run("1") != 1, "it is framed"
            )
            ours.close()
            page.close()
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()


def test_opening_a_browser_shows_the_token_to_nobody_else(browser: Browser, tiny: list[str], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    fake = tmp_path / "fake-browser"
    fake.write_text(f'#!/bin/sh\nprintf %s "$*" > {seen}.part && mv {seen}.part {seen}\n')
    fake.chmod(0o755)
    with Serving(tiny, given={"open": True}, BROWSER=str(fake), TMPDIR=str(tmp_path)) as serving:
        until(seen.exists, "no browser is opened")
        words = seen.read_text()
        assert serving.token not in words and words.startswith("file://")
        file = Path(words.removeprefix("file://"))
        assert file.stat().st_mode & 0o777 == 0o600
        page = browser.open(words)
        page.until("process ")
        assert page.url == f"{serving.origin}/"
        until(lambda: not file.exists(), "the file with the token stays")
        page.close()


def test_the_dashboard_itself_is_served_and_writes_only_where_that_was_asked_for(
    browser: Browser, folder: Path
) -> None:
    store = f"sqlite:{folder / 'state'}"
    with StateManager(store, "build") as state:
        state.save("phase", {"name": "compiling", "api_key": "hunter2"})
        for words, writes in (("-n", "build"), False), (("-n", "build", "--write"), True):
            with Serving.dashboard(store, *words) as serving:
                assert ("writes are allowed" in serving.told) == writes
                page = browser.open()
                page.resize(1200, 700)
                page.go(serving.url)
                shown = page.until(lambda text: "phase" in text and "compiling" in text)
                assert ("read-only" in shown) == (not writes) and "api_key: ••••••" in shown
                page.press("U")
                page.until('api_key: "hunter2"' if writes else "secrets stay masked in a read-only page")
                assert ("hunter2" in page.text) == writes
                page.press("c")
                if writes:
                    page.until("Note")
                    page.press("Enter", "\r", 13)
                    page.press("Enter", "\r", 13)
                    until(lambda: len(state.list_checkpoints()) == 1, "there is no checkpoint")
                else:
                    page.until("read-only: ")
                page.press("q")
                page.until("The dashboard has ended.")
                assert page.complaints == []
                page.close()
                assert len(state.list_checkpoints()) == int(writes)
                assert serving.end(signal.SIGINT) == 0


def test_a_page_writes_no_file_of_the_server_and_downloads_instead(browser: Browser, folder: Path) -> None:
    taken = folder / "taken"
    taken.mkdir()
    theirs = folder / "theirs.json"
    theirs.write_text("theirs")
    with StateManager(f"sqlite:{folder / 'state'}", "build") as state:
        state.save("phase", 1)
        state.checkpoint("first")
        state.save("phase", 2)

    def files() -> set[Path]:
        """All files but those that SQLite keeps while a store is open."""
        found = (path for path in folder.rglob("*") if "state" not in path.parts[-2:])
        return {path for path in found if not path.name.endswith(("-wal", "-shm"))}

    before = files()
    for write in ([], ["--write"]):
        with Serving.dashboard(f"sqlite:{folder / 'state'}", "-n", "build", *write) as serving:
            page = browser.open()
            page.resize(1400, 700)
            page.go(serving.url)
            page.until(lambda text: "phase" in text and "first" in text)
            page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(taken))
            for line in (f"export {theirs}", f"import {theirs}", "save phase @theirs.json"):
                is_refused(page, line, "it would be on the server")
            is_refused(page, "diff 1 --with-store json:/etc", "the server would open it")
            for opens, name, content in (
                ("log", "stateview.txt", "phase"),
                ("diff first", "change.json", '[\n{"op":"replace","path":"/phase","value":2}\n]\n'),
            ):
                typed(page, opens)
                page.until("Copy line" if opens == "log" else "Save a patch")
                page.press("S")
                is_downloaded(taken / name, content)
                page.press("q")
                page.until("H History")
            assert page.complaints == []
            page.close()
    assert theirs.read_text() == "theirs"
    assert files() == before


def is_downloaded(file: Path, content: str) -> None:
    """Wait until a browser has saved a file that holds a text, and remove it."""
    until(lambda: file.exists() and content in file.read_text(), f"{file.name} is not saved")
    file.unlink()


def is_refused(page: Page, line: str, why: str) -> None:
    """Type a line, wait for why it is refused, and close the prompt."""
    typed(page, line)
    page.until(why)
    page.press("Escape", code=27)
    page.until(lambda text: why not in text)


def typed(page: Page, line: str) -> None:
    """Type a line into the command prompt of a dashboard, and run it."""
    page.press(":")
    page.until("a command, as in the shell")
    page.call("Input.insertText", text=line)
    page.press("Enter", "\r", 13)
