"""The prompt in a real terminal: what is painted, keys, interruption, a server that dies, resize, a large paste."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import redis
import redis_servers
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from terminal import Terminal

from stateview import BackendUnavailable, StateManager
from stateview.cli.completion import candidates
from stateview.cli.context import Context
from stateview.shell import completer
from stateview.shell.prompt import Prompt


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PAGER", "cat")
    for name in list(os.environ):
        if name.startswith("STATEVIEW_") or name == "NO_COLOR":
            monkeypatch.delenv(name)
    with StateManager("sqlite:st", "flow") as state:
        for number in range(60):
            state.save(f"wf:{number:02}:step", {"tasks": [{"name": "scout"}, {"name": "plan"}]})
        state.save("job", {"tasks": [{"name": "scout"}], "limit": 5})
        state.checkpoint("after_planning", note="approved")
        state.save("job", {"tasks": [{"name": "scout"}], "limit": 6})
    return tmp_path


@pytest.fixture
def shell() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*words: str, **more: object) -> Terminal:
        terminal = Terminal("shell", *(words or ("sqlite:st", "-n", "flow")), **more)  # type: ignore[arg-type]
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        terminal.kill()


def ready(terminal: Terminal) -> Terminal:
    terminal.until("flow@62>")
    return terminal


def printed(terminal: Terminal) -> str:
    """All that was printed, also what has left the screen."""
    return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", terminal.raw).decode()


def test_the_first_prompt_says_where_one_is(shell: Callable[..., Terminal]) -> None:
    ready(shell())
    shell("sqlite:st", "-n", "flow", "--read-only").until("sqlite:st flow@62 read-only>")


def test_completion_of_what_is_there(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("loa")
    terminal.until("print the value of a key")
    terminal.type("d w")
    terminal.until("wf:  ")
    terminal.type("f:0")
    terminal.until("wf:00:step")
    terminal.type("\x15load job ")
    terminal.until("/limit ")
    terminal.type("/t")
    terminal.until("/tasks ")
    terminal.type("\x15restore aft")
    terminal.until("approved")
    terminal.type("\t\r")
    terminal.until("restore after_planning: 1 key (1 changed)? [y/N]")
    terminal.type("y\r")
    terminal.until("'stateview -s sqlite:st -n flow undo' takes it back")
    terminal.until("flow@63>")


def test_tab_completes_before_the_keys_that_follow_it_however_fast_they_come(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())

    def runs(number: int) -> bool:
        return terminal.raw.count(b'"limit": 6') == number

    terminal.type("load jo\t\r")
    terminal.until(lambda text: runs(1) and at_prompt(text))
    terminal.type("load jo")
    terminal.until("revision 62, 38 bytes")  # the menu
    terminal.type("\t")
    terminal.until(lambda _: terminal.screen.cursor.x == len("sqlite:st flow@62> load job"))
    terminal.type("\r")
    terminal.until(lambda text: runs(2) and at_prompt(text))
    terminal.type("load wf:0\t\t\r\rload jo\t /li\t\r")  # of several Tab selects the first, then the next
    terminal.until(lambda text: "\n6\n" in text)
    assert "load wf:01:step" in printed(terminal) and "load job /limit" in printed(terminal)
    assert b"there is no key" not in terminal.raw


def test_tab_finds_what_lies_inside_a_name_and_what_was_mistyped(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("load ob\t /lmit\t\r")
    terminal.until(lambda text: "load job /limit" in text and "\n6\n" in text)
    terminal.type("resotre\t plan\t\r")
    terminal.until("restore after_planning: 1 key (1 changed)? [y/N]")
    terminal.type("n\r")
    terminal.until(lambda text: "not done" in text and at_prompt(text))
    with StateManager("sqlite:st", "flow") as state:
        state.save("my/job", 1)
    terminal.until("flow@63>")
    terminal.type("load jo")
    terminal.until("my/job ")  # in the menu, though `job` is what Tab inserts whole
    terminal.type("\t /li\t\r")
    terminal.until(lambda text: text.rstrip().endswith("> load job /limit\n6\nsqlite:st flow@63>"))


def test_tab_with_a_store_that_does_not_answer_runs_no_other_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys wait for a slow store. Without an answer the line is left as it was typed, and Ctrl-C stops waiting."""
    answers: list[object] = []

    def slow(words: list[str], context: Context | None = None) -> list[tuple[str, str]]:
        if words != ["delete", "jo"]:
            return []
        threading.Event().wait(0.4)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [(str(answer), "")]

    monkeypatch.setattr(completer, "candidates", slow)

    async def lines(prompt: Prompt, keys: PipeInput) -> None:
        buffer = prompt.session.default_buffer
        prompt.session.default_buffer.complete_while_typing = lambda: False  # type: ignore[assignment]
        for answer, typed, expected in (
            ("job", "delete jo\t --reason x\r", "delete job --reason x"),
            (BackendUnavailable("gone"), "delete jo\t --reason x\rload y\r", "delete jo --reason x"),
            ("job", "delete jo\tX\r\x03", "delete jo"),
        ):
            answers.append(answer)
            reading = asyncio.ensure_future(prompt.session.prompt_async())
            keys.send_text(typed)
            if answer == "job" and "\x03" not in typed:
                assert await reading == expected
                continue
            while buffer.text != expected or (answers and "\x03" not in typed):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # nothing follows
            assert buffer.text == expected and not reading.done()
            keys.send_text("\x15\x04")
            with pytest.raises(EOFError):
                await reading

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        prompt = Prompt({"store": "sqlite:st", "namespace": "flow"})
        asyncio.run(asyncio.wait_for(lines(prompt, keys), 20))


