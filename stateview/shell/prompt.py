"""The interactive prompt: prompt_toolkit around a `Shell`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, completion_is_selected, has_completions
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style as PromptStyle

from ..cli.definition import BY_NAME
from ..cli.exit_codes import UsageError
from ..cli.line_parser import IncompleteLine, read_line
from ..cli.program import TerminalProgress, ask_secret, is_dumb_terminal, print_message, write_output
from ..cli.render import Style, escape_control_characters
from ..errors import StateException
from .completer import PromptCompleter, QuietContext, ShellCompleter, error_class
from .history import PrivateHistory, history_path
from .lexer import STYLES, ShellLexer
from .script import whole_lines
from .session import ExitShell, Shell
from .suspend import repainted_after_stops, suspend
from .tab_completion import TabCompletion

POLL_SECONDS = 0.5  # between two reads of the revision for the prompt
_REVISION_SECONDS = 0.1  # a store that takes longer is shown as "?" until it answers
_FORM_SECONDS = 2.0  # a line is not kept on the disk if it is not known by then whether its namespace is encrypted
_BAR = {"bottom-toolbar": "noreverse ansibrightblack", "trouble": "bold ansired", "state": "bold", "mark": "ansiyellow"}


class Prompt:
    """An interactive shell with the global options of the command line."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.dumb = is_dumb_terminal()
        self.plain = bool(os.environ.get("NO_COLOR")) or self.dumb
        style = Style("", terminal=True, colour=not self.plain)
        asks = ask_secret, self._ask_line
        self.shell = Shell(options, self._ask, self._write, style, TerminalProgress().show, *asks)
        self.shell.target  # noqa: B018 - raises now if the store or namespace is not valid
        self.completer = ShellCompleter(self.shell)
        self.revision: int | None = None  # None: not read since the last line, or the store does not answer
        self._line = 0  # the number of lines that have ended
        self._line_lock = threading.Lock()  # of the revision and the number of the line that it follows
        self._line_ended = threading.Event()
        self._revision_read = threading.Event()  # since the last line
        self._stopped = False
        self._plain_target: object = None  # the store and namespace, if it was seen that they are not encrypted
        self.session: PromptSession[str] = PromptSession(
            message=self._message,
            history=_history(self._is_encrypted),
            auto_suggest=AutoSuggestFromHistory(),
            completer=PromptCompleter(self.completer),
            complete_while_typing=True,
            lexer=ShellLexer(self.shell),
            multiline=True,
            prompt_continuation="… ",
            key_bindings=self._bindings(),
            bottom_toolbar=self._toolbar,
            enable_open_in_editor=Condition(lambda: self._plain_target == self.shell.target),  # its file holds the line
            tempfile_suffix=".sv",
            mouse_support=False,
            style=PromptStyle.from_dict({**STYLES, **_BAR}),
            color_depth=ColorDepth.DEPTH_1_BIT if self.plain else None,
            reserve_space_for_menu=6,
            output=PlainTextOutput(sys.stdout) if self.dumb else None,  # which paints nothing
        )

    def run(self) -> int:
        """Read and run lines until Ctrl-D or `exit`; return the exit code."""
        if self.dumb:
            threading.Thread(target=self._follow, daemon=True).start()
            self._revision_read.wait(_REVISION_SECONDS)  # the prompt is printed once, and then not painted again
        else:
            self.session.app.after_render += self._begin_following
        tab = "" if self.dumb else " TAB completes,"
        print_message(f"stateview shell - 'help' lists the commands,{tab} Ctrl-D exits")
        try:
            goes_on = True
            while goes_on:
                try:
                    goes_on = self._turn()
                except KeyboardInterrupt:  # at the prompt, or just before or after a line was run
                    if self.dumb:
                        print_message("")  # ends the line
        finally:
            self._stopped = True
            self._line_ended.set()
        if self.shell.shutdown():
            print_message("the open transaction was rolled back")
        return 0

    def _turn(self) -> bool:
        """Read and run the lines of one prompt; return False after Ctrl-D or `exit`."""
        is_vi = self.shell.settings["editing"] == "vi"
        self.session.editing_mode = EditingMode.VI if is_vi else EditingMode.EMACS
        try:
            text = self._read()
        except EOFError:
            return False
        if not self._run(text):
            return False
        self._read_revision()
        return True

    def _read(self) -> str:
        if self.dumb:  # the terminal, or the editor around it, edits the line
            text = input("".join(piece[1] for piece in self._message()))
            while _is_incomplete(text):
                text += "\n" + input("… ")
            return text
        with patch_stdout(raw=True), repainted_after_stops(self.session.app):
            return self.session.prompt()

    def _run(self, text: str) -> bool:
        """Run the lines of a text; return False after `exit`."""
        try:
            for line in _lines(text):
                code, message = self.shell.run(line)
                if message:
                    print_message(message)
                if code:
                    break  # the next lines of a paste expect that this line succeeded
        except ExitShell:
            return False
        except KeyboardInterrupt:
            print_message("interrupted")
        except BrokenPipeError:
            pass  # the pager was closed before the end
        except (StateException, OSError) as error:
            print_message(str(error))
        return True

    # --- what is painted ---------------------------------------------------------------------------------------

    def _message(self) -> StyleAndTextTuples:
        """Return the prompt: store, namespace, revision, read-only, transaction. A thread reads the revision."""
        shell = self.shell
        url, namespace = shell.target
        revision = "?" if self.revision is None else str(self.revision)
        pieces: StyleAndTextTuples = [
            ("", escape_control_characters(_shortened(url)) + " "), ("class:state", namespace), ("", f"@{revision}"),
        ]  # fmt: skip
        if shell.read_only:
            pieces.append(("class:mark", " read-only"))
        if shell.transaction is not None:
            pieces.append(("class:mark", f" transaction:{shell.transaction.size}"))
        return [*pieces, ("", "> ")]

    def _toolbar(self) -> StyleAndTextTuples:
        """Return the help of the command in the line, after the error of a store that does not answer."""
        pieces: StyleAndTextTuples = []
        if self.completer.trouble:
            pieces.append(("class:trouble", f"store: {self.completer.trouble}  "))
        words = self.session.default_buffer.text.split(None, 1)
        command = BY_NAME.get(words[0]) if words else None
        if command is not None and not command.hidden:
            pieces.append(("", f"{command.usage} - {command.help}"))
        return pieces

    def _begin_following(self, _: object) -> None:
        """Start the thread after the first prompt, which must not wait for the import of a backend."""
        self.session.app.after_render -= self._begin_following
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        """Update the revision in the prompt, on a connection of its own."""
        context: QuietContext | None = None
        context_target: object = None
        while not self._stopped:
            self._line_ended.clear()
            line = self._line
            try:
                target = self.shell.target
                if target != context_target:
                    if context is not None:
                        context.close()
                    context, context_target = QuietContext(self.shell), target
                assert context is not None
                revision: int | None = context.manager.revision
                self._plain_target = None if context.manager.is_encrypted else target
                self.completer.trouble = ""
            except StateException as error:
                revision = None
                self.completer.trouble = error_class(error)
            with self._line_lock:
                if line != self._line:
                    continue  # it may be of an earlier state, or of another namespace
                changed, self.revision = revision != self.revision, revision
                self._revision_read.set()
            if changed or revision is None:
                self.session.app.invalidate()
            self._line_ended.wait(POLL_SECONDS)

    def _is_encrypted(self) -> bool:
        """Return whether the namespace is encrypted, or may be: what is not known yet is waited for, but not long."""
        if self._plain_target != self.shell.target:
            self._revision_read.wait(_FORM_SECONDS)
        return self._plain_target != self.shell.target

    def _read_revision(self) -> None:
        """Have the revision read again after a line. Wait for it, but not long: a slow store must not hold up keys."""
        with self._line_lock:
            self._revision_read.clear()
            self.revision = None
            self._line += 1
        self._line_ended.set()
        with suppress(KeyboardInterrupt):  # it came after the line: only the wait ends
            self._revision_read.wait(_REVISION_SECONDS)

    # --- keys --------------------------------------------------------------------------------------------------

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        TabCompletion(self.completer).add_to(bindings)
        chosen = has_completions & completion_is_selected & Condition(self._has_several_candidates)

        @bindings.add("enter", filter=chosen)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None

        @bindings.add("enter", filter=~chosen & Condition(lambda: not self._searching()))
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if _is_incomplete(buffer.text):
                buffer.newline()
            else:
                buffer.validate_and_handle()

        @bindings.add("c-z")
        def _(_event: KeyPressEvent) -> None:
            suspend()

        return bindings

    def _has_several_candidates(self) -> bool:
        state = self.session.default_buffer.complete_state
        return state is not None and len(state.completions) > 1

    def _searching(self) -> bool:
        return bool(self.session.app.layout.is_searching)

    def _ask(self, question: str) -> bool:
        return self._read_answer(f"{question} [y/N] ").lower() in ("y", "yes")

    def _ask_line(self, question: str) -> str:
        return self._read_answer(f"{question}: ")

    def _read_answer(self, prompt: str) -> str:
        try:
            return input(prompt).strip()
        except EOFError:
            return ""

    # --- output ------------------------------------------------------------------------------------------------

    def _write(self, pieces: Iterator[str], at_once: bool) -> None:
        """Print text, through a pager if it is longer than the screen. `at_once` prints each piece when it arrives."""
        if at_once or self.dumb or not self.shell.settings["pager"]:
            write_output(pieces, at_once=True)
            return
        height = shutil.get_terminal_size().lines - 2
        first: list[str] = []
        lines = 0
        for piece in pieces:
            first.append(piece)
            lines += piece.count("\n")
            if lines > height:
                self._page(chain(first, pieces))
                return
        write_output(first)

    def _page(self, pieces: Iterator[str]) -> None:
        pager = os.environ.get("PAGER") or ("less -FRX" if shutil.which("less") else "")
        if not pager:
            write_output(pieces, at_once=True)
            return
        child = subprocess.Popen(["/bin/sh", "-c", pager], stdin=subprocess.PIPE)
        assert child.stdin is not None
        try:
            with child.stdin as into:
                for piece in pieces:
                    into.write(piece.encode(errors="surrogatepass"))
        except BrokenPipeError:
            pass  # the pager was closed before the end
        finally:
            while child.returncode is None:
                try:
                    child.wait()
                except KeyboardInterrupt:
                    pass  # Ctrl-C is for the pager


def _history(is_encrypted: Callable[[], bool]) -> History:
    try:
        return PrivateHistory(history_path(), is_encrypted)
    except OSError as error:
        print_message(f"the history of this session is not saved: {error.strerror}")
        return InMemoryHistory()


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text; lines that continue are joined."""
    return (line for _, line in whole_lines(text.split("\n")))


def _is_incomplete(text: str) -> bool:
    """Return whether Enter begins another line instead of running the text."""
    try:
        read_line(list(_lines(text))[-1])
    except IncompleteLine:
        return True
    except UsageError:
        return False
    return False


def _shortened(url: str) -> str:
    return url if len(url) <= 40 else url[:18] + "…" + url[-20:]
