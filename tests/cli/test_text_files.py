"""Text of a person that is not plain UTF-8, and a closed standard input: refused and named wherever text is read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stateview import Damaged, InvalidArgument, InvalidName, StateException, StateManager, codec, settings
from stateview.backends.legacy.json_files import read_key_files
from stateview.cli.exit_codes import UsageError
from stateview.cli.values import read_value
from stateview.shell.script import run_file
from stateview.shell.session import Shell
from stateview.states.values.value_text import parse_value

pytestmark = pytest.mark.usefixtures("folder")
ENCODINGS = {
    "utf-8-sig": "a byte order mark (UTF-8)",
    "utf-16": "a byte order mark (UTF-16)",
    "utf-32": "a byte order mark (UTF-32)",
    "utf-16-le": "text in UTF-16",
    "utf-16-be": "text in UTF-16",
}


def in_process(*words: str, stdin: str = "") -> tuple[int, str]:
    """Run the command line; `stdin` is a redirection of the shell."""
    line = f'exec "$0" -m stateview "$@" {stdin}'
    done = subprocess.run(["/bin/sh", "-c", line, sys.executable, *words], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_of_another_encoding_is_refused_and_named_everywhere(folder: Path, encoding: str) -> None:
    fault = ENCODINGS[encoding]

    def write(name: str, text: str) -> str:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode(encoding))
        return name

    def refused(name: str, kind: type[StateException], act: Callable[..., Any], *args: Any, **more: Any) -> None:
        with pytest.raises(kind) as caught:
            act(*args, **more)
        assert fault in caught.value.message and name in caught.value.message, caught.value

    value = write("value.json", '{"a": 1}')
    for options in ({}, {"json": True}):
        refused(value, UsageError, read_value, f"@{value}", **options)
    refused("script.sv", StateException, run_file, Shell({}), write("script.sv", "save a 1\n"))
    with StateManager("json:store", "n") as state:
        state.save("a", 1)
        for name, text in (("plain.json", '{"a": 1}'), ("export.jsonl", '{"format":"stateview"}\n')):
            for layout in (None, "json", "jsonl"):
                refused(name, Damaged, state.import_from, write(name, text), layout=layout)
        assert state.revision == 1
    edited = folder / "store/n/state.json"
    edited.write_bytes(edited.read_text().replace("1", "2").encode(encoding))
    refused("state.json", Damaged, StateManager("json:store", "n").load, "a")
    write("keys/a.json", '{"value": 1}')
    (folder / "keys/b.json").write_text('{"value": 2}')
    refused("a.json", Damaged, read_key_files, "keys")
    write("stateview.toml", 'store = "json:other"\n')
    refused("stateview.toml", InvalidName, settings.find)
    refused("stateview.toml", InvalidName, settings.save_target, "sqlite", "n")
    assert not (folder / "other").exists()


def test_plain_text_is_taken_as_it_is() -> None:
    for text in ("", "a", "\0", "\0\0\0\0", "ab\0c", "é", "\ufffe", "a\ufeff", "𝄞"):
        assert codec.decode_text(text.encode()) == text
    for data in (b"\xff", b"caf\xe9", b"\xed\xa0\x80"):
        with pytest.raises(UnicodeDecodeError):
            codec.decode_text(data)


def test_a_typed_mark_is_refused_unless_it_is_asked_for_as_text() -> None:
    for options in ({}, {"must": True}):
        with pytest.raises(InvalidArgument, match="byte order mark"):
            parse_value('\ufeff{"a": 1}', **options)
    assert read_value("\ufeffa", string=True) == "\ufeffa"


def test_standard_input_that_is_closed_or_has_a_mark_is_refused(folder: Path) -> None:
    (folder / "mark").write_bytes("save a 1\n".encode("utf-8-sig"))
    for words in (["save", "k", "-"], ["shell"]):
        code, said = in_process(*words, stdin="<&-")
        assert (code, "standard input is closed" in said) == (2, True), (words, said)
        code, said = in_process(*words, stdin="< mark")
        assert code in (2, 3) and "standard input is not plain UTF-8 text: a byte order mark" in said, (words, said)
    assert not (folder / ".claude").exists()


def test_an_editor_that_writes_a_mark_loses_no_text(folder: Path) -> None:
    editor = folder / "editor"
    editor.write_text("#!/bin/sh\nprintf '\\357\\273\\277[7]' > \"$1\"\n")
    editor.chmod(0o700)
    line = f"{sys.executable} -m stateview edit k"
    environment = {**os.environ, "EDITOR": str(editor), "VISUAL": "", "TMPDIR": str(folder)}
    done = subprocess.run(
        ["script", "-qec", line, "/dev/null"], input="n\n", capture_output=True, text=True, env=environment, check=False
    )
    assert "a byte order mark (UTF-8)" in done.stdout
    assert [file.read_bytes() for file in folder.glob("stateview-*/value.json")] == [b"\xef\xbb\xbf[7]"]