def test_the_prompt_never_shows_the_revision_of_another_line(shell: Callable[..., Terminal]) -> None:
    with StateManager("sqlite:st", "other") as state:
        state.save("k", 1)
    terminal = ready(shell())
    terminal.type("use other\r")
    terminal.until("other@1>")
    terminal.type("save k 2\r")
    terminal.until("other@2>")
    terminal.type("use flow\r")
    terminal.until(lambda text: text.rstrip().endswith("61 keys\nsqlite:st flow@62>"))
    shown = printed(terminal)
    assert not re.search(r"other@(?!1>|2>|\?>)|flow@(?!62>|\?>)", shown)
    assert shown.index("other@2>") > shown.index("saved k") > shown.rindex("other@1>")


def test_the_menu_is_for_the_line_typed_while_another_was_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that replace a line while its completion still runs get the menu of the new line."""
    asked, answer = threading.Event(), threading.Event()

    def slow(words: list[str], context: Context | None = None) -> list[tuple[str, str]]:
        if words == ["load", "w"]:
            asked.set()
            assert answer.wait(10)
        return candidates(words, context)

    monkeypatch.setattr(completer, "candidates", slow)

    async def type_and_look(prompt: Prompt, keys: PipeInput) -> None:
        reading = asyncio.ensure_future(prompt.session.prompt_async())
        buffer = prompt.session.default_buffer
        keys.send_text("load w")
        await asyncio.to_thread(asked.wait, 10)
        keys.send_text("\x15restore aft")
        while buffer.text != "restore aft":
            await asyncio.sleep(0.01)
        answer.set()
        while not (buffer.complete_state and buffer.complete_state.completions):
            await asyncio.sleep(0.01)
        assert [completion.text for completion in buffer.complete_state.completions] == ["after_planning"]
        keys.send_text("\x15\x04")
        with pytest.raises(EOFError):
            await reading

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        prompt = Prompt({"store": "sqlite:st", "namespace": "flow"})
        asyncio.run(asyncio.wait_for(type_and_look(prompt, keys), 20))


def test_several_lines_while_a_bracket_is_open(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type('save many {"a": 1,\r')
    terminal.until("\n…")
    terminal.type('"b": [2]}\r')
    terminal.until("saved many")
    with StateManager("sqlite:st", "flow") as state:
        assert state.load("many") == {"a": 1, "b": [2]}


def test_ctrl_c_clears_and_stops_and_ctrl_d_leaves(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("load no")
    terminal.until("load no")
    terminal.type("\x03")
    terminal.until(at_prompt)
    terminal.type("! echo begun; sleep 20\r")  # it says when it has the terminal, which the prompt had before
    terminal.until("\nbegun")
    terminal.type("\x03")
    terminal.until(lambda text: "interrupted" in text and at_prompt(text))
    terminal.type("watch\r")
    with StateManager("sqlite:st", "flow") as state:
        # Saved again and again: a first save may come before the watch does.
        turns = count()
        terminal.until(lambda text: bool(state.save("seen", next(turns))) and "~ seen" in text)
    terminal.type("\x03")
    terminal.until("interrupted")
    terminal.until(at_prompt)
    terminal.type("\x04")
    assert terminal.end() == 0


def at_prompt(text: str) -> bool:
    """Whether the shell waits for a line."""
    return text.rstrip().endswith(">")


def test_errors_do_not_end_it(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("load nothing\r")
    terminal.until("there is no key 'nothing'")
    terminal.type("save x {bad}\r")
    terminal.until("^")
    terminal.type("load job /limit\r")
    terminal.until(lambda text: "\n6\n" in text)
    terminal.type("exit\r")
    assert terminal.end() == 0


def test_a_transaction_shows_in_the_prompt(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("begin\r")
    terminal.until("transaction:0>")
    terminal.type("save a 1\r")
    terminal.until(lambda text: "transaction:1>" in text and at_prompt(text))
    terminal.type("\x04")
    terminal.until("the open transaction was rolled back")
    assert terminal.end() == 0


def test_broken_json_and_unknown_commands_are_coloured_before_enter(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("lod")
    terminal.until("lod")
    terminal.until(lambda _: colour(terminal, "lod") == "red")
    terminal.type("\x15load job")
    terminal.until(lambda _: colour(terminal, "load") == "cyan")
    terminal.type("\x15save k [1 2]")
    terminal.until(lambda _: colour(terminal, "2]") == "red")


def colour(terminal: Terminal, text: str) -> str:
    """The colour of the last place that shows a text."""
    for row in range(len(terminal.screen.display) - 1, -1, -1):
        column = terminal.screen.display[row].rfind(text)
        if column >= 0 and "@" in terminal.screen.display[row]:
            return str(terminal.screen.buffer[row][column].fg)
    return ""


def test_history_is_private_and_without_secrets(shell: Callable[..., Terminal], folder: Path) -> None:
    terminal = ready(shell())
    terminal.type("load job /limit\r")
    terminal.until("\n6\n")
    terminal.type("connect redis://:hunter2@127.0.0.1:1\r")
    # A terminal that tells its position late is scrolled further than needed, so the screen may not show all.
    terminal.until(lambda text: b"does not answer" in terminal.raw and at_prompt(text))
    terminal.type("\x04")
    terminal.end()
    path = folder / "home" / "stateview" / "history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "load job /limit" in path.read_text()
    assert "hunter2" not in path.read_text()
    again = ready(shell())
    again.type("load j")
    again.until("load job /limit")  # suggested from the history


def test_hostile_data_is_inert(shell: Callable[..., Terminal]) -> None:
    with StateManager("sqlite:st", "flow") as state:
        state.save("zz\x1b]0;owned\x07\u202e", "\x1b[2J\x9b31m")
    terminal = shell()
    terminal.until("flow@63>")
    terminal.type("load zz")
    terminal.until("␛]0;owned␇")
    terminal.type("\x15keys 'zz*'\r")
    terminal.until(lambda text: text.count("␛]0;owned␇") >= 1)
    terminal.type("find 2J\r")
    terminal.until("\\u001b[2J")  # as JSON spells it
    assert b"\x1b]0;owned" not in terminal.raw
    assert b"\x1b[2J\xc2\x9b" not in terminal.raw


def test_resize(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.resize(50, 12)
    terminal.type("\x15load job /limit\r")
    terminal.until("\n6\n")
    terminal.resize(140, 40)
    terminal.type("keys job\r")
    terminal.until("\njob\n")


def test_a_paste_of_three_thousand_lines(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    lines = ["begin", *(f"save p:{number} {number}" for number in range(3000)), "commit"]
    terminal.type("\x1b[200~" + "\r".join(lines) + "\x1b[201~\r")
    terminal.until("committed 3,000 keys", seconds=120)
    with StateManager("sqlite:st", "flow") as state:
        assert len(state.list_keys("p:")) == 3000


def test_ctrl_c_while_the_revision_is_read_after_a_line_ends_no_shell(shell: Callable[..., Terminal]) -> None:
    path = next(iter(redis_servers.find().values()))
    with redis_servers.running(path) as url, redis.Redis.from_url(url) as client:
        with StateManager(url, "flow") as state:
            state.save("k", 1)
        terminal = shell(url, "-n", "flow")
        terminal.until("flow@1>")
        client.client_pause(3000)
        terminal.type("help exit\r")
        terminal.until("Leave the shell")
        terminal.type("\x03")
        client.client_unpause()
        terminal.type("load k\r")
        terminal.until("\n1\n")


def test_a_server_that_dies_and_comes_back(shell: Callable[..., Terminal], folder: Path) -> None:
    path = next(iter(redis_servers.find().values()))
    with redis_servers.running(path) as url:
        with StateManager(url, "flow") as state:
            state.save("k", 1)
        terminal = shell(url, "-n", "flow")
        terminal.until("flow@1>")
        port = url.rsplit(":", 1)[1].split("/")[0]
    terminal.until("store: no answer")
    terminal.until("flow@?>")
    terminal.type("load k")
    terminal.until("load k")
    terminal.type("\r")
    terminal.until("does not answer")
    with redis_servers.running(path, port=int(port)):
        terminal.until(lambda text: re.search(r"flow@0> $", text.rstrip("\n ") + " ") is not None or "flow@0>" in text)
        terminal.type("save k 2\r")
        terminal.until("saved k = 2")


def test_vi_mode_and_no_colour(shell: Callable[..., Terminal]) -> None:
    terminal = ready(shell())
    terminal.type("option editing vi\r")
    terminal.until("editing is vi")
    terminal.type("load nothing\x1b0dwiload job /limit #\r")
    terminal.until("\n6\n")
    plain = shell("sqlite:st", "-n", "flow", NO_COLOR="1")
    plain.until("flow@62>")
    plain.type("diff after_planning\r")
    plain.until("1 key differs")
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", plain.raw)


def test_a_value_of_fifty_megabytes_shows_its_start_and_size(shell: Callable[..., Terminal]) -> None:
    with StateManager("sqlite:st", "flow") as state:
        state.save("huge", ["x" * 1000] * 50_000)
    terminal = shell()
    terminal.until("flow@63>")
    terminal.type("load huge\r")
    terminal.until(lambda text: text.rstrip().endswith(">") and "xxxx…" in text)
    assert b"(50,150,001 bytes, only the start is shown; --format json prints all)" in terminal.raw
    assert len(terminal.raw) < 200_000


def test_edit_in_the_editor(shell: Callable[..., Terminal], folder: Path) -> None:
    editor = folder / "editor.sh"
    editor.write_text(
        "#!/bin/sh\nif [ -e tried ]; then echo '{\"good\": 1}' > $1; else touch tried; echo '{bad' > $1; fi\n"
    )
    editor.chmod(0o755)
    terminal = ready(shell("sqlite:st", "-n", "flow", EDITOR=str(editor)))
    terminal.type("edit job\r")
    terminal.until("edit it again? [y/N]")
    terminal.type("y\r")
    terminal.until("saved job (object)")
    with StateManager("sqlite:st", "flow") as state:
        assert state.load("job") == {"good": 1}
