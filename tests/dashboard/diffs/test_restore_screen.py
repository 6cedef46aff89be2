"""The restore preview, on real stores: what it says, marks and does, and what it does when others write."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import KINDS
from dashboard_host import line_with, run, screen_text, shown, state_of, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.cli.program import main
from stateview.dashboard.app import Dashboard
from stateview.dashboard.data.diff_model import NONE, PARTLY, WHOLE
from stateview.dashboard.screens.previews.base import SEEN_SECONDS
from stateview.dashboard.screens.previews.restore import RestoreScreen
from stateview.model import ABSENT

FLOWS = KINDS[:3]  # one of each
BEFORE = {"job": {"tokens": 347, "tags": ["a", "b"]}, "notes": "old", "gone": {"x": 1}, "same": 1}
AFTER = {"job": {"tokens": 512, "tags": ["a", "x", "b"]}, "notes": "new", "fresh": [1, 2], "same": 1}


def seed(url: str) -> StateManager:
    write(url, **BEFORE)
    with StateManager(url, "work") as manager:
        manager.checkpoint("before-fix")
    write(url, **AFTER, gone=ABSENT)
    return StateManager(url, "work")


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    return new_store("sqlite")


async def opened(pilot: Pilot[None], ref: str = "before-fix", keys: list[str] | None = None) -> RestoreScreen:
    screen = RestoreScreen(ref, keys)
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.run.state != "running")
    await until(pilot, lambda: not screen.view.busy)
    return screen


def marks(screen: RestoreScreen) -> dict[str, int]:
    return {key: screen.index.mark(at) for at, key in enumerate(screen.index.keys)}


def command_of(pilot: Pilot[None]) -> list[str]:
    """What stands on the line of the command, as a shell would read it."""
    return shlex.split(line_with(pilot.app, "CLI: ").partition("CLI: ")[2].strip())  # type: ignore[arg-type]


def checkpoints(url: str) -> list[str]:
    with StateManager(url, "work") as manager:
        return manager.list_checkpoints()


@pytest.mark.parametrize("flow_kind", FLOWS)
def test_a_restore_is_previewed_done_as_one_commit_and_can_be_undone(
    flow_kind: str, new_store: Callable[[str], str]
) -> None:
    url = new_store(flow_kind)
    manager = seed(url)
    revision = manager.revision

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await shown(pilot, "Restore  before-fix → live", "4 of 4 marked · 1 will be deleted", "before_restore_…")
        await shown(pilot, "[x] − fresh", "will be DELETED", "[x] + gone", "comes back", "[x] ~ job", '"new" → "old"')
        assert command_of(pilot) == ["stateview", "restore", "before-fix"]
        await pilot.press("enter")
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert manager.revision == revision  # Enter does nothing of the kind
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.screen is not screen)
        await until(pilot, lambda: "Restored 4 keys · z undoes it" in pilot.app.told())
        assert manager.revision == revision + 1
        assert any(name.startswith("before_restore_") for name in checkpoints(url))
        assert state_of(url) == BEFORE

    run(manager, flow)
    with StateManager(url, "work") as other:
        other.undo()
    assert state_of(url) == AFTER


def test_only_what_is_marked_is_restored_and_the_command_line_says_the_same(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("space")
        assert marks(screen) == {"fresh": NONE, "gone": WHOLE, "job": WHOLE, "notes": WHOLE}
        await shown(pilot, "[ ] − fresh", "3 of 4 marked · 0 will be deleted")
        assert "DELETED" not in screen_text(pilot.app)
        await pilot.press("i")
        assert marks(screen) == {"fresh": WHOLE, "gone": NONE, "job": NONE, "notes": NONE}
        await shown(pilot, "1 of 4 marked · 1 will be deleted")
        await pilot.press("n")
        await shown(pilot, "0 of 4 marked", "(no key is marked)")
        await pilot.press("y")
        assert any("no key is marked" in text for text in pilot.app.told())
        await pilot.press("a", "/", *"o", "enter", "n", "escape")  # gone, job, notes: all with an o
        assert marks(screen) == {"fresh": WHOLE, "gone": NONE, "job": NONE, "notes": NONE}
        await pilot.press("i", "G", "space")
        assert command_of(pilot) == [
            "stateview",
            "restore",
            "before-fix",
            "--keys",
            "gone",
            "--keys",
            "job",
        ]
        await pilot.press("y")
        await until(pilot, lambda: "Restored 2 keys · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == {**AFTER, "job": BEFORE["job"], "gone": BEFORE["gone"]}


def test_single_places_inside_a_value_are_restored(url: str) -> None:
    manager = seed(url)
    command: list[str] = []

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("n", "j", "j")
        await shown(pilot, "~ /tokens  512 → 347", "− /tags/1")
        await pilot.press("enter", "space")
        await shown(pilot, "[-] ~ job", "[x] ~ /tokens", "[ ] − /tags/1", "1 in part")
        assert marks(screen)["job"] == PARTLY
        await pilot.press("j", "space")
        assert marks(screen)["job"] == WHOLE
        await pilot.press("k", "space", "j", "space")
        assert marks(screen)["job"] == NONE
        await pilot.press("space")
        command.extend(command_of(pilot))
        assert command[2:] == ["before-fix", "--path", "job#/tags/1"]
        await pilot.press("y")
        await until(pilot, lambda: "Restored 1 path of 1 key · z undoes it" in pilot.app.told())

    run(manager, flow)
    restored = {**AFTER, "job": {"tokens": 512, "tags": ["a", "b"]}}
    assert state_of(url) == restored
    with StateManager(url, "work") as other:
        other.undo()
    assert main([command[1], "--store", url, "-n", "work", *command[2:]]) == 0
    assert state_of(url) == restored


def test_a_removed_and_an_added_element_of_one_pointer_are_distinct_names(url: str) -> None:
    write(url, job=[2, 3, 5, "come", 6])
    manager = StateManager(url, "work")
    manager.checkpoint("before-fix")
    manager.save("job", [1, 2, 3, "gone", 5, 6])

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        assert screen.view.names == ["/0", "-/3", "+/3"]
        await pilot.press("n", "enter", "]", "]", "space")
        await shown(pilot, "[ ] − /3", "[x] + /3")
        assert command_of(pilot)[3:] == ["--path", "job#+/3"]
        await pilot.press("y")
        await until(pilot, lambda: "Restored 1 path of 1 key · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url)["job"] == [1, 2, 3, "gone", 5, "come", 6]


def test_keys_that_look_like_globs_options_or_pointers_are_restored_alone(url: str) -> None:
    keys = ["a*", "a1", "a[1]", "-x", "k#/p", "k", "it's", "a?", "\x1b[31m"]
    manager = StateManager(url, "work")
    for key in keys:
        manager.save(key, {"p": 1, "q": 1})
    manager.save("a[[]1]", "the same")  # as a glob it matches `a[1]` alone
    manager.checkpoint("before-fix")
    for key in keys:
        manager.save(key, {"p": 2, "q": 2})

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("n")
        for key in ("a*", "a[1]", "-x", "a?", "\x1b[31m"):
            screen.index.set_mark(screen.index.find(key), WHOLE)
        screen.index.set_mark(screen.index.find("k#/p"), PARTLY, {"/q"})
        await pilot.press("y")
        await until(pilot, lambda: "Restored 5 keys and 1 path of 1 key · z undoes it" in pilot.app.told())

    run(manager, flow)
    old, new = {"p": 1, "q": 1}, {"p": 2, "q": 2}
    whole = {key: old if key in ("a*", "a[1]", "-x", "a?", "\x1b[31m") else new for key in keys}
    assert state_of(url) == {**whole, "k#/p": {"p": 2, "q": 1}, "a[[]1]": "the same"}


def test_only_the_keys_that_were_given_are_previewed(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot, keys=["job", "same", "not there"])
        await shown(pilot, "1 of 1 marked · 0 will be deleted")
        assert command_of(pilot)[2:] == ["before-fix", "--keys", "job"]
        await pilot.press("y")
        await until(pilot, lambda: "Restored 1 key · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == {**AFTER, "job": BEFORE["job"]}


def test_nothing_to_restore_is_said(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot, "live")
        await shown(pilot, "live equals live", "nothing to restore", "0 of 0 marked")
        await pilot.press("y")
        assert pilot.app.screen is screen
        await pilot.press("escape")
        assert pilot.app.screen is not screen

    run(seed(url), flow)


def test_read_only_is_to_look_at_and_y_says_why(url: str) -> None:
    seed(url).close()
    manager = StateManager(url, "work", read_only=True)

    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await shown(pilot, "read-only: no restore", "will be DELETED")
        await pilot.press("y")
        assert any("opened without write access" in text for text in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == AFTER


# --- when others write -----------------------------------------------------------------------------------------------


def test_keys_that_others_wrote_are_checked_again_and_the_marks_stay(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("space", "j", "j")  # fresh is not marked; the cursor is on job
        assert screen.keys.key == "notes"
        await pilot.press("k")
        await shown(pilot, "512 → 347")
        write(url, job={"tokens": 600, "tags": ["a", "x", "b"]}, notes="old", other=1, same=1)
        screen.namespace_changed(manager.head(), ["job"])
        await shown(pilot, "! 2 keys changed since this preview: checked again · 1 no longer differs · 1 new")
        await shown(pilot, "600 → 347")
        assert marks(screen) == {"fresh": NONE, "gone": WHOLE, "job": WHOLE, "other": NONE}
        assert screen.keys.key == "job"
        assert "! ~ job" in line_with(pilot.app, "~ job")
        assert "! " not in line_with(pilot.app, "+ gone").replace("│", "")[:12]
        await pilot.pause(SEEN_SECONDS)  # a change must have stood on the screen before y can mean it
        await pilot.press("y")
        await until(pilot, lambda: "Restored 2 keys · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == {**BEFORE, "fresh": AFTER["fresh"], "other": 1}


def test_what_was_chosen_inside_a_value_stays_chosen_as_far_as_it_is_there(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("n", "j", "j")
        await shown(pilot, "512 → 347")
        await pilot.press("enter", "space")
        assert screen.index.partly == {"job": {"/tokens"}}
        write(url, job={"tokens": 600, "tags": ["a", "x", "b"]})
        screen.namespace_changed(manager.head(), None)
        await shown(pilot, "600 → 347")
        assert screen.index.partly == {"job": {"/tokens"}}
        write(url, job={"tokens": 347, "tags": ["a", "x", "b"]})
        screen.namespace_changed(manager.head(), None)
        await until(pilot, lambda: not screen.index.partly)
        assert marks(screen)["job"] == NONE

    run(manager, flow)


def test_y_restores_nothing_that_changed_after_it_was_seen(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        write(url, notes="newer")  # and nobody tells the screen
        await pilot.press("y")
        await until(pilot, lambda: any("not restored" in text for text in pilot.app.told()))
        await shown(pilot, "! 1 key changed since this preview: checked again", '"newer" → ')
        assert state_of(url) == {**AFTER, "notes": "newer"} and pilot.app.screen is screen
        write(url, unrelated=1)
        await pilot.pause(SEEN_SECONDS)
        await pilot.press("y")
        await until(pilot, lambda: "Restored 4 keys · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == {**BEFORE, "unrelated": 1}  # it was not listed when it was previewed


def test_an_answer_on_its_way_is_dropped_when_the_question_is_asked_anew(url: str) -> None:
    got: list[int] = []

    async def flow(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, Dashboard)
        for number in range(3):
            app.reader.submit(app, "number", lambda _, number=number: number, got.append, app.show_error)  # type: ignore[misc]
            time.sleep(0.1)  # it has been answered, and the app has not heard of it
        await until(pilot, lambda: got)
        await pilot.pause(0.1)
        app.reader.submit(app, "number", lambda _: 3, got.append, app.show_error)
        time.sleep(0.1)
        app.reader.cancel(app, "number")
        await pilot.pause(0.1)

    run(seed(url), flow)
    assert got == [2]


def test_a_change_that_nobody_can_have_seen_yet_is_not_confirmed(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        write(url, notes="newer")
        screen.namespace_changed(manager.head())
        await shown(pilot, "! 1 key changed since this preview: checked again")
        screen._changed = time.monotonic()  # just now, however slow this machine is
        await pilot.press("y")
        await until(pilot, lambda: any("not restored" in text for text in pilot.app.told()))
        assert state_of(url) == {**AFTER, "notes": "newer"} and pilot.app.screen is screen

    run(manager, flow)


def test_beside_a_writer_without_end_it_is_restored_when_asked_for_twice(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        write(url, notes="newer")
        screen._changed = time.monotonic() + 60  # it has just changed, and will have again
        await pilot.press("y")
        await until(pilot, lambda: any("press Y to restore in any case" in text for text in pilot.app.told()))
        await pilot.press("Y")
        await shown(pilot, "even if others have changed them since the preview?")
        await pilot.press("y")
        await until(pilot, lambda: any("z undoes it" in text for text in pilot.app.told()))

    run(manager, flow)
    assert state_of(url) == BEFORE


def test_a_write_between_the_last_look_and_the_commit_is_a_conflict_that_brings_the_preview_up_to_date(
    url: str,
) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        write(url, brand_new=1)
        screen._write()  # as if the look had just been
        await until(
            pilot, lambda: any(text.startswith("not restored: 1 key to restore changed") for text in pilot.app.told())
        )
        await shown(pilot, "! 1 new since this preview, not marked", "[ ] ! − brand_new")
        assert state_of(url) == {**AFTER, "brand_new": 1}
        await pilot.press("y")
        await until(pilot, lambda: "Restored 4 keys · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == {**BEFORE, "brand_new": 1}


def test_what_was_previewed_is_restored_even_if_its_name_has_moved(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        with StateManager(url, "work") as other:
            other.checkpoint("before-fix")  # a script that runs again
        await pilot.press("y")
        await until(pilot, lambda: "Restored 4 keys · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == BEFORE


def test_so_many_steps_back_from_live_is_the_state_that_was_previewed(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot, "live~1")
        await shown(pilot, "+ gone")
        assert screen.index.keys == ["gone"]
        write(url, unrelated=1)
        await pilot.press("y")
        await until(pilot, lambda: "Restored 1 key · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(url) == {**AFTER, "gone": BEFORE["gone"], "unrelated": 1}


def test_a_namespace_that_was_dropped_and_made_anew_is_looked_at_from_the_beginning(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        with StateManager(url, "work") as other:
            other.backend.drop()
        write(url, only=1)
        with StateManager(url, "work") as other:
            other.checkpoint("before-fix")
        write(url, only=2)
        screen.reload()
        await until(pilot, lambda: screen.index.keys == ["only"])

    run(manager, flow)


def test_an_error_while_looking_again_is_said_and_the_marks_stay(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("space")
        for number in range(3):
            write(url, other=number)
        with StateManager(url, "work") as other:
            other.compact(other.revision)
        await pilot.press("y")
        await until(pilot, lambda: len(pilot.app.told()) or "R reloads" in screen_text(pilot.app))
        screen.reload()
        await pilot.pause(0.3)
        assert marks(screen)["fresh"] == NONE and marks(screen)["gone"] == WHOLE

    run(manager, flow)


# --- many ------------------------------------------------------------------------------------------------------------


def test_thousands_of_marked_keys_are_restored_and_the_command_line_is_shown_short(url: str) -> None:
    manager = StateManager(url, "work")
    with manager.transaction() as transaction:
        for number in range(20_000):
            transaction.save(f"k{number:05}", number)
    manager.checkpoint("before-fix")
    with manager.transaction() as transaction:
        for number in range(20_000):
            transaction.save(f"k{number:05}", -number)

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("/", *"k0", "enter", "n", "escape")
        await until(pilot, lambda: screen.keys.filter.done)
        text = screen.command()
        assert text.endswith("… and 9,970 more") and len(text) < 2_000
        await pilot.press("y")
        await until(pilot, lambda: "Restored 10,000 keys · z undoes it" in pilot.app.told(), 50)
        assert all(len(done.line) < 5_000 for done in pilot.app.acts.done)

    run(manager, flow)
    state = state_of(url)
    assert all(state[f"k{number:05}"] == (number if number >= 10_000 else -number) for number in range(20_000))


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (240, 70)])
def test_counts_and_what_is_deleted_stand_in_words_at_every_size(url: str, size: tuple[int, int]) -> None:
    manager = seed(url)
    manager.save("w" * 1024, "\x1b[31m[/]")
    manager.save("漢字" * 100, {"\u202e": "[/bold]"})

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await shown(pilot, "6 of 6 marked · 3 will be deleted", "DELETED", "y restores", "CLI: ")
        for _ in range(8):
            await pilot.press("]")
            for segment in (one for strip in screen._compositor.render_strips() for one in strip):
                assert segment.control or segment.text.isprintable(), repr(segment.text)
        assert not re.search("\x1b", screen_text(pilot.app))

    run(manager, flow, size)


def test_redacted_values_are_masked_while_they_are_restored(url: str) -> None:
    write(url, token="s3cret-1")
    manager = StateManager(url, "work")
    manager.checkpoint("before-fix")
    manager.save("token", "s3cret-2")

    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await shown(pilot, "••••••")
        await pilot.pause(0.2)
        assert "s3cret" not in screen_text(pilot.app)
        await pilot.press("y")
        await until(pilot, lambda: "Restored 1 key · z undoes it" in pilot.app.told())

    options: dict[str, Any] = {"redact": ("token",)}
    run(manager, flow, **options)
    assert state_of(url) == {"token": "s3cret-1"}
