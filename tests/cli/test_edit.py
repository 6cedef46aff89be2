"""`edit`: the text that a person typed is never lost, whatever keeps it from being saved."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from stateview import Conflict, ReadOnly, StateException, StateManager
from stateview.cli.commands.edit import edit
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
