"""Who may not write to a store reads it all the same, and is told of a write what it needs."""

import os
import threading
import time
from pathlib import Path

import pytest
import stress
from other_user import as_another_user, told

from stateview import StateManager

FILES = ("json", "sqlite")


def by_another(url: str, folder: Path, *words: str) -> tuple[str, str]:
    """The exit code of a command line of another user, and what it says."""
    line = [*words, "-s", url, "-n", "n"]
    told([*line, "--read-only"])  # imports what it takes
    code, _, text = as_another_user(folder, lambda: told(line)).partition("\n")
    return code, text.strip()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "is_killed", stress.first([False, True])
)  # a process that is killed leaves SQLite's -wal and -shm files
def test_another_user_reads_what_a_write_is_refused(kind: str, is_killed: bool, tmp_path: Path) -> None:
    url = f"{kind}:{tmp_path}/s"
    with StateManager(url, "n") as state:
        state.save("k", 1)
        state.checkpoint("c")
    if (child := os.fork()) == 0:
        state = StateManager(url, "n")
        state.save("k", 2)
        if not is_killed:
            state.close()
        os._exit(0)
    os.waitpid(child, 0)
    files = sorted((tmp_path / "s").rglob("*"))
    assert by_another(url, tmp_path, "load", "k") == ("0", "2")
    assert by_another(url, tmp_path, "load", "k", "--at", "c") == ("0", "1")
    assert by_another(url, tmp_path, "keys") == ("0", "k")
    for words in (["save", "k", "3"], ["checkpoint", "d"], ["delete", "k"]):
        code, text = by_another(url, tmp_path, *words)
        assert (code, "right to write to the folder" in text, text.count("\n")) == ("3", True, 0), text
    assert sorted((tmp_path / "s").rglob("*")) == files


def test_sqlite_who_only_reads_sees_each_commit_of_others(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/s"
    with StateManager(url, "n") as state:
        state.save("k", 0)

    def read() -> str:
        reader, seen = StateManager(url, "n"), []
        for number in range(1, 4):
            seen += [reader.load("k"), reader.load("k"), reader.list_keys()]
            told_to.write_text(str(number))  # another process commits, and closes the database
            deadline = time.monotonic() + 10
            while done.read_text() != str(number) and time.monotonic() < deadline:
                time.sleep(0.001)
        return str([*seen, reader.load("k")])

    told_to, done = tmp_path / "told", tmp_path / "done"
    for path in (told_to, done):
        path.write_text("")
        path.chmod(0o666)

    def commit() -> None:
        for number in range(1, 4):
            deadline = time.monotonic() + 10
            while told_to.read_text() != str(number) and time.monotonic() < deadline:
                time.sleep(0.001)
            with StateManager(url, "n") as writer:
                writer.save("k", number)
            done.write_text(str(number))

    thread = threading.Thread(target=commit, daemon=True)
    thread.start()
    seen = as_another_user(tmp_path, read)
    thread.join(10)
    assert seen == "[0, 0, ['k'], 1, 1, ['k'], 2, 2, ['k'], 3]"


def test_json_an_edit_by_hand_is_shown_to_who_may_not_commit_it(tmp_path: Path) -> None:
    url = f"json:{tmp_path}/s"
    with StateManager(url, "n") as state:
        state.save("k", "written")
    path = tmp_path / "s/n/state.json"
    path.write_text(path.read_text().replace("written", "edited"))
    assert by_another(url, tmp_path, "load", "k") == ("0", '"edited"')
    assert [commit.reason for commit in StateManager(url, "n", read_only=True).log()] == ["edited outside", "save k"]
    assert '"rev":2' not in (path.parent / "history.jsonl").read_text(), "nobody has committed it"


def test_a_commit_stands_whose_trim_is_not_permitted(tmp_path: Path) -> None:
    url, folder, elsewhere = f"json:{tmp_path}/s", tmp_path / "s" / "n", tmp_path / "elsewhere"

    def save() -> str:
        with StateManager(url, "n", history=1) as state:
            return str(max(state.save("k", number) for number in range(25)))

    assert save() == "25"
    elsewhere.mkdir()
    (folder / "history.jsonl").rename(elsewhere / "history.jsonl")
    (folder / "history.jsonl").symlink_to(elsewhere / "history.jsonl")  # its folder is not the other user's
    for path in (folder, *folder.iterdir()):
        path.chmod(0o777)
    assert as_another_user(tmp_path, save) == "50"
