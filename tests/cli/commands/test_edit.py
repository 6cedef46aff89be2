"""`edit`: the text that a person typed is never lost, whatever keeps it from being saved."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from stateview import Conflict, ReadOnly, StateException, StateManager
from stateview.cli.commands.edit import EditorFile, edit
from stateview.cli.context import Context


@pytest.mark.parametrize(("options", "error_type"), [({"read_only": True}, ReadOnly), ({}, Conflict)])
def test_a_text_that_cannot_be_saved_is_kept_in_a_file_that_the_error_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], error_type: type[StateException]
) -> None:
    with StateManager("json", "default") as state:
        state.save("k", 1)
        editor = folder / "editor.sh"
        editor.write_text("#!/bin/sh\necho '{\"typed\": 1}' > $1\nstateview save k 2 >/dev/null 2>&1\n")
        editor.chmod(0o755)
        monkeypatch.setenv("EDITOR", str(editor))
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        context = Context(dict(options), ask=lambda _question: False)
        with pytest.raises(error_type) as raised:
            edit(context, {"key": "k"})
        context.close()
    path = re.search(r"Your text is kept in (\S+)", str(raised.value))
    assert path is not None, raised.value
    assert Path(path[1]).read_text() == '{"typed": 1}\n'


@pytest.mark.parametrize(
    ("editor", "said", "kept"),
    [
        ("false", "false ended with exit code 1; nothing was saved", False),
        ("true", "", False),
        ("no-such-editor", "no-such-editor: No such file", False),
        ("sh -c 'echo 2 >$0'", "", False),
        ("sh -c 'rm $0'", "removed its file", False),
        ("sh -c 'cp $0 $0~; touch $0.swp'", "", False),
        ("sh -c 'echo 2 >$0; exit 1'", "ended with exit code 1", True),
        ("sh -c 'echo {>$0'", "nothing was saved", True),
        ("sh -c 'unfinished", "No closing quotation", False),
    ],
)
@pytest.mark.parametrize("new", [False, True])
def test_the_editors_file_is_removed_unless_it_holds_an_edit_that_is_not_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, editor: str, said: str, kept: bool, new: bool
) -> None:
    temporary = folder / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("EDITOR", editor)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with StateManager("json", "default") as state:
        state.save("k", 1)
    context = Context({}, ask=lambda _question: False)
    try:
        text = edit(context, {"key": "new" if new else "k"}).summary
    except StateException as error:
        text = str(error)
    context.close()
    assert said in text
    assert bool(list(temporary.iterdir())) == kept == ("kept in" in text), text
    if kept:
        path = re.search(r"text is kept in (\S+)", text)
        assert path is not None and Path(path[1]).read_text().strip() in ("2", "{")
        assert Path(path[1]).stat().st_mode & 0o077 == 0


def test_ctrl_c_in_the_editor_keeps_an_edit_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for typed in (b"1\n", b"2\n"):
        with pytest.raises(KeyboardInterrupt), EditorFile(b"1\n") as file:
            Path(file.path).write_bytes(typed)
            raise KeyboardInterrupt
        assert Path(file.path).exists() == (typed == b"2\n") == (file.path in capfd.readouterr().err)
